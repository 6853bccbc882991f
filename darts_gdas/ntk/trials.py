"""What a network does with samples, found by running it on a few before any work.

Whether its output is a function of weights and one sample is not read off its layers: dropout, a
state or a look at the whole batch can hide in any of them. Everything here is within
`preserved(model)` and `flat_outputs(model)`.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from darts_gdas.ntk.agreement import is_close
from darts_gdas.ntk.checks import check_output, is_full, unequal
from darts_gdas.ntk.generators import Generators
from darts_gdas.ntk.normalization import preserved
from darts_gdas.reasons import reason

_COUPLED = (
    "the output of a sample depends on other samples of the batch, so there is no kernel of two "
    'samples; for batch norms pass batch_norm="frozen", for sequences see that samples are the '
    "first dimension (batch_first=True)"
)

_FIRST_CALL = (
    "the model sets something up at its first call (a weight or a buffer by the samples that it "
    "sees), so its outputs depend on which samples come first; call the model once on your data"
)


def check_fits(model: nn.Module, x: Tensor) -> None:
    """Raise a `ValueError` if the model cannot take samples of another type or place than its own.

    It is tried, for a model may convert its samples.
    """
    for name, parameter in model.named_parameters():
        same_type = not x.is_floating_point() or x.dtype == parameter.dtype
        if same_type and x.device == parameter.device:
            continue
        try:
            devices = [x.device] if x.is_cuda else []
            with torch.no_grad(), preserved(model), torch.random.fork_rng(devices):
                model(x[[0, -1]])
        except RuntimeError as error:
            raise ValueError(
                f"the model cannot take samples in {x.dtype} on {x.device}: its parameter "
                f"{name!r} is in {parameter.dtype} on {parameter.device}; convert one of them by "
                f".to(...)"
            ) from error
        return


def check_uncoupled(model: nn.Module, x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """The outputs for two samples, if calls repeat and samples do not influence each other.

    Neither may have a gradient in the other, and neither's output may change when the other one is
    replaced by a copy of the first: batches of one shape are computed alike, so what differs then
    by more than rounding is the other's influence, also one that no gradient shows (a scale by the
    batch's largest number, detached). Alone, in a batch of another size and at another place, the
    second may differ by what other kernels of the library make of it. Nor may it matter which
    samples a first call saw: a network that sets itself up there repeats all later calls. Tokens
    have no gradient; the smallest and the largest are tried.

    Raises:
        ValueError: If not, or if the model fails.
    """
    pair = _two(x1, x2)
    pair.requires_grad_(pair.is_floating_point())
    tensors = (*model.parameters(), *model.buffers())
    can_differentiate = not any(t.is_inference() for t in tensors)
    with torch.set_grad_enabled(can_differentiate):
        with preserved(model):
            before = _run(model, pair[[1, 1]])
        output = check_repeats(model, pair, _check_gradients)
        eps = torch.finfo(output.dtype).eps
        first, second, alone = (_run(model, pair.detach()[i]) for i in ([0, 0], [1, 1], [1]))
        if not is_close(second, before, 1e3 * eps):
            raise ValueError(_FIRST_CALL)
        if not (
            is_close(first[0], output[0], 1e3 * eps)
            and is_close(second[1], output[1], 1e3 * eps)
            and is_close(alone[0], output[1], eps**0.25, eps**0.5)
        ):
            raise ValueError(_COUPLED)
    if not pair.is_floating_point():
        for x in (x1,) if x2 is None else (x1, x2):
            flat = x.flatten(1)
            _run(model, x[torch.stack([flat.amin(1).argmin(), flat.amax(1).argmax()])])
    return output.detach()


def check_repeats(
    model: nn.Module, x: Tensor, look: Callable[[Tensor, Tensor], None] | None = None
) -> Tensor:
    """The outputs, if another pass gives the same, bit by bit, and draws no random numbers.

    Where a GPU adds numbers up in any order, the same up to rounding.

    Args:
        model: The network.
        x: Samples.
        look: Is shown the outputs and the samples before the other pass, which may write into
            weights that the gradients of the first one need.
    """
    output, before = _run(model, x), Generators([x.device])
    if look is not None:
        look(output, x)
    again, after = _run(model, x), Generators([x.device])
    rounding = 1e3 * torch.finfo(output.dtype).eps if output.is_cuda else 0.0
    if not after.stood_at(before) or not is_close(again, output, rounding):
        raise ValueError(
            "the model's output differs from call to call, by random numbers (dropout) or a state "
            "that it keeps (spectral norm); call model.eval(), or remove what makes the difference"
        )
    return output


def _two(x1: Tensor, x2: Tensor | None) -> Tensor:
    """The first sample, and the last one that differs from it."""
    for x in (x1,) if x2 is None else (x2, x1):
        differing = (x != x1[:1]).flatten(1).any(1).nonzero()
        if len(differing):
            return torch.cat([x1[:1], x[differing[-1]]]).detach()
    return x1[[0, 0]].detach()


@contextlib.contextmanager
def told_of(x: Tensor) -> Iterator[None]:
    """Inside it a model runs on samples; what it cannot do with them is one line."""
    try:
        yield
    except (RuntimeError, IndexError, TypeError) as error:
        if is_full(error):
            raise
        raise ValueError(
            f"the model fails for samples of shape {tuple(x.shape)} in {x.dtype}: {reason(error)}"
        ) from error


def _run(model: nn.Module, x: Tensor) -> Tensor:
    with told_of(x):
        output = model(x)
    return check_output(output, len(x))


def _check_gradients(output: Tensor, pair: Tensor) -> None:
    if not (output.requires_grad and pair.requires_grad):
        return
    for i in range(2):
        cotangent = unequal(output[i])  # not its plain sum, which a softmax would make a constant
        try:
            (gradient,) = torch.autograd.grad(
                output[i], pair, cotangent, retain_graph=True, allow_unused=True
            )
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # reentrant checkpoints, functions without a derivative
            raise ValueError(f"the model has no gradient: {reason(error)}") from error
        if gradient is not None and gradient[1 - i].nan_to_num().any():
            raise ValueError(_COUPLED)
