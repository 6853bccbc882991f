"""Trained models on disc: a derived network with all that is needed to use it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from darts_gdas.nets import DerivedNet, Layout, Skeleton, Stem
from darts_gdas.runtime import checkpoint
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.state import UNFIT
from darts_gdas.space import Genotype

KIND = "model"


@dataclass(frozen=True)
class TrainedModel:
    """A network with its classes and the normalisation it was trained with.

    Attributes:
        net: In evaluation mode.
        normalize: uint8 images [batch, channels, height, width] to what `net` takes.
        classes: Names of the outputs.
        image_size: (height, width) it was trained on.
    """

    net: DerivedNet
    normalize: Normalize
    classes: tuple[str, ...]
    image_size: tuple[int, int]

    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities [batch, classes] of uint8 images [batch, channels, height, width]."""
        with torch.no_grad():
            return self.net(self.normalize(images)).softmax(-1)


def save_model(path: Path, model: TrainedModel) -> None:
    """Write a model as plain data, atomically, with its sha256 beside it."""
    net = model.net
    layout = net.layout
    checkpoint.save(
        path,
        {
            "kind": KIND,
            "genotype": net.genotype.to_json(),
            "layout": {
                "channels": layout.channels,
                "layers": layout.layers,
                "num_classes": layout.num_classes,
                "in_channels": layout.in_channels,
                "stem": layout.stem.value,
                "reductions": layout.reductions,
                "skeleton": layout.skeleton.value,
            },
            "auxiliary": net.auxiliary is not None,
            "weights": net.state_dict(),
            "mean": model.normalize.mean,
            "std": model.normalize.std,
            "classes": list(model.classes),
            "image_size": list(model.image_size),
        },
    )


def load_model(path: Path | str) -> TrainedModel:
    """Read a model back; runs no code from the file.

    Args:
        path: A `model.pt`, or the run folder that holds one.

    Raises:
        CheckpointError: If the file is missing, damaged or not a model.
    """
    path = Path(path)
    path = path / "model.pt" if path.is_dir() else path
    state = checkpoint.load(path)
    if state.get("kind") != KIND:
        raise checkpoint.CheckpointError(f"{str(path)!r} is not a trained model")
    try:
        return _from_state(state)
    except UNFIT as error:  # a damaged file, or a stranger's
        reason = " ".join(str(error).split())[:300]
        raise checkpoint.CheckpointError(f"{str(path)!r} is no model of ours: {reason}") from None


def _from_state(state: checkpoint.State) -> TrainedModel:
    settings = state["layout"]
    skeleton = Skeleton(settings.get("skeleton", Skeleton.darts.value))  # older files lack it
    layout = Layout(**{**settings, "stem": Stem(settings["stem"]), "skeleton": skeleton})
    net = DerivedNet(Genotype.from_json(state["genotype"]), layout, auxiliary=state["auxiliary"])
    net.load_state_dict(state["weights"])
    height, width = state["image_size"]
    normalize = Normalize(state["mean"], state["std"])
    return TrainedModel(net.eval(), normalize, tuple(state["classes"]), (height, width))
