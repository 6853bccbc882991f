"""The stand-alone network of a genotype: what a search is for."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.blocks import AuxiliaryHead, build_inputs
from darts_gdas.nets.candidates import ReluConvNorm, State
from darts_gdas.nets.depthwise import make_plain
from darts_gdas.nets.dropout import path_factors
from darts_gdas.nets.layout import CellPlan, Layout, Stem
from darts_gdas.nets.mbconv import MBConv
from darts_gdas.nets.operations import OPERATIONS, check_operations
from darts_gdas.nets.stored import StoredModel, read_model
from darts_gdas.space import CellGenotype, Genotype


class DerivedCell(nn.Module):
    """One cell of a genotype, with affine norms and without norms after pooling."""

    def __init__(self, genotype: CellGenotype, plan: CellPlan) -> None:
        super().__init__()
        self.genotype = genotype
        self.inputs = build_inputs(plan, affine=True)
        self.nodes = nn.ModuleList(
            nn.ModuleList(
                OPERATIONS[edge.op].between(*plan.edge_from(edge.source), affine=True)
                for edge in edges
            )
            for edges in genotype.nodes
        )

    @property
    def num_paths(self) -> int:
        """How many paths drop-path may take, see `_may_drop`."""
        return sum(_may_drop(operation) for node in self.nodes for operation in node)  # type: ignore[attr-defined]

    def forward(
        self, inputs: Sequence[Tensor], factors: Tensor | None = None, *, rectify: bool = False
    ) -> Tensor:
        """The output of one cell, from the states that enter it.

        Args:
            inputs: The states. In a DARTS network all that reads a cell's output begins with a
                ReLU, so it has been taken, once, where the state was made.
            factors: One factor per path and sample, [num_paths, batch, 1, 1, 1]; None drops none.
            rectify: Return the output after a ReLU.
        """
        modules = cast(Sequence[ReluConvNorm], self.inputs)
        before = [module.after_relu(x) for module, x in zip(modules, inputs, strict=True)]
        paths = iter(() if factors is None else factors.to(before[0].dtype))
        states = [State(x) for x in before]
        for operations, edges in zip(self.nodes, self.genotype.nodes, strict=True):
            total: Tensor | None = None
            for operation, edge in zip(operations, edges, strict=True):  # type: ignore[arg-type]
                exempt = factors is None or not _may_drop(operation)
                state, factor = states[edge.source], None if exempt else next(paths)
                if isinstance(operation, MBConv):  # which scales inside, beside its own skip
                    y, factor = operation(state.x, factor), None
                else:
                    y = state.through(operation)
                total = _plus(total, y, factor)
            assert total is not None  # every node reads at least one state
            states.append(State(total))
        outgoing = [states[i] for i in self.genotype.output]
        return torch.cat([state.relu() if rectify else state.x for state in outgoing], dim=1)


def _may_drop(operation: nn.Module) -> bool:
    """Whether a sample can lose the path: no identity, and no block that is the only way on."""
    if isinstance(operation, MBConv):
        return operation.is_residual
    return not isinstance(operation, nn.Identity)


def _plus(total: Tensor | None, y: Tensor, factor: Tensor | None) -> Tensor:
    """Total + factor * y, scaled and added in one pass over memory."""
    if total is None:
        return y if factor is None else y * factor
    return total + y if factor is None else torch.addcmul(total, y, factor)


class DerivedNet(nn.Module):
    """The network a genotype stands for, trained from scratch.

    Args:
        genotype: The cells, one for each kind of the layout.
        layout: The outer network.
        auxiliary: Add a second classifier after cell 2 L // 3; its logits come second while
            training and are not computed in evaluation.

    Attributes:
        drop_path_probability: Chance that one sample loses one non-identity path, in training.
            Zero in a new network; a training loop raises it (Liu et al.: to 0.2, linearly).
        run_cell: Calls a cell with its states and factors; the place for a compiled call.
        plans: Where each cell stands, in order.
        num_features: Channels that `forward_features` returns and the classifier takes.

    Reference:
        Liu et al., ICLR 2019, section 3.2 (CIFAR-10) and 3.3 (ImageNet).
    """

    def __init__(self, genotype: Genotype, layout: Layout, *, auxiliary: bool = False) -> None:
        super().__init__()
        check_operations(genotype.operations, "the genotype")
        layout.check_cells(genotype.num_inputs, "the genotype")
        self.genotype = genotype
        self.layout = layout
        self.drop_path_probability = 0.0
        self.run_cell: Callable[..., Tensor] = _run
        outputs = {kind: len(cell.output) for kind, cell in genotype.cells.items()}
        self.plans = layout.plan(outputs)
        widths = [outputs.get(plan.kind, 1) * plan.channels for plan in self.plans]
        self.auxiliary_position = 2 * layout.layers // 3
        self.stem = layout.skeleton.build_stem(layout)
        self.cells = nn.ModuleList(
            DerivedCell(genotype.cells[plan.kind], plan)
            if plan.kind in layout.searched_kinds
            else layout.skeleton.fixed[plan.kind](plan)
            for plan in self.plans
        )
        self.tail, self.num_features = layout.skeleton.build_tail(layout, widths[-1])
        self.auxiliary = (
            AuxiliaryHead(widths[self.auxiliary_position], layout.num_classes)
            if auxiliary
            else None
        )
        self.classifier: nn.Module = nn.Linear(self.num_features, layout.num_classes)

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
            layers: Number of cells (ImageNet: 14); a chain has as many as the genotype.
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
        layout = Layout.of(genotype, channels, layers, num_classes, in_channels, stem)
        return cls(genotype, layout, auxiliary=auxiliary)

    @classmethod
    def from_run(cls, path: Path | str, *, plain: bool = True) -> "DerivedNet":
        """A trained network, to be used or trained further; in evaluation mode, on the CPU.

        It has no auxiliary head, so it returns logits alone in training too. What it was trained
        on had mean 0 and deviation 1 in every channel.

        Args:
            path: The folder of a finished retraining, or its `model.pt`.
            plain: Every convolution is an `nn.Conv2d` by class, so that counters of operations,
                quantisation and the like find it. Without it depthwise convolutions keep a class of
                their own, with the same function and, on a CPU, faster gradients.

        Raises:
            CheckpointError: (a `ValueError`) If there is none, or the file is damaged.
        """
        net = read_model(path, lambda model: cls.from_stored(model, auxiliary=False))
        if plain:
            make_plain(net)
        return net

    @classmethod
    def from_stored(cls, model: StoredModel, *, auxiliary: bool) -> "DerivedNet":
        """The network in a model's file, in evaluation mode, if wanted with its auxiliary head."""
        net = cls(model.genotype, model.layout, auxiliary=auxiliary)
        weights = model.weights.items()
        net.load_state_dict(
            {k: w for k, w in weights if auxiliary or not k.startswith("auxiliary.")}
        )
        return net.eval()

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> (
        Float[Tensor, "batch classes"]
        | tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]
    ):
        """Logits; while training with an auxiliary head, (logits, auxiliary logits)."""
        features, auxiliary_logits = self._run_cells(images, self.training)
        logits = self.forward_head(features)
        return logits if auxiliary_logits is None else (logits, auxiliary_logits)

    def forward_features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch num_features out_height out_width"]:
        """What the last cell makes of the images, before pooling; no auxiliary head runs."""
        return self._run_cells(images, False)[0]

    def forward_head(
        self, features: Float[Tensor, "batch num_features height width"], pre_logits: bool = False
    ) -> Float[Tensor, "batch outputs"]:
        """Pool the features and classify them; with `pre_logits`, pool them only."""
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.classifier(pooled)

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier; 0 where there is none."""
        return self.layout.num_classes if isinstance(self.classifier, nn.Linear) else 0

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new classifier, untrained, in place of the last one; the auxiliary head goes.

        Args:
            num_classes: Its outputs, at least 2; 0 puts none, so that pooled features come out.

        Raises:
            ValueError: If it is another number.
        """
        self.auxiliary, like = None, next(self.stem.parameters())
        if num_classes == 0:
            self.classifier = nn.Identity()
            return
        self.layout = replace(self.layout, num_classes=num_classes)
        self.classifier = nn.Linear(self.num_features, num_classes).to(like)

    def _run_cells(self, images: Tensor, with_auxiliary: bool) -> tuple[Tensor, Tensor | None]:
        """The features, and where they are wanted and there is a head, the auxiliary logits."""
        factors = self._path_factors(images)
        auxiliary_logits = None
        states = self.layout.skeleton.enter(self.stem, images)
        rectifies = self.layout.skeleton.rectifies
        for position, (cell, factor) in enumerate(zip(self.cells, factors, strict=True)):
            rectify = rectifies and position + 1 < len(self.cells)
            states = (*states[1:], self.run_cell(cell, states, factor, rectify))
            if with_auxiliary and self.auxiliary and position == self.auxiliary_position:
                auxiliary_logits = self.auxiliary(states[-1])
        return self.tail(states[-1]), auxiliary_logits

    def _path_factors(self, images: Tensor) -> Sequence[Tensor | None]:
        """Drop-path's factors of every cell, drawn at once."""
        if not self.training or self.drop_path_probability == 0:
            return [None] * len(self.cells)
        counts = [cell.num_paths if isinstance(cell, DerivedCell) else 0 for cell in self.cells]
        factors = path_factors(sum(counts), len(images), self.drop_path_probability, like=images)
        return factors.split(counts)


def _run(
    cell: nn.Module, states: tuple[Tensor, ...], factors: Tensor | None, rectify: bool
) -> Tensor:
    return cell(states, factors, rectify=rectify)
