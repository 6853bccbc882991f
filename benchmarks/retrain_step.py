"""Time and memory of the retraining step, against the network as it is usually written."""

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import MEBIBYTE, interleaved, saved_bytes
from darts_gdas.nets import DerivedNet
from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.nets.derived import DerivedCell
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.optim import SGD
from darts_gdas.space import Genotype

DROP_PATH = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--genotype", default="DARTS_V2")
    parser.add_argument("--channels", type=int, default=36)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=[d.name for d in Device], default="auto")
    parser.add_argument("--precision", choices=[p.name for p in Precision], default="fp32")
    parser.add_argument(
        "--compile", nargs="*", choices=[c.name for c in Compilation], default=[], metavar="HOW"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks/retrain_step.json"))


def run(arguments: argparse.Namespace) -> None:
    device, precision = Device[arguments.device], Precision[arguments.precision]
    plain_compute, *ours = (
        Compute.select(device, precision, layout, arguments.threads, Compilation[how])
        for layout, how in [
            (False, "none"),
            (True, "none"),
            *((True, c) for c in arguments.compile),
        ]
    )
    torch.manual_seed(0)
    net = DerivedNet.build(
        Genotype.load(arguments.genotype), channels=arguments.channels, layers=arguments.layers
    )
    plain = plainly(copy.deepcopy(net))
    networks = {"plain": (plain, plain_compute)}
    for compute in ours:
        own = copy.deepcopy(net)
        own.run_cell = compute.compiled(own.run_cell)
        networks[f"ours, compile={compute.compilation.name}"] = own, compute
    steps = {name: step(*pair, arguments.batch) for name, pair in networks.items()}
    kept = {
        name: saved_bytes(call, networks[name][0].parameters()) / MEBIBYTE
        for name, call in steps.items()
    }
    seconds = interleaved(steps, repeats=arguments.repeats, device=plain_compute.device, warm_up=2)
    where = f"{plain_compute.describe()}; {platform.machine()}, torch {torch.__version__}"
    date = time.strftime("%Y-%m-%d")
    print(
        f"{where}, {date}; {arguments.genotype}, C={arguments.channels}, {arguments.layers} cells, "
        f"batch {arguments.batch}, drop-path {DROP_PATH}, auxiliary head\n"
    )
    print("| network | step, ms | plain / this | kept for backward, MiB |\n|---|---|---|---|")
    for name, value in seconds.items():
        ratio = seconds["plain"] / value
        print(f"| {name} | {1e3 * value:.0f} | {ratio:.2f} | {kept[name]:.0f} |")
    report = {"machine": where, "date": date, "seconds": seconds, "kept_mebibytes": kept}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out, json.dumps(report, indent=2) + "\n")
    print(f"\nAll figures: {arguments.out}")


def step(net: DerivedNet, compute: Compute, batch: int) -> Callable[[], None]:
    """One whole step of SGD on random images of CIFAR's size, drop-path at its end value."""
    net = compute.place(net).train()
    net.drop_path_probability = DROP_PATH
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    images = torch.randn(batch, 3, 32, 32).to(compute.device, memory_format=layout)
    labels = torch.arange(batch, device=compute.device) % net.layout.num_classes
    sgd = SGD()
    optimizer = sgd.build(net.parameters())

    def take() -> None:
        with compute.forward_pass():
            logits, auxiliary = net(images)
        losses = [F.cross_entropy(y.float(), labels) for y in (logits, auxiliary)]
        (losses[0] + 0.4 * losses[1]).backward()
        sgd.step(optimizer)

    return take


def plainly(net: DerivedNet) -> DerivedNet:
    """The same network as it is usually written: the library's convolutions, path by path."""
    for block in list(net.modules()):
        for name, child in block.named_children():
            if isinstance(child, Depthwise):
                setattr(block, name, _as_convolution(child))
    net.run_cell = _plain_cell
    return net


def _as_convolution(depthwise: Depthwise) -> nn.Conv2d:
    channels, _, kernel, _ = depthwise.weight.shape
    (stride, _), (dilation, _) = depthwise.stride, depthwise.dilation
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )
    conv.weight = depthwise.weight
    return conv


def _plain_cell(
    cell: DerivedCell, inputs: Sequence[Tensor], factors: Tensor | None, rectify: bool
) -> Tensor:
    states = [module(x) for module, x in zip(cell.inputs, inputs, strict=True)]
    keep = 1 - DROP_PATH
    for operations, edges in zip(cell.nodes, cell.genotype.nodes, strict=True):
        total: Tensor | None = None
        for operation, edge in zip(operations, edges, strict=True):  # type: ignore[arg-type]
            y = operation(states[edge.source])
            if not isinstance(operation, nn.Identity):
                mask = torch.empty(len(y), 1, 1, 1, device=y.device, dtype=y.dtype)
                y = y / keep * mask.bernoulli_(keep)
            total = y if total is None else total + y
        assert total is not None
        states.append(total)
    return torch.cat([states[i] for i in cell.genotype.output], dim=1)
