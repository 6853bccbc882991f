"""The stand-alone network of a genotype: what a search is for."""

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.layout import CellPlan, Layout, Stem, build_inputs, build_stem
from darts_gdas.nets.operations import (
    OPERATIONS,
    check_operations,
)
from darts_gdas.space import CellGenotype, Genotype


def drop_path(
    x: Float[Tensor, "batch channels height width"], probability: float
) -> Float[Tensor, "batch channels height width"]:
    """Zero whole samples with the given probability and scale the others to keep the mean.

    Raises:
        ValueError: If the probability is not in [0, 1).

    Reference:
        Larsson et al., ICLR 2017, https://arxiv.org/abs/1605.07648; per sample as in
        Zoph et al., CVPR 2018.
    """
    if not 0 <= probability < 1:
        raise ValueError(f"the probability of drop-path must lie in [0, 1), got {probability}")
    keep = 1.0 - probability
    mask = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep)
    return x * (mask / keep)


class DerivedCell(nn.Module):
    """One cell of a genotype, with affine norms and without norms after pooling."""

    def __init__(self, genotype: CellGenotype, plan: CellPlan) -> None:
        super().__init__()
        self.genotype = genotype
        self.inputs = build_inputs(plan, affine=True)
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                OPERATIONS[edge.op](
                    plan.channels, plan.stride if edge.source < genotype.num_inputs else 1, True
                )
                for edge in edges
            )
            for edges in genotype.nodes
        )

    def forward(self, inputs: Sequence[Tensor], drop_path_probability: float) -> Tensor:
        """The concatenated output of one cell, from (c_{k-2}, c_{k-1})."""
        states = [module(x) for module, x in zip(self.inputs, inputs, strict=True)]
        for operations, edges in zip(self.nodes, self.genotype.nodes, strict=True):
            incoming = []
            for operation, edge in zip(operations, edges, strict=True):  # type: ignore[arg-type]
                y = operation(states[edge.source])
                if drop_path_probability > 0 and not isinstance(operation, nn.Identity):
                    y = drop_path(y, drop_path_probability)
                incoming.append(y)
            states.append(reduce(torch.add, incoming))
        return torch.cat([states[i] for i in self.genotype.output], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier part-way through the network, for training only.

    The published heads pool 8x8 maps by windows of 5 with stride 3 (CIFAR) and 7x7 maps by
    windows of 5 with stride 2 (ImageNet), to 2x2 either way. `pool` generalises both to any size.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    @staticmethod
    def pool(x: Tensor) -> Tensor:
        """Average-pool to 2x2 by windows of about 5/8 of the side."""
        height, width = x.shape[2:]
        if min(height, width) == 1:
            return F.adaptive_avg_pool2d(x, 2)
        window = [min(-(-5 * side // 8), side - 1) for side in (height, width)]
        return F.avg_pool2d(x, window, stride=[height - window[0], width - window[1]])

    def forward(self, x: Tensor) -> Tensor:
        """Logits from the output of a cell."""
        return self.classifier(self.features(self.pool(F.relu(x))).flatten(1))


class DerivedNet(nn.Module):
    """The network a genotype stands for, trained from scratch.

    Args:
        genotype: The cells, kinds "normal" and "reduce".
        layout: The outer network.
        auxiliary: Add a second classifier after cell 2 L // 3; its logits come second while
            training and are not computed in evaluation.

    Attributes:
        drop_path_probability: Chance that one sample loses one non-identity path, in training.
            Zero in a new network; a training loop raises it (Liu et al.: to 0.2, linearly).

    Reference:
        Liu et al., ICLR 2019, section 3.2 (CIFAR-10) and 3.3 (ImageNet).
    """

    def __init__(self, genotype: Genotype, layout: Layout, *, auxiliary: bool = False) -> None:
        super().__init__()
        check_operations(genotype.operations, "the genotype")
        missing = set(layout.kinds) - set(genotype.cells)
        if missing:
            raise ValueError(
                f"the layout needs cells of kind {sorted(missing)}, "
                f"the genotype has {sorted(genotype.cells)}"
            )
        inputs = {kind: cell.num_inputs for kind, cell in genotype.cells.items()}
        if set(inputs.values()) != {2}:
            raise ValueError(
                f"this network feeds two states to a cell, the genotype takes {inputs}"
            )
        self.genotype = genotype
        self.layout = layout
        self.drop_path_probability = 0.0
        outputs = {kind: len(cell.output) for kind, cell in genotype.cells.items()}
        plans = layout.plan(outputs)
        widths = [outputs[plan.kind] * plan.channels for plan in plans]
        self.auxiliary_position = 2 * layout.layers // 3
        self.stem = build_stem(layout)
        self.cells = nn.ModuleList(DerivedCell(genotype.cells[plan.kind], plan) for plan in plans)
        self.auxiliary = (
            AuxiliaryHead(widths[self.auxiliary_position], layout.num_classes)
            if auxiliary
            else None
        )
        self.classifier = nn.Linear(widths[-1], layout.num_classes)

    @classmethod
    def build(
        cls,
        genotype: Genotype,
        *,
        channels: int = 36,
        layers: int = 20,
        num_classes: int = 10,
        in_channels: int = 3,
        auxiliary: bool = True,
        stem: str | Stem = Stem.cifar,
    ) -> "DerivedNet":
        """A network by its numbers; the defaults are the DARTS paper's for CIFAR-10.

        Args:
            genotype: The cells.
            channels: Channels of the first cells (ImageNet: 48).
            layers: Number of cells (ImageNet: 14).
            num_classes: Outputs.
            in_channels: Channels of the images.
            auxiliary: Add the auxiliary head.
            stem: "cifar" or "imagenet".
        """
        try:
            stem = Stem(stem)
        except ValueError:
            names = ", ".join(repr(known.value) for known in Stem)
            raise ValueError(f"stem must be one of {names}, got {stem!r}") from None
        layout = Layout(channels, layers, num_classes, in_channels, stem)
        return cls(genotype, layout, auxiliary=auxiliary)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> (
        Float[Tensor, "batch classes"]
        | tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]
    ):
        """Logits; while training with an auxiliary head, (logits, auxiliary logits)."""
        probability = self.drop_path_probability if self.training else 0.0
        auxiliary_logits = None
        states = self.stem(images)
        for position, cell in enumerate(self.cells):
            states = (states[1], cell(states, probability))
            if self.training and self.auxiliary and position == self.auxiliary_position:
                auxiliary_logits = self.auxiliary(states[1])
        logits = self.classifier(states[1].mean(dim=(2, 3)))
        return logits if auxiliary_logits is None else (logits, auxiliary_logits)
