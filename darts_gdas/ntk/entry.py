"""What every function of a network and samples does first: look at both, try, keep the network."""

import contextlib
from collections.abc import Iterator, Mapping
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
    check_output,
    select_parameters,
)
from darts_gdas.ntk.normalization import batch_norms, flat_outputs, frozen_statistics, preserved
from darts_gdas.ntk.trials import check_fits, check_repeats, check_uncoupled
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
    normalised = _normalisation(model, x1, batch_norm)
    with torch.no_grad(), normalised, flat_outputs(model), _told_when_full():
        if batch_norm == "batch":
            outputs = check_output(model(x1), len(x1)) if trusted else check_repeats(model, x1)
        elif trusted:
            outputs = check_output(model(x1[:1]), 1)
        else:
            outputs = check_uncoupled(model, x1, x2)
        if gradients and not trusted:
            check_depends(model, x1, parameters)
        yield Tried(parameters, outputs)


def _check_mode(model: nn.Module, gradients: bool) -> None:
    """Raise a `ValueError` where PyTorch records no gradients whatever one asks for."""
    if gradients and torch.is_inference_mode_enabled():
        raise ValueError(
            "torch.inference_mode() is on, in which there are no gradients, so no kernel either; "
            "call this outside of it (torch.no_grad() does no harm)"
        )
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
        return frozen_statistics(model, images)
    stack = contextlib.ExitStack()
    stack.enter_context(preserved(model))
    if batch_norm == "batch":
        model.eval()
        for norm in batch_norms(model).values():
            norm.train()
    return stack


def is_full(error: BaseException) -> bool:
    """Whether it says that there is no memory left; a CPU's is an error of no type of its own."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, TooLarge)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


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
