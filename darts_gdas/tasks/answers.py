"""What a network says of every single image, how sure it is, and where it is most wrong."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.images import Images
from darts_gdas.tasks.batches import Evaluation, evaluate, full_precision
from darts_gdas.tasks.calibration import Calibration, calibration


@dataclass(frozen=True)
class Answers:
    """The class that a network takes each image of a set for; on the CPU.

    Attributes:
        said: The class.
        confidence: Its probability by the network.
        labels: The true class.
    """

    said: Int64[Tensor, " images"]
    confidence: Float[Tensor, " images"]
    labels: Int64[Tensor, " images"]

    @property
    def is_right(self) -> Bool[Tensor, " images"]:
        """Whether the network takes an image for what it is."""
        return self.said == self.labels

    def calibration(self) -> Calibration:
        """How far the confidence can be taken at its word."""
        return calibration(self.confidence, self.is_right)

    def worst(self, most: int) -> list[int]:
        """Positions of the images that are taken for another class with the highest confidence."""
        wrong = (~self.is_right).nonzero().flatten()
        order = self.confidence[wrong].argsort(descending=True, stable=True)
        return wrong[order[:most]].tolist()


@dataclass
class _Listener:
    """A network that remembers what it has said, batch by batch."""

    net: nn.Module
    said: list[Tensor] = field(default_factory=list)
    confidence: list[Tensor] = field(default_factory=list)

    def __call__(self, images: Tensor) -> Tensor:
        logits = self.net(images)
        said = full_precision(logits).topk(1).indices  # as the accuracy has it
        self.said.append(said[:, 0].cpu())
        self.confidence.append(logits.double().softmax(1).gather(1, said)[:, 0].cpu())
        return logits


def evaluate_answers(
    net: nn.Module, images: Images, normalize: Normalize, compute: Compute
) -> tuple[Evaluation, Answers]:
    """What a network does on a data set, in sum and image by image.

    Args:
        net: Is set to evaluation.
        images: The data set.
        normalize: Applied to the images.
        compute: Device and precision, without other ranks.
    """
    assert compute.ranks.size == 1
    listener = _Listener(net.eval())
    found = evaluate(listener, images, normalize=normalize, batch_size=256, compute=compute)
    answers = Answers(torch.cat(listener.said), torch.cat(listener.confidence), images.labels.cpu())
    return found, answers
