"""A trained network as Python code that needs torch alone, and its weights under the code's names.

The code is for people: the blocks in use (`portable.parts`), one class per kind of cell with its
nodes written out, one class `Net`.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from darts_gdas.nets import DerivedNet
from darts_gdas.nets.candidates import FactorizedReduce, ReluConvNorm
from darts_gdas.nets.code import Code
from darts_gdas.nets.layout import CellPlan
from darts_gdas.portable.cell_code import cell_class, written_edges
from darts_gdas.portable.parts import Parts, expression
from darts_gdas.tasks.model import TrainedModel

WIDTH = 100
AROUND = {block.__name__: block for block in (ReluConvNorm, FactorizedReduce)}
AROUND |= {"torch": torch, "nn": nn, "Tensor": Tensor}
"""What the code of cells and of the network names beside operations."""


def source_of(model: TrainedModel, about: Sequence[str]) -> str:
    """The file's text.

    Args:
        model: The trained network.
        about: Lines of the module's docstring.

    Raises:
        ValueError: If the code of an operation, or of a block around the cells, cannot be copied.
    """
    net, code = model.net, _code(model.net)
    kinds = [kind for kind in code.classes if kind in net.layout.searched_kinds]
    strides = {plan.kind: plan.stride for plan in net.plans}
    cells = [
        cell_class(
            code.classes[kind],
            net.genotype.cells[kind],
            stride=strides[kind],
            halves=any(plan.halves_first_input for plan in net.plans if plan.kind == kind),
        )
        for kind in kinds
    ]
    body = "\n\n\n".join([*cells, _net_class(model, code)])
    parts = Parts(reserved=(*(code.classes[kind] for kind in kinds), "Net", "CLASSES"))
    try:
        parts.add_known(body, AROUND | vars(sys.modules[type(net.layout.skeleton).__module__]))
    except LookupError as error:
        raise ValueError(f"this network cannot be written as Python code: {error}") from error
    for kind in kinds:
        for edge in written_edges(net.genotype.cells[kind], strides[kind]):
            parts.add_operation(edge.op, edge.stride)
    for plan in net.plans:
        if plan.kind not in code.classes:
            parts.add_operation(*_only_operation(net, plan))
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


def _code(net: DerivedNet) -> Code:
    """The outer network, written out."""
    last = net.plans[-1]
    channels = last.channels * len(net.genotype.cells[last.kind].output)
    return net.layout.skeleton.code(net.layout, channels)


def _prefixes(net: DerivedNet) -> dict[str, str]:
    """Where the modules of ours are in the written code."""
    code = _code(net)
    names = {**code.names, "classifier": "classifier"}
    for position, plan in enumerate(net.plans):
        kind, place = plan.kind, f"cells.{position}"
        if kind not in net.layout.searched_kinds:
            names[place] = place
            continue
        if kind not in code.classes:
            names[f"{place}.nodes.0.0"] = place
            continue
        names[f"{place}.inputs.0"] = f"{place}.enter_before"
        names[f"{place}.inputs.1"] = f"{place}.enter_last"
        for edge in written_edges(net.genotype.cells[kind], plan.stride):
            names[f"{place}.nodes.{edge.node}.{edge.position}"] = f"{place}.{edge.label}"
    return names


def _net_class(model: TrainedModel, code: Code) -> str:
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
        *_indented(code.stem),
        "        self.cells = nn.ModuleList(",
        "            [",
        *(f"                {_cell_call(model.net, plan, code)}," for plan in model.net.plans),
        "            ]",
        "        )",
        *_indented(code.tail),
        f"        self.classifier = nn.Linear({model.net.num_features}, {layout.num_classes})",
        "",
        "    def forward(self, images: Tensor) -> Tensor:",
        f'        """Logits [batch, {layout.num_classes}] of images {shape}, pixels 0 to 255."""',
        "        x = (images - 255 * self.mean) / (255 * self.std)",
        *_indented(code.run),
        f"        return self.classifier({code.last}.mean(dim=(2, 3)))",
    ]
    return "\n".join(lines)


def _indented(lines: Sequence[str]) -> list[str]:
    """Statements as they stand in a method."""
    return [f"        {line}" for line in lines]


def _cell_call(net: DerivedNet, plan: CellPlan, code: Code) -> str:
    if plan.kind not in code.classes:
        return expression(*_only_operation(net, plan)) or "nn.Identity()"
    is_cell = plan.kind in net.layout.searched_kinds
    reads = () if is_cell and len(plan.in_channels) == 1 else plan.in_channels
    arguments = [str(number) for number in (*reads, plan.channels)]
    if plan.halves_first_input:
        arguments.append("halve=True")
    return f"{code.classes[plan.kind]}({', '.join(arguments)})"


def _only_operation(net: DerivedNet, plan: CellPlan) -> tuple[str, int, tuple[int, int]]:
    """Operation, stride and channels of a cell that is written as its only operation."""
    edges = [edge for node in net.genotype.cells[plan.kind].nodes for edge in node]
    if len(edges) > 1:
        raise ValueError(
            "a block is written as its only operation; export this network with --format torch or "
            "onnx"
        )
    before, channels, stride = plan.edge_from(0)
    return edges[0].op, stride, (before, channels)


def _numbers(values: Tensor) -> str:
    """Literals that give the same float32 numbers."""
    return f"[{', '.join(str(np.float32(value)) for value in values.tolist())}]"


def _tuple(name: str, items: Sequence[str]) -> str:
    line = f"{name} = ({', '.join(items)})"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name} = (", *(f"    {item}," for item in items), ")"])
