"""A trained network as Python code that needs torch alone, and its weights under the code's names.

The code is for people: the blocks in use (from `portable.plain`), one class per kind of cell with
its nodes written out, one class `Net`.
"""

import inspect
import re
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from darts_gdas.nets import DerivedNet
from darts_gdas.nets.code import Code
from darts_gdas.nets.layout import CellPlan
from darts_gdas.portable import plain
from darts_gdas.portable.cells import cell_class, edge_names, live_nodes, only_edge, written
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import TrainedModel

WIDTH = 100
BLOCKS = {
    name: inspect.getsource(block)
    for name, block in vars(plain).items()
    if (inspect.isclass(block) or inspect.isfunction(block)) and inspect.getmodule(block) is plain
}


def source_of(model: TrainedModel, about: Sequence[str]) -> str:
    """The file's text.

    Args:
        model: The trained network.
        about: Lines of the module's docstring.

    Raises:
        ValueError: If the genotype names an operation that a user has registered.
    """
    net = model.net
    code, cells = _code(net), []
    for kind, name in code.classes.items():
        plans = [plan for plan in net.plans if plan.kind == kind]
        if plans and kind in net.layout.searched_kinds:
            halves = any(plan.halves_first_input for plan in plans)
            cell = net.genotype.cells[kind]
            cells.append(cell_class(name, cell, stride=plans[0].stride, halves=halves))
    body = "\n\n\n".join([*cells, _net_class(model, code)])
    body = "\n\n\n".join([*_blocks_in(body), body])
    docstring = "\n".join(['"""' + about[0], *about[1:], '"""'])
    classes = _tuple("CLASSES", [quoted(name) for name in model.classes])
    return f"{docstring}\n\n{_imports(body)}\n\n{classes}\n\n\n{body}\n"


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
            _, form = only_edge(net.genotype.cells[kind], plan.stride)
            names[f"{place}.nodes.0.0{form.ours}"] = f"{place}{form.theirs}"
            continue
        names[f"{place}.inputs.0"] = f"{place}.enter_before"
        names[f"{place}.inputs.1"] = f"{place}.enter_last"
        cell = net.genotype.cells[kind]
        labels = edge_names(cell)
        for node in live_nodes(cell):
            for i, (edge, label) in enumerate(zip(cell.nodes[node], labels[node], strict=True)):
                form = written(edge.op, plan.edge_from(edge.source)[1])
                if form is not None:
                    names[f"{place}.nodes.{node}.{i}{form.ours}"] = f"{place}.{label}{form.theirs}"
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
        *(
            f"                {_cell_call(plan, code, model.net.genotype)},"
            for plan in model.net.plans
        ),
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


def _cell_call(plan: CellPlan, code: Code, genotype: Genotype) -> str:
    if plan.kind not in code.classes:
        call, _ = only_edge(genotype.cells[plan.kind], plan.stride)
        numbers = {"before": plan.in_channels[0], "channels": plan.channels}
        return re.sub(r"\b(before|channels)\b", lambda found: str(numbers[found[0]]), call)
    is_cell = plan.kind in genotype.cells
    reads = () if is_cell and len(plan.in_channels) == 1 else plan.in_channels
    arguments = [str(number) for number in (*reads, plan.channels)]
    if plan.halves_first_input:
        arguments.append("halve=True")
    return f"{code.classes[plan.kind]}({', '.join(arguments)})"


def _blocks_in(body: str) -> list[str]:
    """The blocks that the code names, and those that they name."""
    needed: set[str] = set()
    text = body
    while True:
        found = {name for name in BLOCKS if re.search(rf"\b{name}\b", text)}
        if found <= needed:
            return [source.rstrip() for name, source in BLOCKS.items() if name in needed]
        needed |= found
        text = "\n".join([body, *(BLOCKS[name] for name in needed)])


def _imports(body: str) -> str:
    groups = [["import math"] if "math." in body else [], ["import torch"]]
    groups[1] += ["import torch.nn.functional as F"] if re.search(r"\bF\.", body) else []
    groups[1].append("from torch import Tensor, nn")
    return "\n\n".join("\n".join(lines) for lines in groups if lines)


def _numbers(values: Tensor) -> str:
    """Literals that give the same float32 numbers."""
    return f"[{', '.join(str(np.float32(value)) for value in values.tolist())}]"


def _tuple(name: str, items: Sequence[str]) -> str:
    line = f"{name} = ({', '.join(items)})"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name} = (", *(f"    {item}," for item in items), ")"])
