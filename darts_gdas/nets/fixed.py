"""A supernet as a plain network: images in, logits out."""

from jaxtyping import Float
from torch import Tensor, nn

from darts_gdas.nets.mixture import Mixture
from darts_gdas.nets.supernet import SuperNet


class FixedMixture(nn.Module):
    """A supernet with a mixture, as a function of images alone."""

    def __init__(self, supernet: SuperNet, mixture: Mixture) -> None:
        super().__init__()
        self.supernet = supernet
        self.mixture = mixture

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits under the mixture."""
        return self.supernet(images, self.mixture)
