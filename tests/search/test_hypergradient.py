"""Hypergradients against closed forms, against each other, and on a small smooth network."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search.hypergradient import (
    Bilevel,
    FirstOrder,
    Hypergradient,
    SGDStep,
    Unrolled,
    UnrolledExact,
    Weights,
)

ALL = [FirstOrder(), Unrolled(epsilon=1e-4), UnrolledExact()]
SECOND_ORDER = ALL[1:]


def mixture_of(values: Tensor) -> Mixture:
    return Mixture({"cell": CellMixture(values)})


def toy(a: Tensor, w: Tensor, step: SGDStep) -> Bilevel:
    """Liu et al., section 2.3: L_val = a w - 2 a + 1, L_train = w^2 - 2 a w + a^2."""

    def validation_loss(weights: Weights, mixture: Mixture) -> Tensor:
        a = mixture["cell"].ops
        return (a * weights["w"] - 2 * a + 1).sum()

    def train_loss(weights: Weights, mixture: Mixture) -> Tensor:
        a = mixture["cell"].ops
        return (weights["w"] ** 2 - 2 * a * weights["w"] + a**2).sum()

    return Bilevel(train_loss, validation_loss, {"w": w}, mixture_of(a), lambda: step)


@pytest.mark.parametrize(
    ("hypergradient", "xi", "answer"),
    [
        (FirstOrder(), 0.1, 2.0),
        (UnrolledExact(), 0.5, 1.0),
        (UnrolledExact(), 0.1, 5 / 3),
        (Unrolled(), 0.5, 1.0),
        (Unrolled(), 0.1, 5 / 3),
    ],
)
def test_the_toy_problem_ends_where_the_paper_says(
    hypergradient: Hypergradient, xi: float, answer: float
):
    """From (2, -2): first order ends in (2, 2), the unrolled step in (1, 1) or (5/3, 5/3)."""
    a, w = torch.tensor([[2.0]]).double(), torch.tensor([[-2.0]]).double()
    for _ in range(2000):
        (gradient,) = hypergradient(toy(a, w, SGDStep(lr=xi))).leaves()
        a = a - 0.05 * gradient
        w = w - 0.05 * (2 * w - 2 * a)
    assert_close(a, torch.full_like(a, answer), atol=1e-8, rtol=0)
    assert_close(w, torch.full_like(w, answer), atol=1e-8, rtol=0)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("has_buffer", [False, True])
def test_second_order_equals_the_closed_form_on_the_toy(nesterov: bool, has_buffer: bool):
    """dL_val/da = w' - 2 + a dw'/da with dw'/da = 2 xi (Nesterov: 2 xi (1 + momentum))."""
    a, w, buffer = (torch.tensor([[x]]).double() for x in (0.7, -1.3, 0.4))
    lr, momentum, decay = 0.1, 0.9, 0.01
    step = SGDStep(lr, momentum, nesterov, decay, {"w": buffer} if has_buffer else None)
    d = 2 * w - 2 * a + decay * w
    b = d + (momentum * buffer if has_buffer else 0)
    stepped = w - lr * (d + momentum * b if nesterov else b)
    response = 2 * lr * (1 + momentum if nesterov else 1)
    expected = stepped - 2 + a * response
    for hypergradient in SECOND_ORDER:
        (gradient,) = hypergradient(toy(a, w, step)).leaves()
        assert_close(gradient, expected, atol=1e-10, rtol=0)


def test_the_inner_step_is_torch_sgd():
    """Three steps of torch.optim.SGD, each predicted from its state before."""
    for nesterov in (False, True):
        weight = nn.Parameter(torch.randn(5).double())
        optimizer = torch.optim.SGD(
            [weight], lr=0.1, momentum=0.9, weight_decay=0.02, nesterov=nesterov
        )
        for _ in range(3):
            buffer = optimizer.state[weight].get("momentum_buffer")
            step = SGDStep(0.1, 0.9, nesterov, 0.02, {} if buffer is None else {"w": buffer})
            weight.grad = torch.randn(5).double()
            predicted = step({"w": weight.detach()}, {"w": weight.grad})["w"]
            optimizer.step()
            assert_close(weight.detach(), predicted, rtol=1e-14, atol=1e-15)


class SmoothNet(nn.Module):
    """Softplus in place of ReLU: differentiable everywhere, so finite differences converge."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.second = nn.Linear(6, 2)

    def forward(self, x: Tensor, mixture: Mixture) -> Tensor:
        hidden = self.first(x)
        a = mixture["cell"].ops.softmax(-1)[0]
        mixed = a[0] * nn.functional.softplus(hidden) + a[1] * hidden.tanh() + a[2] * hidden
        return self.second(mixed)


def smooth_problem() -> Bilevel:
    torch.manual_seed(0)
    net = SmoothNet().double()
    batches = [(torch.randn(8, 3).double(), torch.randint(0, 2, (8,))) for _ in range(2)]

    def loss_on(x: Tensor, y: Tensor):
        return lambda weights, mixture: nn.functional.cross_entropy(
            functional_call(net, weights, (x, mixture)), y
        )

    weights = dict(net.named_parameters())
    buffers = {name: torch.randn_like(w) * 0.1 for name, w in weights.items()}
    step = SGDStep(lr=0.5, momentum=0.9, weight_decay=3e-4, buffers=buffers)
    mixture = mixture_of(torch.randn(1, 3).double())
    return Bilevel(loss_on(*batches[0]), loss_on(*batches[1]), weights, mixture, lambda: step)


def test_finite_differences_fall_as_the_square_of_epsilon():
    problem = smooth_problem()
    (exact,) = UnrolledExact()(problem).leaves()
    errors = [
        (Unrolled(epsilon)(problem).leaves()[0] - exact).norm().item()
        for epsilon in (0.1, 0.05, 0.025, 0.0125)
    ]
    ratios = [a / b for a, b in pairwise(errors)]
    assert ratios == pytest.approx([4.0] * 3, rel=0.05)


def test_the_exact_second_order_equals_brute_force():
    """d/dm L_val(w'(m), m) by central differences of the whole unrolled step."""
    problem = smooth_problem()
    (exact,) = UnrolledExact()(problem).leaves()
    values = problem.mixture["cell"].ops

    def unrolled_loss(values: Tensor) -> Tensor:
        weights = {n: w.detach().requires_grad_() for n, w in problem.weights.items()}
        loss = problem.train_loss(weights, mixture_of(values))
        gradients = torch.autograd.grad(loss, list(weights.values()))
        stepped = problem.inner_step()(weights, dict(zip(weights, gradients, strict=True)))
        return problem.validation_loss(stepped, mixture_of(values)).detach()

    h = 1e-5
    for j in range(3):
        shift = torch.zeros_like(values)
        shift[0, j] = h
        difference = (unrolled_loss(values + shift) - unrolled_loss(values - shift)) / (2 * h)
        assert_close(exact[0, j], difference, rtol=1e-8, atol=1e-10)


def test_with_a_zero_step_the_second_order_is_the_first():
    problem = smooth_problem()
    still = Bilevel(
        problem.train_loss,
        problem.validation_loss,
        problem.weights,
        problem.mixture,
        lambda: SGDStep(lr=0.0),
    )
    (first,) = FirstOrder()(still).leaves()
    for hypergradient in SECOND_ORDER:
        assert_close(hypergradient(still).leaves()[0], first, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("hypergradient", ALL, ids=repr)
def test_weights_and_their_gradients_stay_bit_exactly_as_they_were(hypergradient: Hypergradient):
    problem = smooth_problem()
    before = {name: weight.detach().clone() for name, weight in problem.weights.items()}
    hypergradient(problem)
    for name, weight in problem.weights.items():
        assert torch.equal(weight.detach(), before[name])
        assert weight.grad is None


@pytest.mark.parametrize("hypergradient", ALL, ids=repr)
def test_a_loss_that_ignores_the_mixture_has_gradient_zero(hypergradient: Hypergradient):
    weights = {"w": torch.ones(2).double()}
    square = lambda weights, mixture: weights["w"].square().sum()  # noqa: E731
    problem = Bilevel(square, square, weights, mixture_of(torch.ones(1, 2)), lambda: SGDStep(0.1))
    (gradient,) = hypergradient(problem).leaves()
    assert torch.equal(gradient, torch.zeros(1, 2))


def test_a_vanishing_validation_gradient_does_not_divide_by_zero():
    weights = {"w": torch.zeros(2).double()}
    square = lambda weights, mixture: weights["w"].square().sum() * mixture["cell"].ops.sum()  # noqa: E731
    problem = Bilevel(
        square, square, weights, mixture_of(torch.ones(1, 2).double()), lambda: SGDStep(0.1)
    )
    (gradient,) = Unrolled()(problem).leaves()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_epsilon_must_be_positive(epsilon: float):
    with pytest.raises(ValueError, match=r"hypergradient\.epsilon must be positive, got"):
        Unrolled(epsilon=epsilon)
