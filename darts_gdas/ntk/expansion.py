"""Taylor expansions of a network in its parameters: the functions that tangent kernels describe."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import jvp

from darts_gdas.ntk.agreement import probe
from darts_gdas.ntk.calls import LAYERS, Unsupported, base_of, is_known_layer
from darts_gdas.ntk.checks import check_count, check_module, check_tensor
from darts_gdas.ntk.directions import (
    Parameters,
    Push,
    by_forward_mode,
    by_two_passes,
    push_of,
    quiet,
)
from darts_gdas.ntk.normalization import call_with, preserved
from darts_gdas.ntk.plain import Nested
from darts_gdas.ntk.snapshot import Copied
from darts_gdas.ntk.trials import told_of
from darts_gdas.reasons import reason

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

        Its first call compares the derivatives with autograd at a few samples. Where forward mode
        is wrong or missing (`torch.no_grad` in forward, weights that a list holds, functions with
        a backward pass of their own, checkpoints, padding tokens) they are those of two backward
        passes. It must run outside of `torch.func` transforms, and two backward passes always.

        Calls raise a `ValueError` if names or shapes of parameters are not the model's, if the
        model fails for the samples, if neither way is right, or if the copy is not by itself: hooks
        and functions that close over layers still use those of the model.

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
        backward pass of its own above order 1. There is no other way for what the first call finds
        to be wrong above order 1.

    Raises:
        ValueError: For an order below 1, or a model that cannot be copied.

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
    with torch.inference_mode(False):
        copy = Copied(model)
    frozen = copy.model
    for parameter in frozen.parameters():
        parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
    origin = {name: parameter.detach() for name, parameter in frozen.named_parameters()}
    for module in frozen.modules() if order > 1 else ():
        if isinstance(module, LAYERS) and is_known_layer(module):
            module.__class__ = base_of(type(module))  # type: ignore[assignment]
    chosen: list[Push] = []

    def function(values: dict[str, Tensor], x: Tensor) -> Tensor:
        with Nested() if order > 1 else contextlib.nullcontext():
            return call_with(frozen, values, x)

    def expansion(parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        _check_parameters(parameters, origin)
        _check_samples(x)
        _check_transforms(chosen)
        if not chosen:
            chosen.append(_push_of(copy, order, x))
        with _outside_inference():
            moved = {name: parameters[name] - value for name, value in origin.items()}
        if chosen[0] is by_two_passes:
            with preserved(frozen), told_of(x):
                value = frozen(x) if x.requires_grad else frozen(x).detach()
                named = dict(frozen.named_parameters())
                return value + by_two_passes(frozen, named, x, [*moved.values()])
        with _outside_inference(), quiet(), told_of(x):
            terms = _terms(function, origin, moved, order, x)
        weights = [1 / math.factorial(k) for k in range(order + 1)]
        return sum((w * term for w, term in zip(weights[1:], terms[1:], strict=True)), terms[0])

    return expansion


@contextlib.contextmanager
def _outside_inference() -> Iterator[None]:
    """Under `torch.inference_mode()`, no gradients instead: PyTorch 2.11 has no tangents there."""
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        yield


def _check_transforms(chosen: Sequence[Push]) -> None:
    """Raise a `ValueError` inside of `torch.func` transforms that would be silently wrong."""
    if torch._C._functorch.peek_interpreter_stack() is None:  # type: ignore[attr-defined]
        return
    if not chosen:
        raise ValueError(
            "the first call of an expansion compares derivatives with autograd, which torch.func "
            "transforms do not allow; call it once outside of them, with samples like these"
        )
    if chosen[0] is by_two_passes:
        raise ValueError(
            "forward mode is wrong for this network or missing, so its expansion takes two "
            "backward passes, which torch.func transforms cannot run; call it outside of them "
            "(torch.autograd.grad differentiates it in the parameters)"
        )


def _check_samples(x: Tensor) -> None:
    check_tensor("x", x)
    if x.dim() == 0 or len(x) == 0:
        raise ValueError(
            f"x must hold samples [samples, ...], at least one, got shape {tuple(x.shape)}"
        )


def _check_parameters(parameters: Mapping[str, Tensor], origin: Mapping[str, Tensor]) -> None:
    if not isinstance(parameters, Mapping):
        raise ValueError(
            f"parameters must be tensors by name, got {type(parameters).__name__}; pass "
            "dict(model.named_parameters()) or values by the same names"
        )
    differing = sorted(map(str, parameters.keys() ^ origin.keys()))
    if differing:
        raise ValueError(
            f"parameters must have the names of the model's; missing or unknown: {differing}; "
            "pass dict(model.named_parameters()) or values by the same names"
        )
    for name, value in origin.items():
        check_tensor(f"parameter {name!r}", given := parameters[name])
        if given.shape != value.shape or given.dtype != value.dtype:
            raise ValueError(
                f"parameter {name!r} must be {tuple(value.shape)} in {value.dtype} as the model's, "
                f"got {tuple(given.shape)} in {given.dtype}"
            )


def _push_of(copy: Copied, order: int, x: Tensor) -> Push:
    """The way to first derivatives that is right for samples like these.

    A few are tried; all where the network fails for those, as some do for another number of them.
    """
    frozen, refusal = copy.model, f"the network has no Taylor expansion of order {order}"
    with torch.inference_mode(False), torch.enable_grad(), preserved(frozen), told_of(x):
        some = probe([x.detach().clone()])
        try:
            output = copy.output(some)
        except (RuntimeError, IndexError, ValueError):
            output = copy.output(some := x.detach().clone())
        if not (isinstance(output, Tensor) and output.requires_grad):
            raise ValueError(
                "the model must return a tensor that depends on its parameters; forward must not "
                "run under torch.no_grad, nor detach what it returns"
            )
        ways = (_by_kept_graph, by_two_passes) if order == 1 else (_by_kept_graph,)
        named = dict(frozen.named_parameters())
        return push_of(frozen, named, some, ways=ways, refusal=refusal)


def _by_kept_graph(
    model: nn.Module, parameters: Parameters, images: Tensor, direction: Sequence[Tensor]
) -> Tensor:
    """Forward mode, if a gradient of it finds what it needs.

    What is recomputed in a backward pass would meet the network's own weights there, of which those
    that forward mode puts in their place are gone.
    """
    with torch.autograd.graph.disable_saved_tensors_hooks(
        "forward mode has no gradient of what backward passes recompute; switch checkpoints off"
    ):
        return by_forward_mode(model, parameters, images, direction)


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
        raise Unsupported(
            f"the network has no Taylor expansion of order {order}: {reason(error)}"
        ) from error


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
