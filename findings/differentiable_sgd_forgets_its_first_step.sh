#!/usr/bin/env bash
# PyTorch 2.15.0 (seen 2026-11-30; 2.14.1 does the same), torchopt 0.7.3.
#
# `torch.optim.SGD(differentiable=True)` is for derivatives through training: those of a final loss in whatever the
# training loss depends on. With momentum, the first gradient of a parameter is detached where it becomes the
# momentum buffer, so what this step owes to hyperparameters and to earlier weights is missing, and nothing says so.
# A single unrolled step, as DARTS takes it, has no derivative in the architecture at all (`None`, or zeros where they
# are asked for); of several steps the derivative looks healthy and is another one. Nesterov momentum loses
# its first step in part. It is right without momentum, with a buffer that is there already (in the middle of a
# training), in Adam and RMSprop with momentum, and in torchopt's `MetaSGD`, which takes the same steps.
#
# Output seen, derivative in a hyperparameter: by autograd, and by differences of the same steps
#   SGD                     1 step -0.1826 -0.1826  3 steps 0.2463 0.2463
#   SGD, momentum           1 step None -0.1826     3 steps 0.8462 1.6713
#   SGD, Nesterov           1 step -0.0189 -0.0358  3 steps 1.6301 2.4719
#   SGD, momentum, buffer   1 step -0.1826 -0.1826  3 steps 1.6713 1.6713
#   RMSprop, momentum       1 step -0.0000 -0.0000  3 steps 1.2423 1.2423
#   Adam                    1 step 0.0000 0.0000    3 steps -0.0014 -0.0014
#   torchopt, momentum      1 step -0.1826 -0.1826  3 steps 1.6713 1.6713
#   torchopt, Nesterov      1 step -0.0358 -0.0358  3 steps 2.4719 2.4719
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6 torchopt==0.7.3 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torchopt

start = torch.tensor([1.0, -0.5, 0.7, 0.2], dtype=torch.float64)
direction = torch.tensor([0.5, -1.0, 0.3, 0.8], dtype=torch.float64)


def loss(weights, hyper):
    return (weights**4).sum() / 10 + hyper * (direction * weights + weights**2).sum()


def final(weights):
    return (weights**3).sum() - (direction * weights).sum()


def trained(kind, settings, steps, hyper):
    """The final loss after steps of one of torch's optimizers, from `start`."""
    settings = dict(settings)
    ready = settings.pop("ready", False)
    weights = start.clone().requires_grad_() * 1.0
    optimizer = kind([weights], lr=0.1, differentiable=True, **settings)
    if ready:  # zeros: the first step is then that of a new optimizer
        optimizer.state[weights]["momentum_buffer"] = torch.zeros_like(start)
    for _ in range(steps):
        now = weights.clone()  # the optimizer changes the weights in place
        (weights.grad,) = torch.autograd.grad(loss(now, hyper), now, create_graph=True)
        optimizer.step()
    return final(weights)


def by_torchopt(_, settings, steps, hyper):
    network = torch.nn.ParameterList([start.clone()])
    optimizer = torchopt.MetaSGD(network, lr=0.1, **settings)
    for _ in range(steps):
        optimizer.step(loss(network[0], hyper))
    return final(network[0])


def derivatives(run, *case):
    at, width = torch.tensor(0.4, dtype=torch.float64), 1e-5
    hyper = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(run(*case, hyper), hyper, allow_unused=True)
    up, down = (run(*case, (at + sign * width).requires_grad_()).item() for sign in (1, -1))
    return None if found is None else found.item(), (up - down) / (2 * width)


def right(found, expected):
    return found is not None and abs(found - expected) < 1e-6


optim, wrong = torch.optim, []
for name, run, kind, settings in (
    ("SGD", trained, optim.SGD, {}),
    ("SGD, momentum", trained, optim.SGD, {"momentum": 0.9}),
    ("SGD, Nesterov", trained, optim.SGD, {"momentum": 0.9, "nesterov": True}),
    ("SGD, momentum, buffer", trained, optim.SGD, {"momentum": 0.9, "ready": True}),
    ("RMSprop, momentum", trained, optim.RMSprop, {"momentum": 0.9}),
    ("Adam", trained, optim.Adam, {}),
    ("torchopt, momentum", by_torchopt, None, {"momentum": 0.9}),
    ("torchopt, Nesterov", by_torchopt, None, {"momentum": 0.9, "nesterov": True}),
):
    one, three = (derivatives(run, kind, settings, steps) for steps in (1, 3))
    text = [f"{'None' if found is None else f'{found:.4f}'} {expected:.4f}" for found, expected in (one, three)]
    print(f"{name:<22}  1 step {text[0]:<16} 3 steps {text[1]}")
    if right(*one) and right(*three):
        continue
    wrong.append(name)
    assert not right(*one) and not right(*three), "the behaviour has changed"
    assert (one[0] is None) == (name == "SGD, momentum"), "the behaviour has changed"
assert wrong == ["SGD, momentum", "SGD, Nesterov"], f"the behaviour has changed: {wrong}"
PYTHON
echo "as described"
