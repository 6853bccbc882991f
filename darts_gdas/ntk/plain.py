"""Functions by their definitions, where PyTorch's own have no derivatives or wrong ones."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
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


@contextlib.contextmanager
def plain_functions() -> Iterator[None]:
    """Functions run by their definitions where fused ones lack derivatives, or have wrong ones."""
    with _plain_attention(), uncached(), _Plain():
        yield


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Parametrised weights are made anew in every call, within `parametrize.cached()` too.

    A weight that was made before is no function of other parameters, and has no gradient if it was
    made without.
    """
    enabled = parametrize._cache_enabled
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        parametrize._cache_enabled = enabled


class _Plain(TorchFunctionMode):
    """Functions by their definitions whose own derivatives are missing or wrong."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (F.prelu, torch.prelu, Tensor.prelu):
            func = _prelu
        elif func is torch._weight_norm:  # type: ignore[attr-defined]
            func = _weight_norm
        elif func is torch.lstm:
            func = _lstm
        return func(*args, **(kwargs or {}))


class Nested(TorchFunctionMode):
    """Norms by their definitions; what else is wrong in forward mode twice is refused by name."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_").removeprefix("linalg_")
        if name == "scatter_reduce":
            name += f" {given.get('reduce', args[-1])}"
        if func in _NORMS:
            func = _NORMS[func]
        elif name in _WRONG:
            name = args[0].__name__ if name == "custom_function_call" else name
            raise Unsupported(
                f"PyTorch differentiates {name!r} wrongly in forward mode more than once; take "
                "order 1, or a network that computes it by other functions"
            )
        return func(*args, **given)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    was_fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fast)


def _prelu(input: Tensor, weight: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (input.ndim - 2) if weight.numel() > 1 and input.ndim > 1 else (-1,)
    return torch.where(input > 0, input, input * weight.reshape(shape))


def _lstm(*args: Any, **kwargs: Any) -> Any:
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # `mkldnn.flags` sets others too, and warns of them
    try:
        return torch.lstm(*args, **kwargs)
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))


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


_NORMS: dict[Any, Any] = {
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
