"""The differential equation of training against closed forms and small steps."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.ntk import empirical_ntk, gradient_descent, linearize, predict_mse
from tests.ntk.networks import make

pytestmark = pytest.mark.usefixtures("seeded")


def half_squares(f: Tensor, y: Tensor) -> Tensor:
    return (f - y).square().mean() / 2


def problem() -> tuple[nn.Module, Tensor, Tensor, dict[str, Tensor]]:
    model, x, x_test = make("mlp", samples=5)
    with torch.no_grad():
        given = {
            "k_train_train": empirical_ntk(model, x, kind="full"),
            "k_test_train": empirical_ntk(model, x_test, x, kind="full"),
            "f0_train": model(x),
            "f0_test": model(x_test),
        }
    return model, x, x_test, given


@pytest.mark.parametrize("form", ["full", "one"])
def test_squared_error_is_the_closed_form(form: str):
    _, _, _, given = problem()
    if form == "one":
        given |= {
            name: given[name].diagonal(dim1=2, dim2=3).mean(-1)
            for name in ("k_train_train", "k_test_train")
        }
    y, times = torch.randn(5, 3).double(), [0.0, 0.5, 20.0, 400.0]
    found = gradient_descent(half_squares, y_train=y, times=times, learning_rate=0.3, **given)
    for t, prediction in zip(times, found, strict=True):
        expected = predict_mse(y_train=y, t=t, learning_rate=0.3, **given)
        assert_close(prediction.train, expected.train, rtol=1e-6, atol=1e-6)
        assert_close(prediction.test, expected.test, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("of_outputs", [1e-8, 1.0])
@pytest.mark.parametrize("of_kernel", [1e-12, 1.0, 1e12])
def test_units_of_kernel_and_outputs_change_nothing(of_kernel: float, of_outputs: float):
    """1 - exp(-t / 2) of the way, to the relative accuracy that is asked for, early and late."""
    times, kernel = [1e-6, 1.0], of_kernel * torch.eye(2).double()
    y, f0 = of_outputs * torch.ones(2, 1).double(), torch.zeros(2, 1).double()
    found = gradient_descent(
        half_squares, kernel, y, f0_train=f0, times=times, learning_rate=1 / of_kernel
    )
    for t, prediction in zip(times, found, strict=True):
        assert_close(prediction.train, -y * math.expm1(-t / 2), rtol=1e-8, atol=0)


@pytest.mark.parametrize("of_kernel", [1e-9, 1e9])
def test_units_change_nothing_with_momentum(of_kernel: float):
    kernel, y = torch.tensor([[2.0, 1.0], [1.0, 1.0]]).double(), torch.ones(2, 1).double()
    options = {"f0_train": torch.zeros(2, 1).double(), "times": [30.0], "momentum": 0.9}
    (one,) = gradient_descent(half_squares, kernel, y, learning_rate=0.1, **options)
    (other,) = gradient_descent(
        half_squares, of_kernel * kernel, y, learning_rate=0.1 / of_kernel, **options
    )
    assert_close(one.train, other.train, rtol=1e-7, atol=0)


def test_outputs_that_are_right_stay():
    y = torch.ones(2, 1).double()
    for kernel in (torch.eye(2), torch.zeros(2, 2)):
        (found,) = gradient_descent(half_squares, kernel, y, f0_train=y, times=[3.0])
        assert_close(found.train, y, rtol=0, atol=0)


def test_with_momentum_a_direction_is_a_damped_oscillator():
    """e'' + (1 - m) e' + rate w e = 0: the root of the characteristic equation, underdamped."""
    w, rate, m, t = 2.0, 0.05, 0.9, 17.0
    kernel, y, f0 = torch.tensor([[w]]).double(), torch.zeros(1, 1).double(), torch.ones(1, 1)
    friction, frequency = (1 - m) / 2, math.sqrt(rate * w - (1 - m) ** 2 / 4)
    angle = frequency * t
    e = math.exp(-friction * t) * (math.cos(angle) + friction / frequency * math.sin(angle))
    (found,) = gradient_descent(
        half_squares, kernel, y, f0_train=f0.double(), times=[t], learning_rate=rate, momentum=m
    )
    assert float(found.train) == pytest.approx(e, abs=1e-6)


def discrete(
    model: nn.Module, x: Tensor, x_test: Tensor, y: Tensor, *, rate: float, momentum: float, n: int
) -> tuple[Tensor, Tensor]:
    """n steps of gradient descent of the linearised network on the cross entropy."""
    linear = linearize(model)
    theta = {name: p.detach().clone() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in theta.items()}
    for _ in range(n):
        leaves = {name: p.requires_grad_() for name, p in theta.items()}
        gradients = torch.autograd.grad(
            F.cross_entropy(linear(leaves, x), y), list(leaves.values())
        )
        velocity = {
            name: momentum * v + g for (name, v), g in zip(velocity.items(), gradients, strict=True)
        }
        theta = {name: (p - rate * velocity[name]).detach() for name, p in leaves.items()}
    return linear(theta, x).detach(), linear(theta, x_test).detach()


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_small_steps_on_the_cross_entropy_approach_it(momentum: float):
    """Errors of n and 2n steps to one time: halved, within 15 %.

    With momentum (here at friction 1 per unit of tau) steps shrink as h: rate h^2, 1 - m = h.
    """
    model, x, x_test, given = problem()
    y = torch.tensor([0, 1, 2, 0, 1])
    errors = []
    for n in (60, 120):
        h = 3.0 / n
        rate, m = (h, 0.0) if momentum == 0 else (h * h, 1 - h)
        (found,) = gradient_descent(
            F.cross_entropy, y_train=y, times=[float(n)], learning_rate=rate, momentum=m, **given
        )
        train, test = discrete(model, x, x_test, y, rate=rate, momentum=m, n=n)
        assert found.test is not None
        errors.append([float((train - found.train).norm()), float((test - found.test).norm())])
    for coarse, fine in zip(*errors, strict=True):
        assert fine < 0.03 and fine == pytest.approx(coarse / 2, rel=0.15)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"times": []}, "times must ascend"),
        ({"times": [2.0, 1.0]}, r"times must ascend .* got \[2.0, 1.0\]"),
        ({"times": [-1.0]}, "times must ascend"),
        ({"times": [math.inf]}, "be finite"),
        ({"times": 3.0}, "times must be a sequence of numbers, got 3.0"),
        ({"times": ["1"]}, r"times must be a sequence of numbers, got \['1'\]"),
        ({"f0_train": [[1.0]]}, "f0_train must be a tensor, got list"),
        ({"learning_rate": "1"}, "learning_rate must be positive and finite, got '1'"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"tolerance": 0.0}, "tolerance must lie in"),
        ({"f0_test": None}, "must both be given"),
        ({"k_train_train": torch.full((5, 5), torch.nan)}, "k_train_train has NaN"),
        ({"k_train_train": -torch.eye(5)}, "negative eigenvalue"),
        ({"loss": lambda f, y: f.sub(f.detach()).sqrt().sum()}, "gradient that is not finite"),
        ({"loss": lambda f, y: (f - y).square()}, r"must return one number, got \(5, 3\)"),
        ({"loss": lambda f, y: 1.0}, "must return one number, got float"),
        ({"loss": lambda f, y: (f.detach() - y).sum()}, "no gradient in the outputs"),
        ({"loss": lambda f, y: y.clone().requires_grad_().sum()}, "no gradient in the outputs"),
        ({"loss": lambda f, y: f.meen()}, r"loss fails for .* has no attribute 'meen'"),
        ({"loss": F.nll_loss}, r"loss fails for outputs \[5, 3\] .* y_train \[5, 3\]"),
        ({"y_train": torch.zeros(3).double()}, r"must hold 5 targets.* got .*float64 .* \(3,\)"),
        ({"y_train": torch.zeros(5).double()}, r"floating point \[5, 3\]"),
        ({"y_train": torch.zeros(4).long()}, "must hold 5 targets"),
    ],
)
def test_bad_input_is_refused(options: dict, message: str):
    _, _, _, given = problem()
    if "k_train_train" in options:
        given["k_test_train"] = given["k_test_train"][..., 0, 0]
    arguments = {"loss": half_squares, "y_train": torch.zeros(5, 3).double(), "times": [1.0]}
    with pytest.raises(ValueError, match=message):
        gradient_descent(**arguments | given | options)
