"""What a network or an operation costs: counted on shapes alone, and timed on a device.

Counted are parameters, multiply-adds, and the memory that a training step keeps; measured are
milliseconds. A network may be taken apart: a pass then says where each of its parts ends.
"""

import contextlib
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

WARM_UP, FEWEST, MOST = 1, 3, 21
"""Passes before a measurement, in it at least where time permits, and at most."""

ENOUGH, LONGEST = 0.5, 3.0
"""Seconds after which it ends with the fewest passes, and with any."""

_LAYERS_ALONE = ("torch.nn.", "darts_gdas.")
"""Where the classes are from whose multiplications all lie in layers."""

Net = TypeVar("Net", bound=nn.Module)
Number = TypeVar("Number", int, float)
Pass = Callable[[Net, Tensor, Callable[[], None]], object]
"""A forward pass that calls its last argument where a part of the network ends."""


@dataclass(frozen=True, slots=True)
class PartCost:
    """What a part of a network costs.

    Attributes:
        parameters: Numbers learnt.
        multiply_adds: Those of convolutions and linear layers, for one image.
        memory: Bytes that a training step keeps for its backward pass, for one image.
        milliseconds: Duration of a forward pass in evaluation, for each batch size.
    """

    parameters: int = 0
    multiply_adds: int = 0
    memory: int = 0
    milliseconds: tuple[float, ...] = ()

    def __add__(self, other: "PartCost") -> "PartCost":
        times = (self.milliseconds, other.milliseconds)
        return PartCost(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.memory + other.memory,
            tuple(a + b for a, b in zip(*times, strict=True)) if all(times) else max(times),
        )


def count_parameters(net: nn.Module) -> int:
    """Numbers learnt, without an auxiliary head: it is not there when the network is used."""
    return sum(
        parameter.numel()
        for name, parameter in net.named_parameters()
        if not name.startswith("auxiliary.")
    )


def count_multiply_adds(net: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of convolutions and linear layers for one image, in evaluation.

    Computed on shapes alone (the "meta" device), where torch's counter sees the products of
    attention too (`findings/flop_counter_takes_attention_for_nothing.sh`); the network is left as
    it was.

    Args:
        net: Takes images [batch, channels, height, width].
        image_shape: (channels, height, width).
    """
    (adds,) = _multiply_adds(copy.deepcopy(net).to("meta"), whole, image_shape)
    return adds


@torch.no_grad()
def multiply_adds(net: nn.Module, image: Float[Tensor, "1 channels height width"]) -> int:
    """As `count_multiply_adds`, by running a network that is small enough to take less time so.

    Only where all modules are PyTorch's or ours, which multiply in their layers alone; what others
    do between layers, attention for example, the pass on shapes sees.

    Args:
        net: Is put into evaluation.
        image: One.
    """
    classes = {type(part).__module__ for part in net.modules()}
    owners = [part for part in net.modules() if any(True for _ in part.parameters(recurse=False))]
    layers = [part for part in owners if isinstance(part, nn.Conv2d | nn.Linear)]
    are_known = all(isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d) for part in owners)
    if not are_known or not all(name.startswith(_LAYERS_ALONE) for name in classes):
        return count_multiply_adds(net, tuple(image.shape[1:]))  # type: ignore[arg-type]
    counts: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        counts.append(output.numel() * layer.weight[0].numel())

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(note).remove)
        net.eval()(image)
    return sum(counts)


def whole(net: nn.Module, images: Tensor, mark: Callable[[], None]) -> None:
    """The pass of a network that is one part."""
    net(images)
    mark()


def measure(
    net: Net,
    parts: Sequence[nn.Module],
    run: Pass[Net],
    shape: tuple[int, int, int],
    device: torch.device,
    batches: Sequence[int],
    *,
    is_inside: bool = False,
) -> list[PartCost]:
    """The cost of each part of a network.

    Args:
        net: Takes images; ends on the device, in evaluation mode.
        parts: What the network consists of, in the order of the marks.
        run: A pass that marks the end of each part.
        shape: Shape of one image, (channels, height, width).
        device: Where the passes are timed.
        batches: Batch sizes to time, at least one.
        is_inside: Whether the network is itself a part of one, so that its images are states that
            have gradients and are kept by what made them.
    """
    shapes_only = copy.deepcopy(net).to("meta")
    images = torch.empty(2, *shape, device="meta", requires_grad=is_inside)
    adds, kept = _multiply_adds(shapes_only, run, shape), kept_bytes(shapes_only, run, images)
    net, inputs = net.to(device).eval(), (torch.rand(n, *shape, device=device) for n in batches)
    times = zip(*(time_parts(net, run, images) for images in inputs), strict=True)
    parameters = map(count_parameters, parts)
    return [PartCost(*costs) for costs in zip(parameters, adds, kept, times, strict=True)]


def kept_bytes(net: Net, run: Pass[Net], images: Tensor) -> list[int]:
    """Bytes that autograd keeps in each part of a pass in training, for one image of the batch.

    A storage counts once, where it is kept first; weights, buffers, and images that have gradients
    do not count. A norm cannot train on one image, so pass two.
    """
    held = (*net.parameters(), *net.buffers(), *([images] if images.requires_grad else []))
    known, tensors, num_bytes = {tensor.untyped_storage()._cdata for tensor in held}, [], 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal num_bytes
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            known.add(storage._cdata)
            tensors.append(tensor)  # so that no other storage takes its place
            num_bytes += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return _differences(net.train(), run, images, lambda: num_bytes // len(images))


def time_parts(net: Net, run: Pass[Net], images: Tensor) -> list[float]:
    """Milliseconds of each part of a pass: medians over some, after one that makes kernels."""

    def now() -> float:
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)
        return 1e3 * time.perf_counter()

    rows = repeated(lambda: _differences(net, run, images, now))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


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


def _multiply_adds(net: Net, run: Pass[Net], shape: tuple[int, int, int]) -> list[int]:
    from torch.utils.flop_counter import FlopCounterMode  # loads Triton, a quarter of a second

    images, counter = torch.empty(1, *shape, device="meta"), FlopCounterMode(display=False)
    # The counter sees operations; compiled code has none.
    with torch.compiler.set_stance("force_eager"), counter, torch.no_grad():
        return _differences(net.eval(), run, images, lambda: counter.get_total_flops() // 2)


def _differences(
    net: Net, run: Pass[Net], images: Tensor, read: Callable[[], Number]
) -> list[Number]:
    """By how much a reading grows in each part of a pass."""
    marks = [read()]
    run(net, images, lambda: marks.append(read()))
    return [after - before for before, after in pairwise(marks)]
