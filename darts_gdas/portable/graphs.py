"""A trained network as a program: bytes in, logits out, in PyTorch's format or as ONNX."""

import copy
import io

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from darts_gdas.nets.noise import noises
from darts_gdas.tasks.model import TrainedModel


class PixelNet(nn.Module):
    """A trained network together with its normalisation, in evaluation mode."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.register_buffer("mean", model.normalize.mean[:, None, None])
        self.register_buffer("std", model.normalize.std[:, None, None])
        self.net = copy.deepcopy(model.net)
        self.net.auxiliary = None  # it serves training only, and files would hold its weights
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of uint8 images [batch, channels, height, width]."""
        return self.net((images - 255 * self.mean) / (255 * self.std))


class HalfNet(nn.Module):
    """The same with weights and arithmetic in float16; float32 logits come out."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.net = PixelNet(model).half()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of uint8 images [batch, channels, height, width]."""
        return self.net(images).float()


def sample_images(model: TrainedModel, batch: int) -> Tensor:
    """Random pixels, the same ones every time, uint8 [batch, channels, height, width]."""
    shape = (batch, model.net.layout.in_channels, *model.image_size)
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, shape, dtype=torch.uint8, generator=rng)


def exported(
    model: TrainedModel, *, half: bool = False, most: int | None = None
) -> ExportedProgram:
    """The program of `torch.export`.

    Args:
        model: The trained network.
        half: In float16.
        most: Images at once for which there is to be memory; None is any number.
    """
    batch = {"images": {0: Dim("batch", min=1, max=most)}}
    net = HalfNet(model) if half else PixelNet(model)
    with torch.no_grad():
        return torch.export.export(net, (sample_images(model, 2),), dynamic_shapes=batch)


def torch_bytes(model: TrainedModel) -> bytes:
    """The program as `torch.export.load` reads it."""
    buffer = io.BytesIO()
    torch.export.save(exported(model), buffer)
    return buffer.getvalue()


def onnx_bytes(model: TrainedModel, *, half: bool = False, opset: int | None = None) -> bytes:
    """The program as an ONNX model with input `images` and output `logits`.

    Args:
        model: The trained network.
        half: In float16.
        opset: The version of ONNX's operators, 18 to 25; None is that of PyTorch's exporter, which
            more runtimes know than the latest.

    Raises:
        ValueError: If the network has noise in it.
    """
    if noises(model.net):
        raise ValueError(
            "ONNX has no inverse of the error function, which the operation 'noise' needs; export "
            "with --format torch or python"
        )
    made = torch.onnx.export(
        exported(model, half=half),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        opset_version=opset,
        verbose=False,
    )
    assert made is not None  # as always with dynamo
    return made.model_proto.SerializeToString()
