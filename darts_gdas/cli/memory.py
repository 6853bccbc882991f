"""Out of memory in one line: where, how much it was, and what to lower."""

import contextlib
from collections.abc import Iterator

import torch

from darts_gdas.config import AnyConfig, ScoreConfig, SearchConfig
from darts_gdas.reasons import reason
from darts_gdas.runtime.compute import Compute, Precision

CPU_MESSAGES = ("can't allocate memory", "not enough memory")
"""What PyTorch says of the CPU's memory, in a plain `RuntimeError`."""

GIB = 2**30


class OutOfMemory(RuntimeError):
    """The device or the machine has no memory left for this run."""


@contextlib.contextmanager
def memory_errors(config: AnyConfig) -> Iterator[None]:
    """Turn the many ways in which memory runs out into one error that says what to lower.

    Args:
        config: The run's configuration, to name what it uses now.

    Raises:
        OutOfMemory: In place of such an error; any other passes.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(_told(error, config)) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(text in str(error) for text in CPU_MESSAGES)


def _told(error: BaseException, config: AnyConfig) -> str:
    on_gpu = isinstance(error, torch.OutOfMemoryError) and torch.cuda.is_available()
    peak, total = Compute(torch.device("cuda" if on_gpu else "cpu")).peak_memory(), ""
    if on_gpu:
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        total = f" of {properties.total_memory / GIB:.2f}"
    used = f"{peak / GIB:.2f}{total} GiB"
    what = reason(error, most=150) or type(error).__name__
    exact, other = _remedies(config)
    first = f"{' or '.join(exact)} (goes on from the checkpoints), or else " if exact else ""
    return (
        f"out of memory on the {'GPU' if on_gpu else 'CPU'}, at most {used} in use at "
        f"batch_size={config.batch_size}: {what}. Set {first}{', '.join(other)} (a new run). "
        f"{'What is scored is' if isinstance(config, ScoreConfig) else 'Checkpoints are'} kept"
    )


def _remedies(config: AnyConfig) -> tuple[list[str], list[str]]:
    """What takes less memory: with the same numbers, and with others, which begins anew."""
    exact, other = [], ["a smaller batch_size"]
    if isinstance(config, ScoreConfig):
        return exact, [*other, f"fewer channels (now {config.channels})"]
    if isinstance(config, SearchConfig) and not config.checkpoint_cells:
        exact.append("checkpoint_cells=true")
    channels = getattr(getattr(config, "net", None), "channels", None)
    if channels is not None:
        other.append(f"fewer net.channels (now {channels})")
    if config.precision is Precision.fp32:
        other.append("precision=bf16")
    return exact, other
