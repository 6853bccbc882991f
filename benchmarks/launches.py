"""How much of a DARTS or GDAS step waits for kernel launches on a GPU, and what one graph saves."""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import interleaved
from benchmarks.pair import NETWORKS, Pair
from darts_gdas.runtime.compute import Compute, Device, Precision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kernels", type=int, default=3, help="how many of the largest to name")


def run(arguments: argparse.Namespace) -> None:
    for precision in (Precision.fp32, Precision.bf16):
        compute = Compute.select(Device.cuda, precision, True, 1)
        print(f"\n{compute.describe()}, torch {torch.__version__}; ", end="")
        print(f"{arguments.layers} cells, batch {arguments.batch}, W step without optimiser\n")
        print(
            "| network | way | kernels | in kernels, ms | eager, ms | one graph, ms | capture, s |"
        )
        print("|---|---|---|---|---|---|---|")
        for network in ("darts", "gdas"):
            pair = Pair(NETWORKS[network], arguments.layers, arguments.batch, compute)
            largest = {}
            for way, call in _passes(pair).items():
                largest[way] = _kernels(call)
                count = sum(calls for _, _, calls in largest[way])
                inside = sum(ms for _, ms, _ in largest[way])
                # A sampled path is another graph at each step.
                graph, capture = _captured(call) if network == "darts" else (None, float("nan"))
                calls = {"eager": call} | ({"graph": graph} if graph else {})
                found = interleaved(
                    calls, repeats=arguments.repeats, device=compute.device, warm_up=2
                )
                replay = f"{1e3 * found['graph']:.1f}" if graph else "-"
                print(
                    f"| {network} | {way} | {count} | {inside:.1f} | {1e3 * found['eager']:.1f} "
                    f"| {replay} | {capture:.1f} |",
                    flush=True,
                )
            for way, kernels in largest.items():
                for name, ms, calls in kernels[: arguments.kernels]:
                    print(f"\n{network}, {way}: {ms:.1f} ms in {calls} calls of {name[:70]}")


def _passes(pair: Pair) -> dict[str, Callable[[], None]]:
    """Forward and backward pass of both networks under one mixture."""
    images, labels, *_ = pair.batches[0]
    noise = torch.Generator().manual_seed(1)
    mixture = pair.relaxation(pair.task.alphas, progress=0.5, rng=noise).detach()
    ops = {kind: cell.ops for kind, cell in mixture.items()}
    sparse = all(cell.active is not None for cell in mixture.values())
    contiguous = images.contiguous()

    def passed(network: torch.nn.Module, logits: Callable[[], torch.Tensor]) -> None:
        for weight in network.parameters():
            weight.grad = None
        with pair.compute.forward_pass():
            found = logits()
        F.cross_entropy(found.float(), labels).backward()

    return {
        "plain": lambda: passed(pair.plain, lambda: pair.plain(contiguous, ops, sparse)),
        "fused": lambda: passed(pair.task.supernet, lambda: pair.task.supernet(images, mixture)),
    }


def _kernels(call: Callable[[], None]) -> list[tuple[str, float, int]]:
    """Name, milliseconds and calls of each kernel, the largest first."""
    for _ in range(2):
        call()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    found: dict[str, tuple[float, int]] = {}
    for event in profiler.events() or ():
        if event.device_type.name == "CUDA":
            ms, calls = found.get(event.name, (0.0, 0))
            found[event.name] = ms + event.device_time / 1e3, calls + 1
    return sorted(((name, *both) for name, both in found.items()), key=lambda kernel: -kernel[1])


def _captured(call: Callable[[], None]) -> tuple[Callable[[], None], float]:
    """The call as one CUDA graph, and the seconds of its capture."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    with torch.cuda.graph(graph):
        call()
    end.record()
    torch.cuda.synchronize()
    return graph.replay, start.elapsed_time(end) / 1e3
