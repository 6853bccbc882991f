"""An export as files: made in memory, tried in a fresh process, and only then put in place."""

import io
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import torch

from darts_gdas.portable import fresh
from darts_gdas.portable.graphs import onnx_bytes, sample_images, torch_bytes
from darts_gdas.portable.source import source_of, weights_of
from darts_gdas.runtime.files import write_together
from darts_gdas.tasks.model import TrainedModel

BATCHES = (3, 1)
TOLERANCE = 1e-3
"""Largest difference of logits, in units of the largest of them, that rounding may make."""


class Format(Enum):
    """What a network is exported as."""

    torch = "torch"
    onnx = "onnx"
    python = "python"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files, the one to open first."""
        names = {
            Format.torch: ("network.pt2",),
            Format.onnx: ("network.onnx",),
            Format.python: ("network.py", "network.pt"),
        }
        return names[self]


class ExportFailed(RuntimeError):
    """An exported network that does not run by itself, or computes something else."""


def make(
    model: TrainedModel, form: Format, about: Sequence[str] = ("A network.",)
) -> dict[str, bytes]:
    """The files of a format, by name.

    Args:
        model: The trained network.
        form: The format.
        about: Lines of the docstring of a Python file.

    Raises:
        ValueError: If the format needs packages that are missing, or cannot hold the network.
    """
    if form is Format.torch:
        contents = [torch_bytes(model)]
    elif form is Format.onnx:
        contents = [onnx_bytes(model)]
    else:
        buffer = io.BytesIO()
        torch.save(weights_of(model.net), buffer)
        contents = [source_of(model, about).encode(), buffer.getvalue()]
    return dict(zip(form.files, contents, strict=True))


def largest_difference(model: TrainedModel, form: Format, files: Mapping[str, bytes]) -> float:
    """Load the files in a fresh process without this project, and compare logits with ours.

    Returns:
        The largest difference of two logits, over batches of three images and of one.

    Raises:
        ExportFailed: If the process fails, or the difference is more than rounding.
    """
    batches = [sample_images(model, batch) for batch in BATCHES]
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        torch.save(batches, folder / "images")
        arguments = [form.value, name, str(folder / "images"), str(folder / "logits")]
        done = subprocess.run(
            [sys.executable, "-I", fresh.__file__, *arguments], capture_output=True, text=True
        )
        if done.returncode != 0:
            reason = " ".join(done.stderr.strip().splitlines()[-1:])
            raise ExportFailed(f"the exported network does not run by itself: {reason}")
        logits = torch.load(folder / "logits", weights_only=True)
        ours = [model.net(model.normalize(images)) for images in batches]
    pairs = list(zip(logits, ours, strict=True))
    difference = max(float((a - b).abs().max()) for a, b in pairs)
    largest = max(float(b.abs().max()) for _, b in pairs)
    if not difference <= TOLERANCE * max(largest, 1.0):  # a NaN is no agreement
        told = f"the exported network computes something else: logits differ by {difference:.3g}"
        if form is Format.onnx and find_spec("onnxruntime") is None:
            told += (
                "; they come from onnx's own evaluator, which is wrong for some pooling with "
                "ceil_mode: pip install onnxruntime, and it is asked instead"
            )
        raise ExportFailed(told)
    return difference


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all of the files or none; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_together(
        {
            folder / name: (lambda file, c=content: file.write(c), len(content))
            for name, content in files.items()
        }
    )
