"""Time and memory of the neural tangent kernel, against the usual ways to compute it."""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap

from benchmarks.measure import MEBIBYTE, interleaved, stopwatch
from darts_gdas.nets import DerivedNet, Layout
from darts_gdas.ntk import empirical_ntk
from darts_gdas.runtime.files import write_text
from darts_gdas.space import Genotype

CELL = "DARTS_V2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--large", action="store_true", help="the retraining network too; minutes")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/ntk.json"))
    parser.add_argument(
        "--only", help=argparse.SUPPRESS
    )  # one full kernel, in a process of its own


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    if arguments.only:
        network, method = arguments.only.split(":")
        print(json.dumps(one_full_kernel(network, method, device, arguments.repeats)))
        return
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    where = f"{name}, {arguments.threads} threads, torch {torch.__version__}"
    report: dict[str, object] = {"machine": where, "date": time.strftime("%Y-%m-%d")}
    print(f"{where}, {report['date']}\n")
    report["sum"] = [sum_kernels(n, arguments, device) for n in arguments.samples]
    report["full"] = full_kernels(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print(f"\nAll figures: {arguments.out}")


def two_cells(channels: int) -> nn.Module:
    """A normal and a reduction cell, ten classes."""
    layout = Layout(channels, 2, 10, reductions=(1,))
    return DerivedNet(Genotype.load(CELL), layout)


def retraining() -> nn.Module:
    """The paper's network for CIFAR-10, 3.3 million weights."""
    return DerivedNet(Genotype.load(CELL), Layout(36, 20, 10))


def wide_head() -> nn.Module:
    """Three convolutions and a wide linear layer, which holds nine of ten weights."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(32 * 26 * 26, 10)),
    )


def one_forward_backward(net: nn.Module, x: Tensor) -> None:
    """What a training step costs, the least that any kernel can."""
    net.zero_grad()
    net(x).sum().backward()


def one_graph(net: nn.Module, x: Tensor) -> Tensor:
    """As TE-NAS publishes it: the batch's graph in training mode, one backward pass per sample."""
    net.train()
    sums = net(x).sum(1)
    weights = [w for name, w in net.named_parameters() if "weight" in name]
    rows = []
    for n in range(len(x)):
        gradients = torch.autograd.grad(sums[n], weights, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    jacobian = torch.stack(rows)
    net.eval()
    return jacobian @ jacobian.T


def _single(net: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    return lambda weights, x: functional_call(net, weights, (x[None],))[0]


def contraction(net: nn.Module, x: Tensor, chunk_size: int | None = None) -> Tensor:
    """The full kernel as torch.func's documentation has it: whole Jacobians and their products.

    Args:
        net: The network.
        x: Samples.
        chunk_size: Samples whose Jacobians are computed at once.
    """
    weights = {name: w.detach() for name, w in net.named_parameters()}
    jacobian = vmap(jacrev(_single(net)), (None, 0), chunk_size=chunk_size)(weights, x)
    parts = [j.flatten(2) for j in jacobian.values()]
    return torch.stack([torch.einsum("naf,mbf->nmab", j, j) for j in parts]).sum(0)


def products(net: nn.Module, x: Tensor) -> Tensor:
    """The full kernel as torch.func's documentation has it: a product per pair and output."""
    weights = {name: w.detach() for name, w in net.named_parameters()}
    call, outputs = _single(net), net(x[:1]).shape[1]
    basis = torch.eye(outputs, dtype=x.dtype, device=x.device)

    def pair(a: Tensor, b: Tensor) -> Tensor:
        pull = vjp(lambda w: call(w, b), weights)[1]

        def column(v: Tensor) -> Tensor:
            (direction,) = pull(v)
            return cast(Tensor, jvp(lambda w: call(w, a), (weights,), (direction,))[1])

        return vmap(column)(basis)

    return vmap(lambda a: vmap(lambda b: pair(a, b))(x))(x)


def sum_kernels(
    samples: int, arguments: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    """Seconds for the kernel of the summed outputs, all ways in turns, as a table."""
    torch.manual_seed(0)
    net = two_cells(arguments.channels).to(device).eval()
    x = torch.randn(samples, 3, 32, 32, device=device)

    def ours(method: str, batch_norm: str | None = None) -> Callable[[], Tensor]:
        return lambda: empirical_ntk(net, x, method=method, params="weights", batch_norm=batch_norm)  # type: ignore[arg-type]

    calls: dict[str, Callable[[], object]] = {
        "one graph, backward per sample (TE-NAS)": lambda: one_graph(net, x),
        "loop": ours("loop"),
        "jacobian": ours("jacobian"),
        "structured": ours("structured"),
        'structured, batch_norm="frozen"': ours("structured", "frozen"),
        "forward and backward of the batch": lambda: one_forward_backward(net, x),
    }
    seconds = interleaved(calls, repeats=arguments.repeats, device=device)
    published, *_, floor = seconds.values()
    print(f"Kernel of the summed outputs, {CELL}, C={arguments.channels}, 2 cells, N={samples}\n")
    print("| way | ms | published / this | this / forward and backward |\n|---|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1e3 * value:.0f} | {published / value:.1f} | {value / floor:.2f} |")
    print(flush=True)
    return seconds


@dataclass(frozen=True)
class Case:
    """A full kernel to compute, each way in a process of its own.

    Attributes:
        build: The network.
        samples: Images of 3x32x32.
        methods: Ours by their names, and those of `PLAIN`.
        text: What it is.
        chunk_size: Samples per pass of ours, which bounds the memory.
    """

    build: Callable[[], nn.Module]
    samples: int
    methods: tuple[str, ...]
    text: str
    chunk_size: int = 16


PLAIN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "contraction": contraction,
    "contraction_by_4": partial(contraction, chunk_size=4),
    "contraction_by_16": partial(contraction, chunk_size=16),
    "products": products,
}
"""torch.func's own ways, by name."""

CASES = {
    "cells": Case(
        lambda: two_cells(16),
        32,
        ("contraction", "jacobian", "structured"),
        f"{CELL}, C=16, 2 cells",
    ),
    "cells_few": Case(
        lambda: two_cells(16),
        4,
        ("products", "vector_product", "contraction", "structured"),
        f"{CELL}, C=16, 2 cells",
    ),
    "cells_many": Case(
        lambda: two_cells(16),
        64,
        ("contraction_by_4", "contraction_by_16", "structured"),
        f"{CELL}, C=16, 2 cells",
    ),
    "wide_head": Case(
        wide_head,
        20,
        ("contraction", "jacobian", "structured"),
        "three convolutions and a wide linear layer",
    ),
    "retraining": Case(
        retraining,
        32,
        ("auto",),
        f"{CELL}, C=36, 20 cells, 3,349,342 weights, 2 samples at a time",
        chunk_size=2,
    ),
}


def full_kernels(arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds and memory for full kernels, every one in a process of its own, as a table."""
    print(
        "Full kernels, 10 outputs, each in a process of its own; memory is what the process takes"
    )
    print("above its size before the call, and in all\n")
    print(
        "| network | N | way | s | memory for it, MiB | process, MiB |\n|---|---|---|---|---|---|"
    )
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, case in CASES.items():
        if name == "retraining" and not arguments.large:
            continue
        found[name] = {}
        for method in case.methods:
            figures = found[name][method] = _in_process(name, method, arguments)
            print(
                f"| {case.text} | {case.samples} | {method} | {figures['seconds']:.2f} "
                f"| {figures['extra_mebibytes']:.0f} | {figures['peak_mebibytes']:.0f} |",
                flush=True,
            )
    return found


def _in_process(name: str, method: str, arguments: argparse.Namespace) -> dict[str, float]:
    options = ("threads", "device", "repeats")
    flags = [f"--{option}={getattr(arguments, option)}" for option in options]
    command = [sys.executable, "-m", "benchmarks", "ntk", f"--only={name}:{method}", *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def one_full_kernel(name: str, method: str, device: torch.device, repeats: int) -> dict[str, float]:
    """Time the first call's memory, then the median of `repeats` more calls (large: of one)."""
    case = CASES[name]
    torch.manual_seed(0)
    net = case.build().to(device).eval()
    x = torch.randn(case.samples, 3, 32, 32, device=device)
    net(x[:1])  # libraries load what they need

    def call() -> Tensor:
        if method in PLAIN:
            with torch.no_grad():
                return PLAIN[method](net, x)
        return empirical_ntk(net, x, kind="full", method=method, chunk_size=case.chunk_size)  # type: ignore[arg-type]

    before = _reset_peak(device)
    first = stopwatch(call, device)
    peak = _peak(device)
    is_long = first > 20
    seconds = (
        first
        if is_long
        else interleaved({"call": call}, repeats=repeats, device=device, warm_up=0)["call"]
    )
    return {"seconds": seconds, "extra_mebibytes": peak - before, "peak_mebibytes": peak}


def _reset_peak(device: torch.device) -> float:
    """Forget the peak so far; returns the memory that is taken now, in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the high-water mark
    return _peak(device)


def _peak(device: torch.device) -> float:
    """The most memory taken since the last reset, in MiB: of the process, or on the GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / MEBIBYTE
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
