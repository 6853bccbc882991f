#!/usr/bin/env bash
# OpenVINO 2026.4.1 with torch 2.14.1, on a CPU (seen 2026-11-30).
#
# `openvino.convert_model` takes a module, which it traces, or a program of `torch.export`, and one would guess that both
# ways end in the same network. With a module the `beta` of a softplus is dropped and nothing is said: a softplus of any
# sharpness, such as one that stands for a smooth ReLU where second derivatives are wanted, becomes log(1 + exp(x)). Of the
# exported program it is right. A divisor of average pooling, which OpenVINO has no room for either, is refused by name.
#
# Output seen, of Softplus(beta=10) at -1, 0, 1: torch 0.0000 0.0693 1.0000,
#   converted from the module 0.3133 0.6931 1.3133, from the exported program 0.0000 0.0693 1.0000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 torch==2.14.1 numpy==2.4.6 packaging==26.4 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import openvino
import torch

torch.set_num_threads(1)
x, settings = torch.tensor([[-1.0, 0.0, 1.0]]), {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}


def converted(network, **given):
    return openvino.compile_model(openvino.convert_model(network, **given), "CPU", settings)([x.numpy()])[0]


for beta in (1, 10):
    softplus = torch.nn.Softplus(beta).eval()
    right = softplus(x).numpy()
    module = converted(softplus, example_input=x)
    exported = converted(torch.export.export(softplus, (x,)))
    print(f"beta {beta}: torch {right.round(4)}, module {module.round(4)}, exported {exported.round(4)}")
    assert np.allclose(exported, right, atol=1e-5)
    assert np.allclose(module, np.log1p(np.exp(x.numpy())), atol=1e-5), "the behaviour has changed"
try:
    converted(torch.nn.AvgPool2d(2, divisor_override=3), example_input=torch.ones(1, 1, 4, 4))
    raise SystemExit("the behaviour has changed: no error")
except openvino.frontend.OpConversionFailure as error:
    print(next(line for line in str(error).splitlines() if "do not support" in line))
PYTHON
echo "as described"
