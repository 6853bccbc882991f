"""Where and in which numbers to compute: the only place that names a device."""

import contextlib
import logging
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import ParamSpec, TypeVar

import torch
from torch import nn

import darts_gdas.native as native
from darts_gdas.native import Kernels
from darts_gdas.runtime.compilation import Compilation, Compiled
from darts_gdas.runtime.distributed import ALONE, Ranks

logger = logging.getLogger(__name__)

Args = ParamSpec("Args")
Result = TypeVar("Result")
Module = TypeVar("Module", bound=nn.Module)

ALL_THREADS = torch.get_num_threads()
"""PyTorch's own choice in this process, before any run changed it."""


def usable_cores() -> int:
    """This machine's cores that the process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def local_ranks() -> int:
    """How many ranks run on this machine, where a launcher says so; else 1."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def own_cores() -> int:
    """This machine's cores that the process may use, shared among the ranks on it; at least 1."""
    return max(usable_cores() // local_ranks(), 1)


class Device(Enum):
    """`auto` is CUDA where there is one, else the CPU."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """`bf16` and `fp16` run convolutions and matrix products in that format; weights stay float32.

    bfloat16 has float32's range. float16 has more digits, and a loss that is scaled for its range.
    """

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


@dataclass(frozen=True, slots=True)
class Compute:
    """A device with a number format, a memory layout and a way to run networks on it."""

    device: torch.device
    precision: Precision = Precision.fp32
    channels_last: bool = False
    compilation: Compilation = Compilation.none
    ranks: Ranks = ALONE

    @classmethod
    def select(
        cls,
        device: Device,
        precision: Precision,
        channels_last: bool,
        threads: int = 0,
        compilation: Compilation = Compilation.none,
        ranks: Ranks = ALONE,
        kernels: Kernels = Kernels.auto,
    ) -> "Compute":
        """Turn the user's choice into a device; set the process's CPU threads and kernels.

        Args:
            device: What the user asked for.
            precision: Number format of the passes.
            channels_last: Memory layout of images and convolutions.
            threads: CPU threads within an operation; 0 is PyTorch's choice, all cores. On
                tensors of a few kilobytes one thread is as fast, and threads that wait for each
                other on a busy machine are an order of magnitude slower.
            compilation: How networks are compiled. A CPU goes without CUDA graphs, with a warning.
            ranks: With whom; each has a device of its own.
            kernels: Who computes on a CPU what PyTorch's libraries are slow at; `auto` are the
                libraries where images do not lie in channels_last.

        Raises:
            ValueError: If CUDA is asked for and there is none, or it has no bfloat16; if native
                kernels are asked for and cannot be had.
        """
        cuda = torch.cuda.is_available()
        if device is Device.cuda and not cuda:
            raise ValueError("device=cuda, but PyTorch finds no CUDA device; use device=cpu")
        use_cuda = cuda and device is not Device.cpu
        if use_cuda and precision is Precision.bf16 and not torch.cuda.is_bf16_supported():
            raise ValueError("precision=bf16, but this GPU has no bfloat16; use precision=fp32")
        torch.set_num_threads(threads or ALL_THREADS)
        if kernels is Kernels.auto and not channels_last:  # the only layout that they read
            kernels = Kernels.library
        native.choose(kernels)
        if not use_cuda:
            native.library()  # is built now, and not in the middle of work
        if use_cuda:  # float32 means float32: PyTorch's default rounds convolutions to 10 bits
            torch.backends.cudnn.allow_tf32 = False
        elif precision is not Precision.fp32:
            logger.warning(
                "precision=%s on a CPU goes without the C++ kernels, which compute in float32, and "
                "is slower than fp32 where the processor has no arithmetic for it",
                precision.value,
            )
        if compilation is Compilation.cuda_graphs and not use_cuda:
            logger.warning("compile=cuda_graphs needs a CUDA device; going on without it")
            compilation = Compilation.none
        where = torch.device("cuda" if use_cuda else "cpu")
        return cls(where, precision, channels_last, compilation, ranks)

    def place(self, module: Module) -> Module:
        """The module on the device, its convolutions in the chosen layout."""
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module  # type: ignore[call-overload]

    def compiled(self, function: Callable[Args, Result]) -> Callable[Args, Result]:
        """The function as it is to be run; without compilation, itself."""
        if self.compilation is Compilation.none:
            return function
        return Compiled(function, self.compilation)

    def forward_pass(self) -> contextlib.AbstractContextManager[object]:
        """Context of a forward pass, which ends what CUDA graphs hold of the pass before."""
        if self.compilation is Compilation.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        if self.precision is Precision.fp32:
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.precision is Precision.bf16 else torch.float16
        return torch.autocast(self.device.type, dtype)

    def describe(self) -> str:
        """Device, threads or GPU, and precision in a few words."""
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        else:
            threads = torch.get_num_threads()
            is_full = self.precision is Precision.fp32
            kernels = native.described() if is_full else "library kernels"
            name = f"CPU, {threads} thread{'s' if threads > 1 else ''}, {kernels}"
        ranks = f"{self.ranks.size} ranks, each " if self.ranks.size > 1 else ""
        return f"{ranks}{name}, {self.precision.value}"

    def peak_memory(self) -> int:
        """The most bytes in use so far: of tensors on a GPU, else of the whole process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def random_state() -> dict[str, torch.Tensor]:
    """State of torch's global generators: weight initialisation and drop-path use them."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, torch.Tensor]) -> None:
    """Inverse of `random_state`; a state of CUDA is ignored where there is none."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
