#!/usr/bin/env bash
# PyTorch 2.14.1, torchvision 0.29.1, on a CPU (seen 2026-11-30).
#
# Forward-mode derivatives (`torch.func.jvp`, `jacfwd`, `linearize`, dual numbers) take operators that were
# registered with the dispatcher for constants: all of `torch.library.custom_op`, backward formula or not, and
# torchvision's own in C++, such as those behind `DeformConv2d` and `roi_align`. Nothing is said. What goes round
# the operator still counts, so a network with one deformable convolution has derivatives that look healthy and
# are those of another network. Backward mode is right. A plain `torch.autograd.Function` without a `jvp` raises an
# error that names what is lacking; a `custom_op` does so only in a dual number whose value asks for a gradient.
#
# Output seen:
#   custom_op x * x at 1, 2, 3: backward 2 4 6, jvp 0 0 0, with gradients asked for in a dual number an error
#   small network with DeformConv2d, derivative in all weights: backward -5.39, difference quotient -5.39, jvp -0.80
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torch.autograd.forward_ad as forward
from torch import nn
from torch.func import functional_call, jvp
from torchvision.ops import DeformConv2d

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


@torch.library.custom_op("finding::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


square.register_autograd(
    lambda ctx, g: 2 * ctx.saved_tensors[0] * g, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs)
)
x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
backward = torch.autograd.grad(square(x).sum(), x)[0].tolist()
tangent = jvp(square, (x.detach(),), (torch.ones(3),))[1].tolist()
print("custom_op:", backward, tangent)
assert backward == [2, 4, 6] and tangent == [0, 0, 0], "the behaviour has changed"
try:
    with forward.dual_level():
        square(forward.make_dual(x, torch.ones(3)))
    raise SystemExit("the behaviour has changed: no error")
except NotImplementedError as error:
    print(error)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.offset = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 18, 3, padding=1)
        self.deformable, self.head = DeformConv2d(4, 4, 3, padding=1), nn.Linear(4, 1)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head(self.deformable(x, self.offset(x)).relu().mean((2, 3))).sum()


torch.manual_seed(0)
net, images = Net(), torch.randn(4, 3, 8, 8)
weights = {name: w.detach() for name, w in net.named_parameters()}
along = {name: torch.randn_like(w) for name, w in weights.items()}
gradients = torch.autograd.grad(net(images), [*net.parameters()])
backward = sum((g * r).sum() for g, r in zip(gradients, along.values(), strict=True)).item()
f = lambda w: functional_call(net, w, (images,))  # noqa: E731
up, down = (f({n: w + e * along[n] for n, w in weights.items()}).item() for e in (1e-6, -1e-6))
pushed = jvp(f, (weights,), (along,))[1].item()
print(f"network: backward {backward:.3f}, difference quotient {(up - down) / 2e-6:.3f}, jvp {pushed:.3f}")
assert abs(backward - (up - down) / 2e-6) < 1e-4
assert abs(backward - pushed) > 0.5, "the behaviour has changed"
PYTHON
echo "as described"
