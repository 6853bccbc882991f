#!/usr/bin/env bash
# PyTorch 2.14.1, on a CPU (seen 2026-11-29).
#
# Batch norm in training takes its mean and variance in float32, one pixel after the other, if the images
# are in channels_last; in the contiguous layout it takes them in wider numbers. So the statistics and the
# outputs of the same images lose digits with the number of pixels, and the more images a batch has the
# worse its estimate is rounded: of 64 images of 64x64 the variance has four correct digits, and of
# 128x128 three, where the contiguous layout has all seven. Several threads sum parts and lose a little less. The layout is what one
# chooses for speed; nothing says that it changes more than the speed. Float64 is not concerned.
#
# Output seen (one thread): largest error of the variance of standard normal images
#   8x32x32 pixels: contiguous 7.0e-08, channels_last 2.2e-06
#   64x32x32: 7.9e-08, 1.5e-05
#   64x64x64: 6.9e-08, 7.0e-05
#   64x128x128: 5.9e-08, 4.7e-04
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
errors = {}
for batch, side in ((8, 32), (64, 32), (64, 64), (64, 128)):
    images = torch.randn(batch, 16, side, side, generator=generator)
    exact = images.double().var((0, 2, 3))
    for name, layout in (("contiguous", torch.contiguous_format), ("last", torch.channels_last)):
        mean, variance = torch.zeros(16), torch.zeros(16)
        x = images.contiguous(memory_format=layout)
        F.batch_norm(x, mean, variance, training=True, momentum=1.0)  # leaves the batch's variance
        errors[batch, side, name] = (variance.double() - exact).abs().max().item()
    first, last = errors[batch, side, "contiguous"], errors[batch, side, "last"]
    print(f"{batch}x{side}x{side} pixels: contiguous {first:.1e}, channels_last {last:.1e}")
    assert first < 3e-7, "the contiguous layout has lost digits, too"
    assert last > 20 * first, "the behaviour has changed"
assert errors[64, 128, "last"] > 20 * errors[8, 32, "last"], "the behaviour has changed"
PYTHON
