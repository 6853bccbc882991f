"""Stopwatches and counters: time, saved bytes, tensor operations, time per kind of operation."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

MEBIBYTE = 2**20

KINDS = {
    "convolution, forward": ("mkldnn_convolution", "cudnn_convolution", "_conv_depthwise2d"),
    "convolution, backward": ("convolution_backward", "_conv_depthwise2d_backward"),
    "matrix products": ("bmm", "baddbmm", "baddbmm_", "mm", "addmm", "addmm_"),
    "batch norm": ("native_batch_norm", "batch_norm_backward", "batch_norm"),
    "pooling": ("pool2d",),
    "copies": ("copy_", "cat", "fill_", "constant_pad_nd", "repeat", "clone"),
}
"""Kinds of operations by parts of their names, exact matches first; the rest is `other`."""


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    device: torch.device,
    warm_up: int = 1,
) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that a change of clock hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(warm_up + repeats):
        for name, call in calls.items():
            seconds = stopwatch(call, device)
            if repeat >= warm_up:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def stopwatch(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: by events on a GPU, by the clock on a CPU."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def saved_bytes(call: Callable[[], object], weights: Iterable[nn.Parameter]) -> int:
    """Bytes of the distinct storages that a call keeps for its backward pass, weights aside."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in known)


class Operations(TorchDispatchMode):
    """Counts tensor operations that are not views, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run and count one operation."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.namespace == "aten":
            self.count += 1
            for tensor in [*_tensors(args), *_tensors([result])]:
                self.bytes += tensor.numel() * tensor.element_size()
        return result


def _tensors(values: Iterable[object]) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(value)
    return found


def time_per_kind(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Share of the kernels' time per kind of operation; sums to 1."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        call()
    shares: Counter[str] = Counter()
    for event in profiler.key_averages():
        on_gpu = device.type == "cuda"
        shares[_kind(event.key)] += (
            event.self_device_time_total if on_gpu else event.self_cpu_time_total
        )
    total = sum(shares.values())
    return {kind: value / total for kind, value in shares.most_common()}


def _kind(key: str) -> str:
    if not key.startswith("aten::"):
        return "other"
    name = key.removeprefix("aten::")
    for kind, names in KINDS.items():
        if name in names or any(part in name for part in names if "_" in part and len(part) > 6):
            return kind
    return "elementwise and sums" if not _is_bookkeeping(name) else "other"


def _is_bookkeeping(name: str) -> bool:
    views = ("view", "select", "slice", "permute", "transpose", "as_strided", "expand", "reshape")
    return name in views or name.startswith(("empty", "_", "to", "resize"))


def ceilings(device: torch.device) -> dict[str, float]:
    """What the device can do: bytes/s of a large copy, floating-point operations/s of a product."""
    x = torch.empty(2**26, device=device)  # 256 MiB, beyond any cache
    y = torch.empty_like(x)
    side = 2048 if device.type == "cpu" else 8192
    matrix = torch.randn(side, side, device=device)
    seconds = interleaved(
        {"copy": lambda: y.copy_(x), "product": lambda: matrix @ matrix}, repeats=5, device=device
    )
    return {
        "bytes_per_second": 2 * x.numel() * x.element_size() / seconds["copy"],
        "flops_per_second": 2 * side**3 / seconds["product"],
    }
