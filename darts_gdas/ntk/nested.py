"""Functions in nested forward mode: norms by their definitions, what is wrong there by name."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from darts_gdas.ntk.calls import Unsupported

_WRONG = {
    *("det", "slogdet", "logdet", "solve", "solve_ex", "tensorsolve", "householder_product"),
    *("eig", "eigvals", "cholesky_inverse", "scatter_reduce prod", "batch_norm", "layer_norm"),
    *("instance_norm", "native_batch_norm", "native_layer_norm", "custom_function_call"),
}
"""What PyTorch 2.13 and 2.14 differentiate wrongly in forward mode within forward mode.

`findings/forward_mode_within_forward_mode_is_wrong.sh`; all functions with derivatives were tried
against polynomials. The last is every `torch.autograd.Function`, whose second derivative is zero.
"""


class Nested(TorchFunctionMode):
    """Norms by their definitions; what else is wrong in forward mode twice is refused by name."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_").removeprefix("linalg_")
        if name == "scatter_reduce":
            name += f" {given.get('reduce', args[-1])}"
        if func in _WRITTEN_OUT:
            func = _WRITTEN_OUT[func]
        elif name in _WRONG:
            name = args[0].__name__ if name == "custom_function_call" else name
            raise Unsupported(
                f"PyTorch differentiates {name!r} wrongly in forward mode more than once; take "
                "order 1, or a network that computes it by other functions"
            )
        return func(*args, **given)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    return _affine(_standardised(input, axes, eps), weight, bias)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    shape = (-1,) + (1,) * (input.dim() - 2)
    if training:
        plain = _standardised(input, (0, *range(2, input.dim())), eps)
    else:
        assert running_mean is not None and running_var is not None
        plain = (input - running_mean.view(shape)) * (running_var + eps).rsqrt().view(shape)
    return _by_channel(plain, weight, bias)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    return _by_channel(_standardised(input, tuple(range(2, input.dim())), eps), weight, bias)


_WRITTEN_OUT: dict[Any, Any] = {
    F.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
}


def _standardised(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()


def _by_channel(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    shape = (-1,) + (1,) * (x.dim() - 2)
    return _affine(x, *(None if p is None else p.view(shape) for p in (weight, bias)))


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias
