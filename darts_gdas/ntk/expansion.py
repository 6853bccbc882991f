"""Taylor expansions of a network in its parameters: the functions that tangent kernels describe."""

import math
import warnings
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.func import jvp

from darts_gdas.ntk.checks import check_count, check_module
from darts_gdas.ntk.normalization import call_with
from darts_gdas.ntk.snapshot import copied

Expansion = Callable[[Mapping[str, Tensor], Tensor], Tensor]


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
    derivatives. Each order about doubles the time of a call, so use it up to four or five.

    Args:
        model: As in `linearize`. Where an activation has no further derivatives (ReLU), all higher
            terms between its kinks are those of the products of weights of different layers.
        order: The highest power of the change of parameters, at least 1.

    Returns:
        A function as that of `linearize`, differentiable in the parameters.

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
            terms = _derivatives(lambda values: call_with(frozen, values, x), origin, moved, order)
        weights = [1 / math.factorial(k) for k in range(order + 1)]
        return sum((w * term for w, term in zip(weights[1:], terms[1:], strict=True)), terms[0])

    return expansion


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
