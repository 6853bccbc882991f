"""A trained network as a program: bytes in, logits out, in PyTorch's format or as ONNX."""

import importlib.util
import io

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from darts_gdas.nets.noise import noises
from darts_gdas.tasks.model import TrainedModel

EXTRA = ("onnx", "onnxscript")


class PixelNet(nn.Module):
    """A trained network together with its normalisation, in evaluation mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.register_buffer("mean", model.normalize.mean[:, None, None])
        self.register_buffer("std", model.normalize.std[:, None, None])
        self.net = model.net
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of uint8 images [batch, channels, height, width]."""
        return self.net((images - 255 * self.mean) / (255 * self.std))


def sample_images(model: TrainedModel, batch: int) -> Tensor:
    """Random pixels, the same ones every time, uint8 [batch, channels, height, width]."""
    shape = (batch, model.net.layout.in_channels, *model.image_size)
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, dtype=torch.uint8, generator=rng)


def exported(model: TrainedModel) -> ExportedProgram:
    """The program of `torch.export`, for any number of images at once."""
    batch = {"images": {0: Dim("batch", min=1)}}
    with torch.no_grad():
        return torch.export.export(
            PixelNet(model), (sample_images(model, 2),), dynamic_shapes=batch
        )


def torch_bytes(model: TrainedModel) -> bytes:
    """The program as `torch.export.load` reads it."""
    buffer = io.BytesIO()
    torch.export.save(exported(model), buffer)
    return buffer.getvalue()


def onnx_bytes(model: TrainedModel) -> bytes:
    """The program as an ONNX model with input `images` and output `logits`.

    Raises:
        ValueError: If the packages of the extra `export` are not installed, or the network has
            noise in it.
    """
    check_extra()
    if noises(model.net):
        raise ValueError(
            "ONNX has no inverse of the error function, which the operation 'noise' needs; export "
            "with --format torch or python"
        )
    made = torch.onnx.export(
        exported(model),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert made is not None  # as always with dynamo
    return made.model_proto.SerializeToString()


def check_extra() -> None:
    """Raise a `ValueError` that says what to install, where it is missing."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--format onnx needs {' and '.join(missing)}: pip install 'darts-gdas[export]'"
        )
