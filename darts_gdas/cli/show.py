"""The program that shows a cell and what its network costs, part by part."""

import argparse
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from darts_gdas.nets import DerivedNet, Layout, Stem
from darts_gdas.nets.cost_table import cell_sizes
from darts_gdas.nets.costs import PartCost
from darts_gdas.nets.layout import skeleton_of
from darts_gdas.nets.profile import Profile, profile
from darts_gdas.nets.stored import NAME
from darts_gdas.report.cell_drawing import draw_genotype, save_drawing
from darts_gdas.report.columns import table_lines
from darts_gdas.report.dot import dot_text
from darts_gdas.report.summary import count
from darts_gdas.report.tree import INPUTS, Key, tree_lines
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.launch import command
from darts_gdas.runtime.terminal import for_who_waits
from darts_gdas.runtime.usage import wrong_input
from darts_gdas.space import Genotype
from darts_gdas.space.genotype import is_written_out
from darts_gdas.tasks.model import load_model

BATCHES = (1, 64)
COLUMNS = ["parameters", "multiply-adds", "kB kept", *(f"ms at {batch}" for batch in BATCHES)]
REMARK = (
    "Per image: multiply-adds, and kB that a training step keeps for its backward pass. Per batch "
    "of {batches}:\nms of a forward pass on {device}, the median of some, more where other work "
    "runs beside it; those of an\noperation are its own, run by itself, over all cells."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.source is None) == (options.compare is None):
        parser.error("name one GENOTYPE or RUN, or two with --compare A B")
    with wrong_input():
        if options.threads < 0:
            raise ValueError(f"--threads must be at least 0, all cores, got {options.threads}")
        compute = Compute.select(
            Device(options.device), Precision.fp32, False, threads=options.threads
        )
        nets = [_network(source, options) for source in options.compare or [options.source]]
        with for_who_waits() as progress:
            told = functools.partial(progress, "measuring cells")
            profiles = [
                profile(net, size, compute.device, batches=BATCHES, told=told) for net, size in nets
            ]
        if options.compare:
            print("\n".join(_comparison(options.compare, [net for net, _ in nets], profiles)))
        else:
            print("\n".join(_description(*nets[0], profiles[0])))
        print(
            "\n" + REMARK.format(batches=" and ".join(map(str, BATCHES)), device=compute.describe())
        )
        if options.out:
            _draw(Path(options.out), [net.genotype for net, _ in nets])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command("show"),
        description="Show a cell as a tree, with what its network costs per cell and operation.",
    )
    parser.add_argument(
        "source",
        nargs="?",
        metavar="GENOTYPE|RUN",
        help="a published name, a genotype.json, a NAS-Bench-201 string, a run, or a model.pt",
    )
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="two of them side by side")
    parser.add_argument("--channels", type=int, help="of the first cells; default: the paper's")
    parser.add_argument("--layers", type=int, help="number of cells; default: the paper's")
    parser.add_argument("--classes", type=int, help="outputs; default: 10")
    parser.add_argument("--image-size", type=int, help="height and width; default: 32")
    parser.add_argument(
        "--stem", choices=[stem.value for stem in Stem], help="what precedes the cells"
    )
    parser.add_argument(
        "--device", choices=[device.value for device in Device], default=Device.auto.value
    )
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; default: 0, all cores")
    parser.add_argument("--out", help="a folder for the drawing: cells.svg, cells.png, cells.dot")
    return parser


def _network(source: str, options: argparse.Namespace) -> tuple[DerivedNet, tuple[int, int]]:
    """The network and its image size: a retraining's own, else the paper's, with what is given."""
    path = Path(source)
    is_file = not is_written_out(source)  # whose name may be too long to look for
    if is_file and (path.suffix == ".pt" or (path.is_dir() and (path / NAME).exists())):
        model = load_model(path)
        genotype, layout, size = model.net.genotype, model.net.layout, model.image_size
    else:
        genotype, size = Genotype.load(source), (32, 32)
        layout = Layout.of(genotype, *skeleton_of(genotype.num_inputs).paper, num_classes=10)
    given = {
        "channels": options.channels,
        "layers": options.layers,
        "num_classes": options.classes,
        "stem": options.stem and Stem(options.stem),
    }
    layout = replace(layout, **{name: value for name, value in given.items() if value is not None})
    size = size if options.image_size is None else (options.image_size, options.image_size)
    layout.check_image_size(*size)
    return DerivedNet(genotype, layout), size


def _description(net: DerivedNet, size: tuple[int, int], costs: Profile) -> list[str]:
    layout = net.layout
    title = (
        f"{layout.layers} cells, {layout.channels} channels, {layout.num_classes} classes, "
        f"images {layout.in_channels} x {size[0]} x {size[1]}"
    )
    known = _costs_by_key(costs)
    rows = [[text, *_numbers(known.get(key))] for text, key in tree_lines(net.genotype)]
    parts = [["stem", *_numbers(costs.stem)]]
    places = zip(net.plans, cell_sizes(layout, size), costs.cells, strict=True)
    for position, (plan, (height, width), cost) in enumerate(places):
        name = f"cell {position} {plan.kind}, {plan.channels} x {height} x {width}"
        parts.append([name, *_numbers(cost)])
    parts += [["head", *_numbers(costs.head)], ["total", *_numbers(costs.total)]]
    return [
        title,
        "",
        *table_lines(["operation, in all cells of its kind", *COLUMNS], rows),
        "",
        *table_lines(["part, channels and pixels that enter", *COLUMNS], parts),
    ]


def _costs_by_key(costs: Profile) -> dict[Key, PartCost]:
    """Costs of edges, of what brings states into cells, and of both together for each kind."""
    found: dict[Key, PartCost] = {**costs.edges}
    for kind, cost in costs.inputs.items():
        found[kind, INPUTS] = cost
        edges = [other for key, other in costs.edges.items() if key[0] == kind]
        found[(kind,)] = sum(edges, cost)
    return found


def _numbers(cost: PartCost | None) -> list[str]:
    if cost is None:
        return [""] * len(COLUMNS)
    times = [f"{time:.2f}" for time in cost.milliseconds]
    return [count(cost.parameters), count(cost.multiply_adds), f"{cost.memory / 1e3:,.1f}", *times]


def _comparison(
    names: Sequence[str], nets: Sequence[DerivedNet], profiles: Sequence[Profile]
) -> list[str]:
    first, second = (costs.total for costs in profiles)
    pairs = [
        (first.parameters, second.parameters),
        (first.multiply_adds, second.multiply_adds),
        (first.memory / 1e3, second.memory / 1e3),
        *zip(first.milliseconds, second.milliseconds, strict=True),
    ]
    shown = [[_numbers(costs)[i] for costs in (first, second)] for i in range(len(pairs))]
    rows = [
        [name, *texts, f"{b / a:.2f}" if a else ""]
        for name, texts, (a, b) in zip(COLUMNS, shown, pairs, strict=True)
    ]
    counts = [_operations(net.genotype) for net in nets]
    for operation in sorted(counts[0] | counts[1]):
        rows.append([operation, *(str(found[operation]) for found in counts), ""])
    labels = [name if len(name) <= 24 else f"...{name[-21:]}" for name in names]
    return table_lines(["network, and edges of its cells", *labels, "B / A"], rows)


def _operations(genotype: Genotype) -> Counter[str]:
    return Counter(e.op for cell in genotype.cells.values() for edges in cell.nodes for e in edges)


def _draw(folder: Path, genotypes: Sequence[Genotype]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print()
    for number, genotype in enumerate(genotypes, 1):
        name = "cells" if len(genotypes) == 1 else f"cells_{number}"
        figure = draw_genotype(genotype)
        for suffix in ("svg", "png"):
            save_drawing(figure, folder / f"{name}.{suffix}")
            print(f"picture  {folder / name}.{suffix}")
        write_text(folder / f"{name}.dot", dot_text(genotype))
        print(f"graph    {folder / name}.dot")
