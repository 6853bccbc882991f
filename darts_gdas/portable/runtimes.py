"""A trained network for the runtimes of others: ONNX in 8 bits, OpenVINO, ExecuTorch."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from darts_gdas.portable.graphs import exported, onnx_bytes
from darts_gdas.tasks.model import TrainedModel

MOST_IMAGES = 15
"""Images at once for which an ExecuTorch program reserves memory.

Where pixels are picked before a convolution, as in a factorised reduction, its lowering keeps that
the example had less than 16, whatever was asked for.
"""

CALIBRATION_BATCH = 64


def int8_bytes(model: TrainedModel, images: Tensor) -> bytes:
    """The ONNX model with weights and activations in 8 bits.

    Both are unsigned: signed activations are slow in depthwise convolutions, and signed weights
    beside unsigned activations saturate on CPUs without VNNI. The ranges of activations are the
    smallest and largest values seen; onnxruntime's default for entropy gives the same ranges.

    Args:
        model: The trained network.
        images: What the ranges are measured on, uint8 [images, channels, height, width].
    """
    from onnxruntime.quantization import QuantType, quantize_static  # type: ignore
    from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore

    kind = QuantType.QUInt8
    with tempfile.TemporaryDirectory() as name:
        plain, ready, made = (str(Path(name) / part) for part in ("plain", "ready", "made"))
        Path(plain).write_bytes(onnx_bytes(model))
        quant_pre_process(plain, ready)
        reader = _reader(images)
        root, level = logging.getLogger(), logging.getLogger().level
        root.setLevel(logging.ERROR)  # it warns of every norm that has no second axis
        try:
            quantize_static(
                ready, made, reader, per_channel=True, activation_type=kind, weight_type=kind
            )
        finally:
            root.setLevel(level)
        return Path(made).read_bytes()


def _reader(images: Tensor) -> Any:
    """The images as onnxruntime reads them."""
    from onnxruntime.quantization import CalibrationDataReader  # type: ignore

    batches = iter(images.split(CALIBRATION_BATCH))

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:  # None at the end, which their annotation leaves out
            batch = next(batches, None)
            return None if batch is None else {"images": batch.numpy()}

    return Reader()


def openvino_bytes(model: TrainedModel) -> list[bytes]:
    """OpenVINO's description (`.xml`) and weights (`.bin`), in float32."""
    import openvino  # type: ignore

    channels = model.net.layout.in_channels
    converted = openvino.convert_model(exported(model))
    converted.reshape([-1, channels, *model.image_size])  # the conversion forgets them
    converted.output(0).get_tensor().set_names({"logits"})
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "network.xml"
        openvino.save_model(converted, path, compress_to_fp16=False)
        return [path.read_bytes(), path.with_suffix(".bin").read_bytes()]


def executorch_bytes(model: TrainedModel) -> bytes:
    """ExecuTorch's program for its CPU backend, XNNPACK; at most `MOST_IMAGES` at once."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # type: ignore
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower  # type: ignore

    program = exported(model, most=MOST_IMAGES)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    return bytes(lowered.to_executorch().buffer)
