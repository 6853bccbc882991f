"""Supernets as they are usually written: one module per operation and edge, one after the other.

What the step's speed is compared with. It follows the common structure of public implementations
(candidates in a module list per edge, every candidate computed and multiplied by its weight,
`none` included; Gumbel-hard with one weighted candidate per edge, chosen on the host edge by
edge; default memory layout; `loss.backward()` in both steps), in code of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_gdas.nets import SuperNet
from darts_gdas.nets.layout import NORMAL, RESIDUAL, Layout
from darts_gdas.space import CellSpace, SearchSpace


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Reduce(nn.Module):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels - channels // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))


def block(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    depthwise = nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )
    pointwise = nn.Conv2d(channels, channels, 1, bias=False)
    return [nn.ReLU(), depthwise, pointwise, nn.BatchNorm2d(channels, affine=False)]


def operation(name: str, channels: int, stride: int) -> nn.Module:
    kernel = int(name[-1]) if name[-1].isdigit() else 0
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else Reduce(channels, channels)
    if name.startswith("sep"):
        first = block(channels, kernel, stride)
        return nn.Sequential(*first, *block(channels, kernel, 1))
    if name.startswith("nor_conv"):
        conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels, affine=False))
    if name.startswith("dil"):
        return nn.Sequential(*block(channels, kernel, stride, 2))
    pool = (
        nn.MaxPool2d(3, stride, 1)
        if name.startswith("max")
        else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    )
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


class Edge(nn.Module):
    def __init__(self, names: tuple[str, ...], channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation(name, channels, stride) for name in names)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self.operations, strict=True))  # type: ignore[return-value]

    def forward_one(self, x: Tensor, weights: Tensor) -> Tensor:
        chosen = int(weights.argmax().item())
        return weights[chosen] * self.operations[chosen](x)


class Cell(nn.Module):
    def __init__(
        self, space: SearchSpace, kind: str, before: int, last: int, channels: int, halves: bool
    ) -> None:
        super().__init__()
        self.space = space.cells[kind]
        stride = 2 if kind == "reduce" else 1
        self.first = Reduce(before, channels) if halves else _mix(before, channels)
        self.second = _mix(last, channels)
        self.edges = nn.ModuleList(
            Edge(names, channels, stride if source < 2 else 1)
            for names, (_, source) in zip(self.space.candidates, self.space.edges, strict=True)
        )

    def forward(self, before: Tensor, last: Tensor, weights: Tensor, one: bool) -> Tensor:
        states = [self.first(before), self.second(last)]
        return torch.cat(_run_edges(self.space, self.edges, states, weights, one)[2:], dim=1)


def _run_edges(
    space: CellSpace, edges: nn.ModuleList, states: list[Tensor], weights: Tensor, one: bool
) -> list[Tensor]:
    for node in range(space.num_nodes):
        total = 0
        for i in space.edges_into(node):
            edge, x = edges[i], states[space.edges[i][1]]
            total = total + (edge.forward_one if one else edge)(x, weights[i])  # type: ignore[operator]
        states.append(total)  # type: ignore[arg-type]
    return states


def _mix(channels_in: int, channels: int) -> nn.Module:
    conv = nn.Conv2d(channels_in, channels, 1, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels, affine=False))


class PlainSuperNet(nn.Module):
    """The same function as `SuperNet` on images whose sides are multiples of four."""

    def __init__(self, space: SearchSpace, layout: Layout) -> None:
        super().__init__()
        self.kinds = layout.kinds
        last = before = layout.stem_channels
        self.stem = nn.Sequential(
            nn.Conv2d(layout.in_channels, last, 3, padding=1, bias=False), nn.BatchNorm2d(last)
        )
        cells, channels, halves = [], layout.channels, False
        for kind in self.kinds:
            channels *= 2 if kind == "reduce" else 1
            cells.append(Cell(space, kind, before, last, channels, halves))
            before, last, halves = last, 4 * channels, kind == "reduce"
        self.cells = nn.ModuleList(cells)
        self.classifier = nn.Linear(last, layout.num_classes)

    def forward(self, images: Tensor, weights: dict[str, Tensor], one: bool = False) -> Tensor:
        """Logits under weights [edges, candidates] per kind; `one`: only the largest per edge."""
        before = last = self.stem(images)
        for kind, cell in zip(self.kinds, self.cells, strict=True):
            before, last = last, cell(before, last, weights[kind], one)
        return self.classifier(F.adaptive_avg_pool2d(last, 1).flatten(1))


class Block(nn.Module):
    """Two convolutions beside a pooling and a 1x1 convolution: halves the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels // 2, channels, 2)
        self.second = _conv(channels, channels, 1)
        conv = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.second(self.first(x))


def _conv(before: int, channels: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels))


class PlainNasBench201(nn.Module):
    """The same function as `SuperNet` in the space of NAS-Bench-201."""

    def __init__(self, space: SearchSpace, layout: Layout) -> None:
        super().__init__()
        self.space, self.kinds = space.cells[NORMAL], layout.kinds
        channels = layout.channels
        conv = nn.Conv2d(layout.in_channels, channels, 3, padding=1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(channels))
        cells: list[nn.Module] = []
        for kind in self.kinds:
            channels *= 2 if kind == RESIDUAL else 1
            edges = (Edge(names, channels, 1) for names in self.space.candidates)
            cells.append(Block(channels) if kind == RESIDUAL else nn.ModuleList(edges))
        self.cells = nn.ModuleList(cells)
        self.tail = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.classifier = nn.Linear(channels, layout.num_classes)

    def forward(self, images: Tensor, weights: dict[str, Tensor], one: bool = False) -> Tensor:
        """Logits under weights [edges, candidates] of the normal cells, as in `PlainSuperNet`."""
        x = self.stem(images)
        for cell in self.cells:
            if isinstance(cell, nn.ModuleList):
                x = _run_edges(self.space, cell, [x], weights[NORMAL], one)[-1]
            else:
                x = cell(x)
        return self.classifier(F.adaptive_avg_pool2d(self.tail(x), 1).flatten(1))


def plain_net(space: SearchSpace, net: SuperNet) -> PlainSuperNet | PlainNasBench201:
    """The plain network with the weights of a fused one; both hold them in the same order."""
    kind = PlainNasBench201 if RESIDUAL in net.layout.kinds else PlainSuperNet
    plain = kind(space, net.layout)
    for mine, other in zip(plain.parameters(), net.parameters(), strict=True):
        mine.data.copy_(other.data)
    return plain
