#!/usr/bin/env bash
# PyTorch 2.15.0, on a CPU (seen 2026-11-30; 2.14.1 does the same).
#
# The backward pass of instance norm (2d and 3d) is wrong for a batch of one image, if the gradient that reaches
# it is in channels_last: its numbers are read in the order of memory, so they stand at other channels and pixels.
# The images may be in either layout. All that it takes is a network in channels_last in which a convolution
# follows the norm, and its layers before the norm learn from noise of the right size, without a word. Two
# images are right; so are the output, a ReLU between the two (its gradient is contiguous), the whole network in the
# contiguous layout, and group norm with as many groups as channels, which is the same function. A loop over
# samples, as one takes it for gradients per sample, makes such batches; `vmap(grad)` of the same network is right.
# (The norm ends in a `view` of its own shape. The gradient of the view is the gradient again, with another stride
# in the dimension of size one, behind which the layout is no longer recognised.)
#
# Output seen: relative error of the first convolution's gradient
#   1 image(s): contiguous 6e-16, channels_last 2e+00, with a ReLU 6e-16, group norm 1e-15, vmap 8e-16
#   2 image(s): contiguous 8e-16, channels_last 9e-16, with a ReLU 7e-16, group norm 1e-15, vmap 9e-16
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
first, last = (torch.randn(*size, dtype=torch.float64) / 3 for size in ((8, 3, 3, 3), (4, 8, 3, 3)))


class Written(nn.Module):
    """Instance norm by its definition."""

    def forward(self, x):
        centred = x - x.mean((2, 3), keepdim=True)
        return centred * (centred.square().mean((2, 3), keepdim=True) + 1e-5).rsqrt()


def gradient(count, layout, *norm):
    """Output and gradient of the first of two convolutions, between which `norm` stands."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), *norm, nn.Conv2d(8, 4, 3, bias=False)).double()
    with torch.no_grad():
        network[0].weight.copy_(first)
        network[-1].weight.copy_(last)
    network = network.to(memory_format=layout)
    pixels = images[:count].contiguous(memory_format=layout)
    output = network(pixels)
    output.pow(3).mean().backward()
    return output.detach(), network[0].weight.grad, mapped(network, pixels)


def mapped(network, pixels):
    """The same gradient as the mean of those per sample."""

    def loss(weights, image):
        return torch.func.functional_call(network, weights, image[None]).pow(3).mean()

    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, pixels)
    return rows["0.weight"].mean(0)


def error(count, layout, *norm, by=1):
    """Relative error of the gradient; the output is right in all cases."""
    found = gradient(count, layout, *norm)
    expected = gradient(count, torch.contiguous_format, Written(), *norm[1:])
    assert torch.allclose(found[0], expected[0])
    return float((found[by] - expected[1]).norm() / expected[1].norm())


for count in (1, 2):
    found = {
        "contiguous": error(count, torch.contiguous_format, nn.InstanceNorm2d(8)),
        "channels_last": error(count, torch.channels_last, nn.InstanceNorm2d(8)),
        "with a ReLU": error(count, torch.channels_last, nn.InstanceNorm2d(8), nn.ReLU()),
        "group norm": error(count, torch.channels_last, nn.GroupNorm(8, 8)),
        "vmap": error(count, torch.channels_last, nn.InstanceNorm2d(8), by=2),
    }
    print(count, "image(s):", ", ".join(f"{name} {value:.0e}" for name, value in found.items()))
    wrong = found.pop("channels_last")
    assert max(found.values()) < 1e-12, "something else is wrong, too"
    assert (wrong > 0.5) == (count == 1) and (wrong < 1e-12) == (count == 2), "the behaviour has changed"
PYTHON
echo "as described"
