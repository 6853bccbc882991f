"""Time, memory and operations of the search step, against the supernet as it is usually written."""

import argparse
import json
import platform
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import (
    MEBIBYTE,
    Operations,
    ceilings,
    interleaved,
    saved_bytes,
    stopwatch,
    time_per_kind,
)
from benchmarks.pair import NETWORKS, Pair, search_task, seeded
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.task import Progress
from darts_gdas.search import FirstOrder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--steps-only", action="store_true", help="no memory, counts and profile")
    parser.add_argument("--layers", type=int, default=8, help="in the DARTS space")
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--repeats", type=int, default=3, help="at the first batch size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=[d.name for d in Device], default="auto")
    parser.add_argument("--precision", choices=[p.name for p in Precision], default="fp32")
    parser.add_argument(
        "--compile", nargs="*", choices=[c.name for c in Compilation], default=[], metavar="HOW"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/search_step.json"))


def run(arguments: argparse.Namespace) -> None:
    compute = Compute.select(
        Device[arguments.device], Precision[arguments.precision], True, arguments.threads
    )
    report: dict[str, object] = {
        "machine": f"{compute.describe()}; {platform.machine()}",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "layers": arguments.layers,
    }
    print(f"{compute.describe()}, torch {torch.__version__}, {report['date']};", end=" ")
    print(f"{arguments.layers} cells (5 in NAS-Bench-201), images of 3x32x32, whole steps\n")
    print(
        "| network | batch | step | plain, ms | library kernels, ms | fused, ms | plain / fused |"
    )
    print("|---|---|---|---|---|---|---|")
    rows = []
    for i, batch in enumerate(arguments.batches):
        for name in arguments.networks:
            pair = Pair(NETWORKS[name], arguments.layers, batch, compute)
            repeats = arguments.repeats if i == 0 else max(arguments.repeats // 2, 1)
            for step, times in pair.times(repeats, second_order=i == 0).items():
                ratio = "-" if times.plain is None else f"{times.plain / times.fused:.2f}"
                shown = ["-" if seconds is None else f"{1e3 * seconds:.0f}" for seconds in times]
                print(f"| {name} | {batch} | {step} | {' | '.join(shown)} | {ratio} |")
                rows.append({"network": name, "batch": batch, "step": step, **times._asdict()})
            del pair
    report["steps"] = rows
    if arguments.steps_only:
        return
    if arguments.compile:
        report["compiled"] = _print_compiled(arguments, compute)
    report["memory"] = _print_counts(arguments, compute)
    report["kinds"] = _print_kinds(arguments, compute)
    report["roofline"] = _print_roofline(arguments, compute)
    if compute.device.type == "cuda":
        report["projection"] = _print_projection(compute)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print(f"\nAll figures: {arguments.out}")


def _print_compiled(arguments: argparse.Namespace, compute: Compute) -> list[dict]:
    """DARTS steps with compiled cells, against the same without, at the last batch size."""
    batch, rows = arguments.batches[-1], []
    print(f"\n| darts, batch {batch} | W, ms | A, ms | first W and A, s | peak memory, MiB |")
    print("|---|---|---|---|---|")
    for how in ["none", *arguments.compile]:
        compilation = replace(compute, compilation=Compilation[how])
        network = NETWORKS["darts"]
        layout = network.layout(arguments.layers)
        task = search_task(network.relaxation, FirstOrder(), layout, batch, 4 * batch, compilation)
        task.supernet.train()
        batches = task.data.weight_batches.batch(0), task.data.arch_batches.batch(0)
        calls = {
            "W": partial(task.step_weights, batches[0], 0.5),
            "A": partial(task.arch_step, *batches, 0.5),
        }
        on_gpu = compute.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        first = sum(stopwatch(call, compute.device) for call in calls.values())
        seconds = interleaved(calls, repeats=arguments.repeats, device=compute.device, warm_up=2)
        peak = torch.cuda.max_memory_allocated() / MEBIBYTE if on_gpu else float("nan")
        print(
            f"| compile={how} | {1e3 * seconds['W']:.0f} | {1e3 * seconds['A']:.0f} "
            f"| {first:.1f} | {peak:.0f} |"
        )
        rows.append({"compile": how, "first": first, "peak_mebibytes": peak, **seconds})
    return rows


def _print_counts(arguments: argparse.Namespace, compute: Compute) -> list[dict]:
    """Memory kept for the backward pass, tensor operations, share of the input pipeline."""
    batch, rows = arguments.batches[0], []
    print(f"\nKept for the backward pass and tensor operations (views aside), batch {batch}\n")
    print("| network | step | kept, MiB: plain | fused | share | operations: plain | fused |")
    print("|---|---|---|---|---|---|---|")
    for name in ("darts", "gdas"):
        pair = Pair(NETWORKS[name], arguments.layers, batch, compute)
        task, weights = pair.task, [*pair.task.supernet.parameters(), *pair.plain.parameters()]
        fused_steps = {
            "W": lambda t=task, p=pair: t.step_weights(p.batches[0], 0.5),
            "A": lambda t=task, p=pair: t.arch_step(*p.batches, 0.5),
        }
        for i, (step, fused_step) in enumerate(fused_steps.items()):
            calls = (
                seeded(pair.noise, lambda i=i, p=pair: p.plain_step(p.batches[i], weights=i == 0)),
                seeded(task.noise, fused_step),
            )
            kept = [saved_bytes(call, weights) / MEBIBYTE for call in calls]
            counts = []
            for call in calls:
                with Operations() as operations:
                    call()
                counts.append(operations.count)
            print(
                f"| {name} | {step} | {kept[0]:.0f} | {kept[1]:.0f} | {kept[1] / kept[0]:.0%} "
                f"| {counts[0]} | {counts[1]} |"
            )
            rows.append({"network": name, "step": step, "kept": kept, "operations": counts})
        calls = {
            "batches": lambda t=task: (
                t.data.weight_batches.batch(1),
                t.data.arch_batches.batch(1),
            ),
            "step": lambda t=task, p=pair: (
                t.arch_step(*p.batches, 0.5),
                t.step_weights(p.batches[0], 0.5),
            ),
        }
        seconds = interleaved(calls, repeats=3, device=compute.device)
        share = seconds["batches"] / seconds["step"]
        print(f"\n{name}: preparing both batches takes {share:.1%} of a step (W + A)\n")
        rows.append({"network": name, "pipeline_share": share})
    return rows


def _print_kinds(arguments: argparse.Namespace, compute: Compute) -> dict[str, dict[str, float]]:
    """Where the time of a DARTS weight step goes."""
    pair = Pair(NETWORKS["darts"], arguments.layers, arguments.batches[0], compute)
    calls = {
        "plain": lambda: pair.plain_step(pair.batches[0], weights=True),
        "fused": lambda: pair.task.step_weights(pair.batches[0], 0.5),
    }
    shares = {}
    for name, call in calls.items():
        call()
        shares[name] = time_per_kind(call, compute.device)
    print("| kind of operation, DARTS W step | plain | fused |\n|---|---|---|")
    for kind in shares["plain"]:
        print(f"| {kind} | {shares['plain'][kind]:.0%} | {shares['fused'].get(kind, 0):.0%} |")
    return shares


def _print_roofline(arguments: argparse.Namespace, compute: Compute) -> dict[str, float]:
    """The fused DARTS weight step against what its operations and bytes would take at best."""
    batch = arguments.batches[0]
    pair = Pair(NETWORKS["darts"], arguments.layers, batch, compute)
    images = pair.batches[0][0]
    mixture = pair.relaxation(pair.task.alphas).detach()
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        pair.plain(images, {kind: cell.ops for kind, cell in mixture.items()})
    with Operations() as operations:
        pair.task.step_weights(pair.batches[0], 0.5)
    best = ceilings(compute.device)
    call = {"step": lambda: pair.task.step_weights(pair.batches[0], 0.5)}
    seconds = interleaved(call, repeats=3, device=compute.device)["step"]
    total = 3 * flops.get_total_flops()  # the backward pass counted as two forward passes
    by_flops = total / best["flops_per_second"]
    by_bytes = operations.bytes / best["bytes_per_second"]
    print(
        f"\nRoofline, DARTS W step, batch {batch}: {total / 1e9:.1f} GFLOP at "
        f"{best['flops_per_second'] / 1e9:.0f} GFLOP/s take {1e3 * by_flops:.0f} ms; "
        f"{operations.bytes / 1e9:.1f} GB, if every operation goes to memory, at "
        f"{best['bytes_per_second'] / 1e9:.1f} GB/s {1e3 * by_bytes:.0f} ms; "
        f"measured {1e3 * seconds:.0f} ms"
    )
    return {**best, "flops": total, "bytes": operations.bytes, "seconds": seconds}


def _print_projection(compute: Compute, warm_up: int = 10, measured: int = 30) -> dict[str, float]:
    """Whole steps (W, A, batches) on as many images as CIFAR-10 has, and the papers' runs."""
    found = {}
    for name, batch, epochs in (("darts", 64, 50), ("gdas", 64, 250)):
        network = NETWORKS[name]
        task = search_task(
            network.relaxation, FirstOrder(), network.layout(8), batch, 25_000, compute
        )
        steps = task.steps_per_epoch
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        for step in range(warm_up + measured):
            if step == warm_up:
                torch.cuda.synchronize()
                start = time.perf_counter()
            task.train_step(Progress(0, 1, step, steps))
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / measured * steps
        peak = torch.cuda.max_memory_allocated() / MEBIBYTE
        print(
            f"\n{name}, batch {batch}: {seconds:.1f} s per epoch of {steps} steps ({measured} "
            f"measured), so {epochs} epochs take {epochs * seconds / 60:.1f} min without "
            f"evaluation; peak memory {peak:.0f} MiB"
        )
        found[name] = seconds
    return found
