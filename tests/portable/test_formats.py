"""Exports for the runtimes of others, in those runtimes."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import Layout
from darts_gdas.portable.bundle import Accuracy, Format, largest_difference, make, measured, put
from darts_gdas.portable.fresh import load_executorch
from darts_gdas.portable.graphs import PixelNet, onnx_bytes, sample_images
from darts_gdas.portable.runtimes import MOST_IMAGES
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import TrainedModel
from tests.portable.test_bundle import small
from tests.portable.test_source import model_of

pytestmark = [pytest.mark.portable, pytest.mark.filterwarnings("ignore")]  # warnings of theirs


def needs(*packages: str):
    missing = [name for name in packages if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


ONNX = ("onnx", "onnxscript", "onnxruntime")


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """Dilated depthwise convolutions, average pooling that leaves the padding out, a reduction."""
    found = model_of(Genotype.load("PC_DARTS_cifar"), Layout(4, 2, 5, reductions=(1,)), (9, 9))
    found.net.float()
    return found


def logits_of(model: TrainedModel, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return PixelNet(model)(images)


@needs(*ONNX)
@pytest.mark.parametrize("opset", [18, None, 25])
def test_onnxruntime_gives_the_same_logits_for_every_opset(model: TrainedModel, opset: int | None):
    import onnx
    import onnxruntime

    content = onnx_bytes(model, opset=opset)
    found = onnx.load_from_string(content)
    onnx.checker.check_model(found, full_check=True)
    assert [item.version for item in found.opset_import if not item.domain] == [opset or 20]
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        known = re.search(r"domain ai\.onnx is till opset (\d+)", str(error))
        if known is None or int(known[1]) >= (opset or 20):
            raise
        pytest.skip(f"onnxruntime {onnxruntime.__version__} knows operators up to {known[1]}")
    for batch in (1, 7):
        images = sample_images(model, batch)
        (logits,) = session.run(None, {"images": images.numpy()})
        assert_close(torch.from_numpy(logits), logits_of(model, images), rtol=1e-4, atol=1e-4)


@needs(*ONNX)
def test_float16_is_near_and_half_as_large(model: TrainedModel):
    files = make(model, Format.onnx_fp16)
    import onnx

    sizes = [
        sum(len(item.raw_data) for item in onnx.load_from_string(content).graph.initializer)
        for content in (files["network.onnx"], onnx_bytes(model))
    ]
    assert sizes[0] < 0.55 * sizes[1]
    assert 0 < largest_difference(model, Format.onnx_fp16, files) < 0.1


@needs(*ONNX)
def test_8_bits_keep_most_predictions_of_the_images_they_were_measured_on(model: TrainedModel):
    import onnxruntime

    images = sample_images(model, 64)
    files = make(model, Format.onnx_int8, images=images)
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(files["network.onnx"], providers=providers)
    (found,) = session.run(None, {"images": images.numpy()})
    ours = logits_of(model, images)
    error = (torch.from_numpy(found) - ours).abs().mean() / ours.std()
    assert error < 0.15 and found.shape == (64, 5)
    labels = ours.argmax(1)
    accuracy = float((torch.from_numpy(found).argmax(1) == labels).double().mean())
    assert measured(Format.onnx_int8, files, images, labels, 64) == Accuracy(accuracy, 64, 64)


@needs(*ONNX)
def test_8_bits_without_images_are_refused():
    with pytest.raises(ValueError, match="onnx_int8 measures ranges on images of the training set"):
        make(small(), Format.onnx_int8)


@needs("openvino")
def test_openvino_gives_the_same_logits(model: TrainedModel):
    files = make(model, Format.openvino)
    assert largest_difference(model, Format.openvino, files) < 1e-4
    text = files["network.xml"].decode()
    assert 'shape="?,3,9,9"' in text and "logits" in text


@needs("executorch")
def test_executorch_gives_the_same_logits_of_as_many_images_as_promised(
    model: TrainedModel, tmp_path: Path
):
    """The reduction slices before its convolutions."""
    files = make(model, Format.executorch)
    assert largest_difference(model, Format.executorch, files) < 1e-4
    put(tmp_path, files)
    run = load_executorch(tmp_path)
    for batch in (1, MOST_IMAGES):
        images = sample_images(model, batch)
        assert_close(run(images), logits_of(model, images), rtol=1e-4, atol=1e-4)
