#!/usr/bin/env bash
# onnx 1.23.2 and onnxruntime 1.32.0 (seen 2026-11-27).
#
# `onnx.reference.ReferenceEvaluator`, the oracle that exported networks are compared with, pools wrongly
# where `ceil_mode=1` reaches beyond the image:
# - AveragePool that lacks two rows and columns at the end (kernel 3, stride 3 on 7 pixels) gets one of them
#   at each end: all windows move by a pixel, so all values are wrong, not only those at the border. With one
#   row missing (kernel 2, stride 2 on odd sizes) it is right.
# - MaxPool with stride 1 and padding, where `ceil_mode` changes nothing at all, gains rows and columns of
#   zeros: as many as were padded, once more. onnx's own shape inference says otherwise.
# onnxruntime agrees with a plain loop in all of these. So a network that is exported right can fail a
# check by the reference, and the other way round.
#
# Output seen, of the image 1..49 in 7 rows, AveragePool 3/3, first row: reference 5.0 7.5 9.5, right 9 12 14;
# MaxPool 3/1 padded by 1 on 3x3: reference 5x5 with two rows and columns of zeros, right 3x3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def pooled(kind, x, kernel, stride, pad=0):
    """By the reference and by onnxruntime."""
    node = helper.make_node(
        kind, ["x"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, ceil_mode=1
    )
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x.shape), ("y", None))]
    graph = helper.make_graph([node], "pool", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, {"x": x})[0][0, 0], session.run(None, {"x": x})[0][0, 0]


def loop(reduce, image, kernel, stride, pad=0):
    """Windows begin inside the image; what lies outside is left out."""
    n, rows = len(image), range(-pad, len(image) + pad - kernel + stride, stride)
    rows = [r for r in rows if r < n]
    window = lambda r, c: image[max(r, 0) : r + kernel, max(c, 0) : c + kernel]  # noqa: E731
    return np.array([[reduce(window(r, c)) for c in rows] for r in rows], np.float32)


def image(side):
    return np.arange(1, side * side + 1, dtype=np.float32).reshape(1, 1, side, side)


for side, kernel, stride, is_right in ((7, 2, 2, True), (7, 3, 3, False), (10, 3, 3, False)):
    reference, runtime = pooled("AveragePool", image(side), kernel, stride)
    right = loop(np.mean, image(side)[0, 0], kernel, stride)
    print("AveragePool", side, kernel, stride, "reference", reference[0], "right", right[0])
    assert np.allclose(runtime, right)
    assert np.allclose(reference, right) == is_right, "the behaviour has changed"
    assert is_right or np.abs(reference - right).min() > 0  # no value is right

reference, runtime = pooled("MaxPool", image(3), 3, 1, 1)
right = loop(np.max, image(3)[0, 0], 3, 1, 1)
print("MaxPool: reference", reference.tolist(), "right", right.tolist())
assert np.array_equal(runtime, right)
assert reference.shape == (5, 5) and not reference[3:].any(), "the behaviour has changed"
assert np.array_equal(reference[:3, :3], right)
PYTHON
echo "as described"
