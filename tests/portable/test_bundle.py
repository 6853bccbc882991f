"""Exports of every format, loaded in a fresh process; and those that must not be put in place."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, Layout, Stem
from darts_gdas.portable.bundle import (
    EXTRA,
    Accuracy,
    ExportFailed,
    Format,
    largest_difference,
    make,
    measured,
    put,
)
from darts_gdas.portable.fresh import main
from darts_gdas.portable.graphs import PixelNet, exported, sample_images
from darts_gdas.runtime.files import WriteError
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import TrainedModel
from tests.portable.test_source import NETWORKS, model_of, one_operation

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in EXTRA),
    reason="onnx and onnxscript are not installed: pip install -e '.[export]'",
)
FORMATS = [Format.torch, pytest.param(Format.onnx, marks=needs_onnx)]
"""The third one is tried in `tests/cli/test_export.py`."""


def small(name: str = "DARTS_V2", layers: int = 1) -> TrainedModel:
    model = model_of(Genotype.load(name), Layout(4, layers, 5, reductions=(layers - 1,)))
    model.net.float()
    return model


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_gives_the_same_logits_in_a_fresh_process(form: Format):
    model = small()
    files = make(model, form)
    assert tuple(files) == form.files
    assert largest_difference(model, form, files) < 1e-5  # float32 sums in another order


@needs_onnx
@pytest.mark.parametrize(
    ("genotype", "layout"),
    [
        (one_operation("norm_max_pool_3x3"), Layout(4, 3, 5, stem=Stem.imagenet)),
        (
            Genotype.from_arch_string("|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|"
                                      "+|skip_connect~0|nor_conv_1x1~1|none~2|"),
            Layout(4, 5, 3, skeleton=NASBENCH201),
        ),
        NETWORKS["chain"],
    ],
    ids=["imagenet", "bench", "chain"],
)  # fmt: skip
def test_onnx_takes_every_kind_of_network(genotype: Genotype, layout: Layout):
    model = model_of(genotype, layout, (40, 33))
    model.net.float()
    assert largest_difference(model, Format.onnx, make(model, Format.onnx)) < 1e-4


def test_noise_cannot_be_written_as_onnx(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("darts_gdas.portable.bundle.EXTRA", ())
    with pytest.raises(ValueError, match=r"the operation 'noise' needs; export with --format torc"):
        make(model_of(one_operation("noise"), Layout(4, 3, 5)), Format.onnx)


@pytest.mark.parametrize("genotype", [Genotype.load("GDAS_V1"), one_operation("noise")])
def test_the_program_takes_any_number_of_images(genotype: Genotype):
    model = model_of(genotype, Layout(4, 1, 5, reductions=()))
    model.net.float()
    program = exported(model).module()
    for batch in (1, 2, 5):
        images = sample_images(model, batch)
        with torch.no_grad():
            expected = model.net(model.normalize(images))
            assert_close(program(images), expected)
            assert_close(program(images.float()), expected)  # pixels still: 0 to 255
            assert_close(PixelNet(model)(images), expected)


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the fresh process does, done here, because starting one takes seconds."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setitem(sys.modules, "darts_gdas", sys.modules["darts_gdas"])  # and back
        try:
            main(*command[3:])
        except ImportError as error:
            return subprocess.CompletedProcess(command, 1, "", f"Traceback\n{error}\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("darts_gdas.portable.bundle.subprocess.run", run)


@pytest.mark.usefixtures("same_process")
def test_the_accuracy_is_that_of_the_files():
    """Of the classes that the network itself gives 70 images, three are changed."""
    model, images = small(), sample_images(small(), 70)
    labels = model.net(model.normalize(images)).argmax(1)
    labels[[0, 1, 69]] = (labels[[0, 1, 69]] + 1) % 5
    files = make(model, Format.torch)
    assert measured(Format.torch, files, images, labels, 100) == Accuracy(67 / 70, 70, 100)


@pytest.mark.usefixtures("same_process")
def test_a_file_that_computes_something_else_is_found():
    model = small()
    files = make(model, Format.python)
    code = files["network.py"].replace(b"255 * self.std", b"200 * self.std")
    with pytest.raises(ExportFailed, match=r"computes something else: logits differ by [0-9.]+"):
        largest_difference(model, Format.python, {**files, "network.py": code})


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("has_runtime", [False, True])
def test_that_onnx_s_own_evaluator_is_named(monkeypatch, has_runtime):
    model, other = small(), small()
    with torch.no_grad():
        other.net.classifier.bias.add_(1)
    monkeypatch.setattr("darts_gdas.portable.bundle.find_spec", lambda name: has_runtime or None)
    with pytest.raises(ExportFailed, match="logits differ by 1") as found:
        largest_difference(model, Format.onnx, make(other, Format.onnx))
    assert ("pip install onnxruntime" in str(found.value)) == (not has_runtime)


@pytest.mark.usefixtures("same_process")
def test_a_file_that_needs_this_project_is_found():
    model = small()
    files = make(model, Format.python)
    code = files["network.py"] + b"import darts_gdas\n"
    with pytest.raises(ExportFailed, match=r"does not run by itself: import of darts_gdas halted"):
        largest_difference(model, Format.python, {**files, "network.py": code})


def test_what_cannot_be_written_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("darts_gdas.runtime.files.os.replace", full)
    with pytest.raises(WriteError, match=r"network\.pt2' cannot be written: No space"):
        put(tmp_path / "new", {"network.pt2": b"content"})
    assert not list((tmp_path / "new").iterdir())


def test_an_export_that_does_not_fit_leaves_the_earlier_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(tmp_path, {"network.py": b"old", "network.pt": b"weights"})
    flush, count = os.fsync, []

    def fills_up(descriptor: int) -> None:
        count.append(descriptor)
        if len(count) == 2:
            raise OSError(28, "No space left on device")
        flush(descriptor)

    monkeypatch.setattr("darts_gdas.runtime.files.os.fsync", fills_up)
    with pytest.raises(WriteError, match=r"network\.pt' cannot be written: No space"):
        put(tmp_path, {"network.py": b"new", "network.pt": b"new"})
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"network.py": b"old", "network.pt": b"weights"}
