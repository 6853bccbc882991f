"""Trained models: a derived network with all that is needed to use it (`nets.stored`)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from darts_gdas.nets import DerivedNet
from darts_gdas.nets.stored import StoredModel, read_model
from darts_gdas.runtime.augment import Normalize


@dataclass(frozen=True)
class Readme:
    """What people read of published weights.

    Attributes:
        text: Markdown, with the hub's metadata.
        network: A digest of the network that it tells of.
    """

    text: str
    network: str


@dataclass(frozen=True)
class TrainedModel:
    """A network with its classes and the normalisation it was trained with.

    Attributes:
        net: In evaluation mode.
        normalize: uint8 images [batch, channels, height, width] to what `net` takes.
        classes: Names of the outputs.
        image_size: (height, width) it was trained on.
        readme: What was published with it, where it is from the hub.
    """

    net: DerivedNet
    normalize: Normalize
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    readme: Readme | None = None

    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities [batch, classes] of uint8 images [batch, channels, height, width]."""
        with torch.no_grad():
            return self.net(self.normalize(images)).softmax(-1)


def save_model(path: Path, model: TrainedModel) -> None:
    """Write a model as plain data, atomically, with its sha256 beside it.

    Raises:
        ValueError: If its classifier has been taken away, or has another number of classes.
    """
    check_outputs(model)
    net = model.net
    StoredModel(
        net.genotype,
        net.layout,
        net.auxiliary is not None,
        net.state_dict(),
        model.normalize.mean,
        model.normalize.std,
        model.classes,
        model.image_size,
    ).write(path)


def check_outputs(model: TrainedModel) -> None:
    """Raise a `ValueError` unless the network tells the model's classes apart."""
    net = model.net
    if not isinstance(net.classifier, nn.Linear) or net.num_classes != len(model.classes):
        raise ValueError(
            f"a model is saved with its {len(model.classes)} classes, the network has "
            f"{net.num_classes}; give it as many by reset_classifier"
        )


def load_model(path: Path | str) -> TrainedModel:
    """Read a model back; runs no code from the file.

    Args:
        path: A `model.pt`, or the run folder that holds one.

    Raises:
        CheckpointError: If the file is missing, damaged or not a model.
    """

    def build(stored: StoredModel) -> TrainedModel:
        net = DerivedNet.from_stored(stored, auxiliary=stored.auxiliary)
        normalize = Normalize(stored.mean, stored.std)
        return TrainedModel(net, normalize, stored.classes, stored.image_size)

    return read_model(path, build)
