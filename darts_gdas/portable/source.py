"""A trained network as Python code that needs torch alone, and its weights under the code's names.

The code is for people: the blocks in use (`portable.parts`), one class per kind of cell with its
nodes written out, one class `Net`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from darts_gdas.nets import DerivedNet, Stem
from darts_gdas.nets.candidates import FactorizedReduce, ReluConvNorm
from darts_gdas.nets.layout import NORMAL, REDUCE, RESIDUAL, CellPlan, Layout
from darts_gdas.portable.cell_code import cell_class, written_edges
from darts_gdas.portable.parts import Parts
from darts_gdas.portable.plain import ResidualReduction
from darts_gdas.tasks.model import TrainedModel

WIDTH = 100
CELLS, STRIDES = {NORMAL: "NormalCell", REDUCE: "ReductionCell"}, {NORMAL: 1, REDUCE: 2}
AROUND = {block.__name__: block for block in (ReluConvNorm, FactorizedReduce, ResidualReduction)}
AROUND |= {"torch": torch, "nn": nn, "Tensor": Tensor}
"""What the code of cells and of the network names beside operations."""


def source_of(model: TrainedModel, about: Sequence[str]) -> str:
    """The file's text.

    Args:
        model: The trained network.
        about: Lines of the module's docstring.

    Raises:
        ValueError: If the genotype names an operation whose code cannot be copied.
    """
    net = model.net
    kinds = [kind for kind in (NORMAL, REDUCE) if kind in net.layout.kinds]
    cells = [
        cell_class(
            CELLS[kind],
            net.genotype.cells[kind],
            stride=STRIDES[kind],
            halves=any(plan.halves_first_input for plan in net.plans if plan.kind == kind),
        )
        for kind in kinds
    ]
    body = "\n\n\n".join([*cells, _net_class(model)])
    parts = Parts(reserved=(*CELLS.values(), "Net", "CLASSES"))
    parts.add_known(body, AROUND)
    for kind in kinds:
        for edge in written_edges(net.genotype.cells[kind], STRIDES[kind]):
            parts.add_operation(edge.op, edge.stride)
    docstring = "\n".join(['"""' + about[0], *about[1:], '"""'])
    classes = _tuple("CLASSES", [quoted(name) for name in model.classes])
    definitions = "\n\n\n".join([classes, *parts.blocks.values(), body])
    return f"{docstring}\n\n{parts.imports()}\n\n{definitions}\n"


def weights_of(net: DerivedNet) -> dict[str, Tensor]:
    """The weights under the names of the written code: those that logits depend on."""
    prefixes = _prefixes(net)
    return {
        theirs + name[len(ours) :]: weight
        for name, weight in net.state_dict().items()
        for ours, theirs in prefixes.items()
        if name.startswith(f"{ours}.")
    }


def quoted(text: str) -> str:
    """A string literal in double quotes and ASCII.

    Example:
        >>> print(quoted("it's"))
        "it's"
    """
    literal = ascii(text)
    if literal.startswith('"'):
        return literal
    return '"' + literal[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'


def _prefixes(net: DerivedNet) -> dict[str, str]:
    """Where the modules of ours are in the written code."""
    names = {"tail": "tail", "classifier": "classifier"}
    if net.layout.stem is Stem.cifar:
        names |= {"stem.conv": "stem.0", "stem.norm": "stem.1"}
    else:
        names |= {"stem.first": "stem_quarter", "stem.second": "stem_eighth"}
    for position, kind in enumerate(net.layout.kinds):
        place = f"cells.{position}"
        if kind == RESIDUAL:
            names[place] = place
            continue
        names[f"{place}.inputs.0"] = f"{place}.enter_before"
        names[f"{place}.inputs.1"] = f"{place}.enter_last"
        for edge in written_edges(net.genotype.cells[kind], STRIDES[kind]):
            names[f"{place}.nodes.{edge.node}.{edge.position}"] = f"{place}.{edge.label}"
    return names


def _net_class(model: TrainedModel) -> str:
    layout = model.net.layout
    height, width = model.image_size
    shape = f"[batch, {layout.in_channels}, {height}, {width}]"
    mean, std = (_numbers(values) for values in (model.normalize.mean, model.normalize.std))
    lines = [
        "class Net(nn.Module):",
        f'    """{layout.layers} cells between a stem and a linear classifier."""',
        "",
        "    mean: Tensor",
        "    std: Tensor",
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        f"        mean, std = torch.tensor({mean}), torch.tensor({std})",
        '        self.register_buffer("mean", mean.view(-1, 1, 1), persistent=False)',
        '        self.register_buffer("std", std.view(-1, 1, 1), persistent=False)',
        *_stem_lines(layout),
        "        self.cells = nn.ModuleList(",
        "            [",
        *(f"                {_cell_call(plan)}," for plan in model.net.plans),
        "            ]",
        "        )",
    ]
    features = model.net.num_features
    two_states = layout.skeleton.num_inputs == 2
    if not two_states:
        lines.append(f"        self.tail = nn.Sequential(nn.BatchNorm2d({features}), nn.ReLU())")
    last = "last" if two_states else "self.tail(x)"
    lines += [
        f"        self.classifier = nn.Linear({features}, {layout.num_classes})",
        "",
        "    def forward(self, images: Tensor) -> Tensor:",
        f'        """Logits [batch, {layout.num_classes}] of images {shape}, pixels 0 to 255."""',
        "        x = (images - 255 * self.mean) / (255 * self.std)",
        *_run_lines(layout),
        f"        return self.classifier({last}.mean(dim=(2, 3)))",
    ]
    return "\n".join(lines)


def _stem_lines(layout: Layout) -> list[str]:
    images, first = layout.in_channels, layout.stem_channels
    if layout.stem is Stem.cifar:
        conv = f"nn.Conv2d({images}, {first}, 3, padding=1, bias=False)"
        line = f"        self.stem = nn.Sequential({conv}, nn.BatchNorm2d({first}))"
        if len(line) <= WIDTH:
            return [line]
        inside = f"            {conv}, nn.BatchNorm2d({first})"
        return ["        self.stem = nn.Sequential(", inside, "        )"]

    def conv_norm(before: int, after: int) -> list[str]:
        return [
            f"            nn.Conv2d({before}, {after}, 3, stride=2, padding=1, bias=False),",
            f"            nn.BatchNorm2d({after}),",
        ]

    half = first // 2
    return [
        "        self.stem_quarter = nn.Sequential(",
        *conv_norm(images, half),
        "            nn.ReLU(),",
        *conv_norm(half, first),
        "        )",
        "        self.stem_eighth = nn.Sequential(",
        "            nn.ReLU(),",
        *conv_norm(first, first),
        "        )",
    ]


def _run_lines(layout: Layout) -> list[str]:
    if layout.skeleton.num_inputs == 1:
        return [
            "        x = self.stem(x)",
            "        for cell in self.cells:",
            "            x = cell(x)",
        ]
    begin = (
        ["        before = last = self.stem(x)"]
        if layout.stem is Stem.cifar
        else ["        before = self.stem_quarter(x)", "        last = self.stem_eighth(before)"]
    )
    return [
        *begin,
        "        for cell in self.cells:",
        "            before, last = last, cell(before, last)",
    ]


def _cell_call(plan: CellPlan) -> str:
    reads = () if plan.kind == NORMAL and len(plan.in_channels) == 1 else plan.in_channels
    arguments = [str(number) for number in (*reads, plan.channels)]
    if plan.halves_first_input:
        arguments.append("halve=True")
    return f"{CELLS.get(plan.kind, 'ResidualReduction')}({', '.join(arguments)})"


def _numbers(values: Tensor) -> str:
    """Literals that give the same float32 numbers."""
    return f"[{', '.join(str(np.float32(value)) for value in values.tolist())}]"


def _tuple(name: str, items: Sequence[str]) -> str:
    line = f"{name} = ({', '.join(items)})"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name} = (", *(f"    {item}," for item in items), ")"])
