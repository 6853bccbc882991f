"""An export as files: made in memory, tried in a fresh process, and only then put in place."""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from darts_gdas.portable import fresh
from darts_gdas.portable.extras import check_extra
from darts_gdas.portable.graphs import onnx_bytes, sample_images, torch_bytes
from darts_gdas.portable.runtimes import executorch_bytes, int8_bytes, openvino_bytes
from darts_gdas.portable.source import source_of, weights_of
from darts_gdas.runtime.files import write_together
from darts_gdas.tasks.model import TrainedModel

BATCHES = (3, 1)
TEST_BATCH = 64
EXTRA, RUNTIME = ("onnx", "onnxscript"), ("onnxruntime",)


class Format(Enum):
    """What a network is exported as."""

    torch = "torch"
    onnx = "onnx"
    onnx_fp16 = "onnx_fp16"
    onnx_int8 = "onnx_int8"
    openvino = "openvino"
    executorch = "executorch"
    python = "python"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files, the one to open first."""
        names = {
            Format.torch: ("network.pt2",),
            Format.openvino: ("network.xml", "network.bin"),
            Format.executorch: ("network.pte",),
            Format.python: ("network.py", "network.pt"),
        }
        return names.get(self, ("network.onnx",))

    @property
    def tolerance(self) -> float:
        """Largest difference of logits, in units of the largest of them, that rounding may make."""
        return _COARSE.get(self, 1e-3)

    @property
    def is_coarse(self) -> bool:
        """Whether it may say other classes than the network: it has fewer bits than float32."""
        return self in _COARSE

    def check_packages(self) -> None:
        """Raise a `ValueError` that says what to install, where something is missing."""
        needed = {
            Format.onnx: ("export", EXTRA),
            Format.onnx_fp16: ("export", (*EXTRA, *RUNTIME)),
            Format.onnx_int8: ("export", (*EXTRA, *RUNTIME)),
            Format.openvino: ("openvino", ("openvino",)),
            Format.executorch: ("executorch", ("executorch",)),
        }
        if self in needed:
            check_extra(f"--format {self.value}", *needed[self])


_COARSE = {Format.onnx_fp16: 1e-2, Format.onnx_int8: 0.3}


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of exported files, in their own runtime.

    Attributes:
        accuracy: The share of the images whose largest logit is that of their class.
        images: How many images were asked for.
        of: How many test images there are.
    """

    accuracy: float
    images: int
    of: int


class ExportFailed(RuntimeError):
    """An exported network that does not run by itself, or computes something else."""


def make(
    model: TrainedModel,
    form: Format,
    about: Sequence[str] = ("A network.",),
    images: Tensor | None = None,
) -> dict[str, bytes]:
    """The files of a format, by name.

    Args:
        model: The trained network.
        form: The format.
        about: Lines of the docstring of a Python file.
        images: Images of the training set, uint8, which the ranges of 8 bits are measured on.

    Raises:
        ValueError: If the format needs packages that are missing, or cannot hold the network.
    """
    form.check_packages()
    if form is Format.python:
        buffer = io.BytesIO()
        torch.save(weights_of(model.net), buffer)
        contents = [source_of(model, about).encode(), buffer.getvalue()]
    elif form is Format.openvino:
        contents = openvino_bytes(model)
    else:
        if form is Format.onnx_int8 and images is None:
            raise ValueError(
                "--format onnx_int8 measures ranges on images of the training set: name the "
                "folder of the retraining, whose settings say where they are"
            )
        makers: dict[Format, Callable[[], bytes]] = {
            Format.torch: lambda: torch_bytes(model),
            Format.onnx: lambda: onnx_bytes(model),
            Format.onnx_fp16: lambda: onnx_bytes(model, half=True),
            Format.onnx_int8: lambda: int8_bytes(model, cast(Tensor, images)),
            Format.executorch: lambda: executorch_bytes(model),
        }
        contents = [makers[form]()]
    return dict(zip(form.files, contents, strict=True))


def largest_difference(
    model: TrainedModel, form: Format, files: Mapping[str, bytes], images: Tensor | None = None
) -> float:
    """Load the files in a fresh process without this project, and compare logits with ours.

    Args:
        model: The trained network.
        form: The format.
        files: Its files.
        images: At least three images to compare with; None takes random pixels.

    Returns:
        The largest difference of two logits, over batches of three images and of one.

    Raises:
        ExportFailed: If the process fails, or the difference is more than rounding.
    """
    seen = sample_images(model, max(BATCHES)) if images is None else images
    batches = [seen[:batch] for batch in BATCHES]
    logits = _logits(form, files, batches)
    with torch.no_grad():
        ours = [model.net(model.normalize(images)) for images in batches]
    remark = ""
    if form is Format.onnx and find_spec("onnxruntime") is None:
        remark = (
            "; they come from onnx's own evaluator, which is wrong for some pooling with "
            "ceil_mode: pip install onnxruntime, and it is asked instead"
        )
    return checked_difference(logits, ours, form.tolerance, remark)


def checked_difference(
    found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float, remark: str = ""
) -> float:
    """The largest difference of two logits.

    Args:
        found: Logits of what was written, batch by batch.
        expected: Those of the network.
        tolerance: What rounding may make, in units of the largest logit.
        remark: What an error says besides.

    Raises:
        ExportFailed: If the difference is more than rounding.
    """
    pairs = list(zip(found, expected, strict=True))
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    largest = max(float(b.abs().max()) for _, b in pairs)
    if not difference <= tolerance * max(largest, 1.0):  # a NaN is no agreement
        raise ExportFailed(
            f"the exported network computes something else: logits differ by {difference:.3g}"
            + remark
        )
    return difference


def measured(
    form: Format, files: Mapping[str, bytes], images: Tensor, labels: Tensor, of: int
) -> Accuracy:
    """Ask the files for the classes of images, in a fresh process.

    Args:
        form: The format.
        files: Its files.
        images: Test images, uint8 [images, channels, height, width].
        labels: Their classes [images].
        of: How many test images there are.

    Raises:
        ExportFailed: If the process fails.
    """
    said = torch.cat(_logits(form, files, images.split(TEST_BATCH))).argmax(1)
    return Accuracy(float((said == labels).double().mean()), len(labels), of)


def _logits(form: Format, files: Mapping[str, bytes], batches: Sequence[Tensor]) -> list[Tensor]:
    """What the files say of each batch, in a fresh process without this project."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        # A batch is a view of all images, and a view is saved with all that it is a part of.
        torch.save([batch.clone() for batch in batches], folder / "images")
        arguments = [form.value, name, str(folder / "images"), str(folder / "logits")]
        done = subprocess.run(
            [sys.executable, "-I", fresh.__file__, *arguments], capture_output=True, text=True
        )
        if done.returncode != 0:
            reason = " ".join(done.stderr.strip().splitlines()[-1:])
            raise ExportFailed(f"the exported network does not run by itself: {reason}")
        return torch.load(folder / "logits", weights_only=True)


def check_folder(path: Path | str, name: str) -> None:
    """Raise a `ValueError` if files cannot go there, since it is a file itself."""
    if Path(path).exists() and not Path(path).is_dir():
        raise ValueError(f"{name} must be a folder, {str(path)!r} is a file")


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all of the files or none; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            folder / name: (lambda file, c=content: file.write(c), len(content))
            for name, content in files.items()
        }
    )
