"""What one part of a network costs: parameters, multiply-adds, memory, time."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from darts_gdas.nets.cost import count_multiply_adds, count_parameters

WARM_UP, FEWEST, MOST = 1, 3, 21
"""Passes before a measurement, in it at least where time permits, and at most."""

ENOUGH, LONGEST = 0.5, 3.0
"""Seconds after which it ends with the fewest passes, and with any."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part costs.

    Attributes:
        parameters: Numbers learnt.
        multiply_adds: Of convolutions and linear layers, for one image.
        memory: Bytes that a training step keeps for its backward pass, for one image.
        milliseconds: Of a forward pass in evaluation, for each batch size.
    """

    parameters: int = 0
    multiply_adds: int = 0
    memory: int = 0
    milliseconds: tuple[float, ...] = ()

    def __add__(self, other: "Cost") -> "Cost":
        times = (self.milliseconds, other.milliseconds)
        return Cost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.memory + other.memory,
            tuple(a + b for a, b in zip(*times, strict=True)) if all(times) else max(times),
        )


@dataclass
class Kept:
    """Bytes that autograd keeps, each storage once; weights and buffers do not count."""

    ignored: set[int]
    tensors: list[Tensor] = field(default_factory=list)
    num_bytes: int = 0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count what the passes inside keep."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.ignored:
            self.ignored.add(storage._cdata)
            self.tensors.append(tensor)  # so that no other storage takes its place
            self.num_bytes += storage.nbytes()
        return tensor


def kept_by(net: nn.Module) -> Kept:
    """A count of what passes of a network keep."""
    held = (*net.parameters(), *net.buffers())
    return Kept({tensor.untyped_storage()._cdata for tensor in held})


def repeated(once: Callable[[], list[float]]) -> list[list[float]]:
    """What some passes took, after others that made kernels and buffers."""
    with torch.no_grad():
        for _ in range(WARM_UP):
            once()
        begin = time.monotonic()
        rows = [once()]
        while len(rows) < MOST:
            spent = time.monotonic() - begin
            if spent > LONGEST or (spent > ENOUGH and len(rows) >= FEWEST):
                break
            rows.append(once())
    return rows


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_module(
    module: nn.Module, shape: tuple[int, int, int], device: torch.device, batches: tuple[int, ...]
) -> Cost:
    """The cost of a module that takes one state, by itself.

    Args:
        module: What is measured; ends on the device, in evaluation mode.
        shape: Of one state, (channels, height, width).
        device: Where it is timed.
        batches: Batch sizes to time.
    """
    shapes_only = copy.deepcopy(module).to("meta").train()
    x, keeper = torch.empty(2, *shape, device="meta", requires_grad=True), kept_by(shapes_only)
    keeper.ignored.add(x.untyped_storage()._cdata)
    with keeper.watch():
        shapes_only(x)
    module = module.to(device).eval()
    times = tuple(_time(module, torch.rand(batch, *shape, device=device)) for batch in batches)
    adds = count_multiply_adds(module, shape)
    return Cost(count_parameters(module), adds, keeper.num_bytes // len(x), times)


def _time(module: nn.Module, x: Tensor) -> float:
    def once() -> list[float]:
        wait(x.device)
        start = time.perf_counter()
        module(x)
        wait(x.device)
        return [1e3 * (time.perf_counter() - start)]

    return statistics.median(row[0] for row in repeated(once))
