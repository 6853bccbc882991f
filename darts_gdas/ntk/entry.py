"""What every function of a network and samples does first: look at both, try, keep the network."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darts_gdas.ntk.agreement import check_depends
from darts_gdas.ntk.checks import (
    Filter,
    TooLarge,
    check_inputs,
    check_model,
    check_module,
    check_numbers,
    check_output,
    is_full,
    select_parameters,
)
from darts_gdas.ntk.normalization import batch_norms, flat_outputs, frozen_statistics, preserved
from darts_gdas.ntk.trials import check_fits, check_repeats, check_uncoupled, told_of
from darts_gdas.reasons import reason


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """What has been found out about a network.

    Attributes:
        parameters: The selected ones by name; none where no gradients are needed.
        outputs: Of some samples, flat [some, outputs].
    """

    parameters: Mapping[str, nn.Parameter]
    outputs: Tensor

    @property
    def num_outputs(self) -> int:
        """Outputs per sample."""
        return self.outputs.shape[1]


@contextlib.contextmanager
def tried(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None,
    params: str | Filter = "all",
    *,
    gradients: bool = True,
    batch_norm: str | None = None,
    trusted: bool = False,
    chunk_size: int | None = None,
) -> Iterator[Tried]:
    """A network that has passed all checks, its outputs flat; it is what it was afterwards.

    Inside, nothing records gradients except under `torch.enable_grad`, and calls of the network get
    copies of the samples. A CPU's full memory is one line, too.

    Args:
        model: The network.
        x1: Samples.
        x2: Others, if there are.
        params: As in `empirical_ntk`.
        gradients: Whether they are needed; if not, parameters have no say.
        batch_norm: As in `empirical_ntk`.
        trusted: As in `empirical_ntk`.
        chunk_size: Samples per pass to look whether all outputs are numbers; None where whoever
            asks looks at them as they come.

    Raises:
        ValueError: For whatever is wrong with the samples or the network.
    """
    if not trusted:
        check_inputs(x1, x2)
        check_module(model)
        _check_mode(model, gradients)
        check_model(model, batch_norm)
        check_fits(model, x1)
    parameters = select_parameters(model, params) if gradients else {}
    sides = [x1] if x2 is None else [x1, x2]
    normalised = _normalisation(model, x1, batch_norm)
    with torch.no_grad(), normalised, flat_outputs(model), _told_when_full():
        if batch_norm == "batch":
            outputs = check_output(model(x1), len(x1)) if trusted else check_repeats(model, x1)
        elif trusted:
            outputs = check_output(model(x1[:1]), 1)
        else:
            outputs = check_uncoupled(model, x1, x2)
        if gradients and not trusted:
            check_depends(model, sides, parameters)
        for part in [] if trusted or chunk_size is None else _parts(sides, chunk_size):
            check_numbers(model(part))
        yield Tried(parameters, outputs)


def _parts(sides: Sequence[Tensor], chunk_size: int) -> Iterator[Tensor]:
    return (part for side in sides for part in side.split(chunk_size))


def _check_mode(model: nn.Module, gradients: bool) -> None:
    """Raise a `ValueError` where PyTorch records no gradients whatever one asks for."""
    if gradients and torch.is_inference_mode_enabled():
        raise ValueError(
            "torch.inference_mode() is on, in which there are no gradients, so no kernel either; "
            "call this outside of it (torch.no_grad() does no harm)"
        )
    if not gradients:
        return
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_inference():
            raise ValueError(
                f"{name!r} was made under torch.inference_mode() and can have no gradients; make "
                "or load the model outside of it"
            )


def _normalisation(
    model: nn.Module, images: Tensor, batch_norm: str | None
) -> contextlib.AbstractContextManager[object]:
    if batch_norm == "frozen":
        return _frozen(model, images)
    stack = contextlib.ExitStack()
    stack.enter_context(preserved(model))
    if batch_norm == "batch":
        model.eval()
        for norm in batch_norms(model).values():
            norm.train()
    return stack


@contextlib.contextmanager
def _frozen(model: nn.Module, images: Tensor) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with told_of(images):
            stack.enter_context(frozen_statistics(model, images))
        yield


@contextlib.contextmanager
def _told_when_full() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_full(error) or isinstance(error, torch.OutOfMemoryError):
            raise
        raise TooLarge(
            f"the memory is full ({reason(error, most=160)}); lower chunk_size, take fewer samples "
            "or parameters, or ntk_vector_product, which forms no kernel"
        ) from error
