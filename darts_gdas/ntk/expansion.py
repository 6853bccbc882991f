"""Taylor expansions of a network in its parameters: the functions that tangent kernels describe."""

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import jvp
from torch.overrides import TorchFunctionMode

from darts_gdas.ntk.calls import LAYERS, Unsupported, base_of, is_known_layer
from darts_gdas.ntk.checks import check_count, check_module
from darts_gdas.ntk.normalization import call_with
from darts_gdas.ntk.snapshot import copied

Expansion = Callable[[Mapping[str, Tensor], Tensor], Tensor]

_WRONG = {
    *("det", "slogdet", "logdet", "solve", "solve_ex", "tensorsolve", "householder_product"),
    *("eig", "eigvals", "cholesky_inverse", "scatter_reduce prod", "batch_norm", "layer_norm"),
    *("instance_norm", "native_batch_norm", "native_layer_norm", "custom_function_call"),
}
"""What PyTorch 2.13 and 2.14 differentiate wrongly in forward mode within forward mode.

`findings/forward_mode_within_forward_mode_is_wrong.sh`; all functions with derivatives were tried
against polynomials. The last is every `torch.autograd.Function`, whose second derivative is zero.
"""


def linearize(model: nn.Module) -> Expansion:
    """The model's first-order Taylor expansion around its present parameters.

    What the kernel describes: gradient descent on the expansion is what `predict_mse` predicts.

    Args:
        model: Copied, so that training it later does not move the expansion. It stays in its mode;
            with batch norms in training mode the outputs of a sample depend on its batch, of which
            running statistics take no note.

    Returns:
        A function of (parameters by name as in `model.named_parameters()`, inputs), equal to
        f(theta_0, x) + J(x) (parameters - theta_0), and differentiable in the parameters.

        Its calls raise a `ValueError` if names of parameters are missing or unknown.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        >>> parameters, x = dict(model.named_parameters()), torch.randn(5, 3)
        >>> linear = linearize(model)
        >>> torch.allclose(linear(parameters, x), model(x))
        True
    """
    return taylor_expand(model, 1)


def taylor_expand(model: nn.Module, order: int) -> Expansion:
    """The model's Taylor expansion around its present parameters, to any order.

    The sum over k = 0..order of d^k/dt^k f(theta_0 + t (parameters - theta_0), x) / k! at t = 0:
    forward-mode derivatives of forward-mode derivatives, exact, without matrices of second
    derivatives. Each order about doubles the time of a call, so use it up to four or five. Norms
    are written out above order 1, since PyTorch's own rules do not survive it there.

    Args:
        model: As in `linearize`. Where an activation has no further derivatives (ReLU), all higher
            terms between its kinks are those of the products of weights of different layers.
        order: The highest power of the change of parameters, at least 1.

    Returns:
        A function as that of `linearize`, differentiable in the parameters.

        Its calls raise a `ValueError` that names a function which PyTorch cannot differentiate so
        often in forward mode: determinants, solutions of equations and every function with a
        backward pass of its own above order 1.

    Raises:
        ValueError: For an order below 1.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).double()  # of degree 2
        >>> moved = {name: p + 0.5 for name, p in model.named_parameters()}
        >>> x = torch.ones(3, 2, dtype=torch.float64)
        >>> exact = torch.func.functional_call(model, moved, (x,))
        >>> torch.allclose(taylor_expand(model, 2)(moved, x), exact)
        True
    """
    order = check_count("order", order)
    check_module(model)
    frozen = copied(model).requires_grad_(False)
    origin = {name: parameter.detach() for name, parameter in frozen.named_parameters()}
    for module in frozen.modules() if order > 1 else ():
        if isinstance(module, LAYERS) and is_known_layer(module):
            module.__class__ = base_of(type(module))  # type: ignore[assignment]

    def function(values: dict[str, Tensor], x: Tensor) -> Tensor:
        with _Nested() if order > 1 else contextlib.nullcontext():
            return call_with(frozen, values, x)

    def expansion(parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        differing = sorted(parameters.keys() ^ origin.keys())
        if differing:
            raise ValueError(
                f"parameters must have the names of the model's; missing or unknown: {differing}; "
                "pass dict(model.named_parameters()) or values by the same names"
            )
        moved = {name: parameters[name] - value for name, value in origin.items()}
        with warnings.catch_warnings():  # torch's first jvp warns of torch's own use of TorchScript
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
            terms = _terms(function, origin, moved, order, x)
        weights = [1 / math.factorial(k) for k in range(order + 1)]
        return sum((w * term for w, term in zip(weights[1:], terms[1:], strict=True)), terms[0])

    return expansion


def _terms(
    function: Callable[[dict[str, Tensor], Tensor], Tensor],
    origin: dict[str, Tensor],
    direction: dict[str, Tensor],
    order: int,
    x: Tensor,
) -> tuple[Tensor, ...]:
    """As `_derivatives`; a `ValueError` names what has none."""
    try:
        return _derivatives(lambda values: function(values, x), origin, direction, order)
    except NotImplementedError as error:
        reason = str(error).partition("\n")[0]
        raise Unsupported(
            f"the network has no Taylor expansion of order {order}: {reason}"
        ) from error


class _Nested(TorchFunctionMode):
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


def _derivatives(
    function: Callable[[dict[str, Tensor]], Tensor],
    origin: dict[str, Tensor],
    direction: dict[str, Tensor],
    order: int,
) -> tuple[Tensor, ...]:
    """The value and the first derivatives along a direction, by order."""
    if order == 0:
        return (function(origin),)

    def lower(values: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return _derivatives(function, values, direction, order - 1)

    values, changes = jvp(lower, (origin,), (direction,))[:2]
    return (*values, changes[-1])
