"""The file of a trained model: what stands in it, how it is written, how it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from darts_gdas.nets.layout import SKELETONS, Layout, Stem
from darts_gdas.reasons import reason
from darts_gdas.runtime import checkpoint
from darts_gdas.runtime.checkpoint import CheckpointError, State
from darts_gdas.runtime.state import UNFIT
from darts_gdas.space import Genotype

KIND, NAME = "model", "model.pt"
Made = TypeVar("Made")


@dataclass(frozen=True)
class StoredModel:
    """The contents of a file, which holds them as plain data (`runtime.checkpoint`).

    Attributes:
        genotype: The cells of the network.
        layout: Its outer network.
        auxiliary: Whether the weights are with those of an auxiliary head.
        weights: Its state dict.
        mean: Mean of each channel of the training images; see `runtime.augment.Normalize`.
        std: Deviation of each channel.
        classes: Names of the outputs.
        image_size: (height, width) it was trained on.
    """

    genotype: Genotype
    layout: Layout
    auxiliary: bool
    weights: Mapping[str, Tensor]
    mean: Tensor
    std: Tensor
    classes: tuple[str, ...]
    image_size: tuple[int, int]

    def write(self, path: Path) -> None:
        """Write the file, atomically, with its sha256 beside it."""
        plain = {
            "genotype": self.genotype.to_json(),
            "layout": layout_to_dict(self.layout),
            "classes": list(self.classes),
            "image_size": list(self.image_size),
        }
        checkpoint.save(path, {"kind": KIND, **vars(self), **plain})

    @classmethod
    def from_state(cls, state: State) -> "StoredModel":
        """What stands in a file; raises one of `UNFIT` where that is no model."""
        height, width = state["image_size"]
        return cls(
            Genotype.from_json(state["genotype"]),
            layout_from_dict(state["layout"]),
            state["auxiliary"],
            state["weights"],
            state["mean"],
            state["std"],
            tuple(state["classes"]),
            (height, width),
        )


def read_model(path: Path | str, build: Callable[[StoredModel], Made]) -> Made:
    """Read a trained model's file and make something of it; runs no code from the file.

    Args:
        path: A `model.pt`, or the folder of the finished retraining that holds one.
        build: Gets the contents. What it raises over parts that do not fit is the file's fault.

    Raises:
        CheckpointError: If the file is missing, damaged or not a model.
    """
    path = Path(path)
    if path.is_dir():
        _check_retraining(path)
        path = path / NAME
    state = checkpoint.load(path)
    if state.get("kind") != KIND:
        raise CheckpointError(
            f"{str(path)!r} is not a trained model; name the {NAME} of a finished retraining"
        )
    try:
        return build(StoredModel.from_state(state))
    except UNFIT as error:  # a damaged file, or a stranger's
        raise CheckpointError(f"{str(path)!r} is no model of ours: {reason(error)}") from None


def _check_retraining(folder: Path) -> None:
    """Tell a run that has no model from a model that cannot be read."""
    if (folder / "genotype.json").exists() and not (folder / NAME).exists():
        raise CheckpointError(
            f"run {str(folder)!r} holds no trained network ({NAME}): it is a search, or a "
            "retraining that is not finished; train a search's cell first"
        )


def layout_to_dict(layout: Layout) -> dict[str, Any]:
    """A layout as plain values."""
    return {
        "channels": layout.channels,
        "layers": layout.layers,
        "num_classes": layout.num_classes,
        "in_channels": layout.in_channels,
        "stem": layout.stem.value,
        "reductions": layout.reductions,
        "skeleton": layout.skeleton.name,
        "widths": layout.widths,
    }


def layout_from_dict(settings: Mapping[str, Any]) -> Layout:
    """The inverse of `layout_to_dict`; older files lack the skeleton, which was that of DARTS."""
    name = settings.get("skeleton", "darts")
    if name not in SKELETONS:
        raise ValueError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}")
    stem = Stem(settings["stem"])
    return Layout(**{**settings, "stem": stem, "skeleton": SKELETONS[name]})
