"""Perturbations: bounds, and the worst of a cube where it has a closed form."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search import (
    AdversarialPerturbation,
    ArchParameters,
    GumbelHard,
    Linear,
    Perturbation,
    RandomPerturbation,
    Softmax,
)
from darts_gdas.space import CellSpace, SearchSpace

EPSILON = Linear(0.01, 0.05)
RANDOM = RandomPerturbation(EPSILON, renormalize=False)
ADVERSARIAL = AdversarialPerturbation(EPSILON, renormalize=False)
BOTH = pytest.mark.parametrize("perturbation", [RANDOM, ADVERSARIAL], ids=["random", "adversarial"])
DARTS = SearchSpace.named("darts")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture_of(space: SearchSpace = DARTS, seed: int = 0) -> Mixture:
    return Softmax()(ArchParameters(space, scale=1.0, generator=rng(seed)).double()).detach()


def slopes(mixture: Mixture, seed: int = 5) -> list[Tensor]:
    generator = rng(seed)
    return [torch.randn(leaf.shape, generator=generator).double() for leaf in mixture.leaves()]


def linear(gradients: list[Tensor]) -> Callable[[Mixture], Tensor]:
    def loss(mixture: Mixture) -> Tensor:
        pairs = zip(gradients, mixture.leaves(), strict=True)
        return torch.stack([(g * leaf).sum() for g, leaf in pairs]).sum()

    return loss


def quadratic(mixture: Mixture) -> Tensor:
    """Curved, with its maximum far outside."""
    return torch.stack([(leaf - 0.3).square().sum() for leaf in mixture.leaves()]).sum()


def distance(a: Mixture, b: Mixture) -> float:
    pairs = zip(a.leaves(), b.leaves(), strict=True)
    return max(float((x - y).abs().max()) for x, y in pairs)


@BOTH
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "loss", [quadratic, linear(slopes(mixture_of()))], ids=["curved", "linear"]
)
def test_no_weight_leaves_the_cube(
    perturbation: Perturbation, progress: float, loss: Callable[[Mixture], Tensor]
):
    mixture = mixture_of()
    before = [leaf.clone() for leaf in mixture.leaves()]
    moved = perturbation(mixture, loss, progress=progress, rng=rng())
    epsilon = EPSILON(progress)
    assert 0.9 * epsilon < distance(moved, mixture) <= epsilon + 1e-15
    for leaf, kept, new in zip(mixture.leaves(), before, moved.leaves(), strict=True):
        assert torch.equal(leaf, kept)
        assert not new.requires_grad


@BOTH
def test_a_perturbation_is_a_function_of_the_generator(perturbation: Perturbation):
    mixture = mixture_of()
    first, again, other = (
        perturbation(mixture, quadratic, progress=0.5, rng=rng(seed)) for seed in (1, 1, 2)
    )
    assert distance(first, again) == 0
    if perturbation is RANDOM:
        assert distance(first, other) > 0


def test_the_random_one_is_uniform_and_asks_for_no_loss():
    """Mean 0, variance epsilon^2 / 3, fourth moment epsilon^4 / 5; within 5 sigma."""

    def refuse(_: Mixture) -> Tensor:
        raise AssertionError

    n = 40_000
    mixture = Mixture({"normal": CellMixture(torch.full((n // 8, 8), 1 / 8).double())})
    moved = RANDOM(mixture, refuse, progress=1.0, rng=rng())
    noise = (moved["normal"].ops - 1 / 8).flatten() / 0.05
    assert abs(noise.mean()) < 5 * (1 / 3 / n) ** 0.5
    assert abs(noise.square().mean() - 1 / 3) < 5 * ((1 / 5 - 1 / 9) / n) ** 0.5


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_worst_of_a_linear_loss_is_epsilon_times_the_1_norm(steps: int):
    """max over the cube of g.m = g.m0 + epsilon ||g||_1, reached from any start."""
    mixture = mixture_of()
    gradients = slopes(mixture)
    loss = linear(gradients)
    perturbation = AdversarialPerturbation(EPSILON, renormalize=False, steps=steps)
    for seed in range(3):
        moved = perturbation(mixture, loss, progress=0.5, rng=rng(seed))
        gain = loss(moved) - loss(mixture)
        norm = sum(g.abs().sum() for g in gradients)
        assert_close(gain, EPSILON(0.5) * norm, rtol=1e-12, atol=0)


def test_the_worst_of_a_convex_loss_is_the_far_corner():
    """Each coordinate moves away from the minimum at 0.3."""
    mixture = mixture_of()
    moved = ADVERSARIAL(mixture, quadratic, progress=0.2, rng=rng())
    epsilon = EPSILON(0.2)
    for m, c in zip(moved.leaves(), mixture.leaves(), strict=True):
        decided = (c - 0.3).abs() > 2 * epsilon
        away = c + epsilon * (c - 0.3).sign()
        assert decided.any()
        assert_close(m[decided], away[decided], rtol=0, atol=1e-14)


def test_the_loss_never_falls():
    """Where ascent ends lower than it began, the mixture itself is kept: a concave peak."""
    mixture = mixture_of()

    def peak(other: Mixture) -> Tensor:
        pairs = zip(other.leaves(), mixture.leaves(), strict=True)
        return -torch.stack([(a - b).square().sum() for a, b in pairs]).sum()

    moved = ADVERSARIAL(mixture, peak, progress=1.0, rng=rng())
    assert distance(moved, mixture) == 0
    for seed in range(3):
        assert quadratic(ADVERSARIAL(mixture, quadratic, progress=1.0, rng=rng(seed))) >= quadratic(
            mixture
        )


def test_the_number_of_passes_is_as_documented():
    calls = {"with_gradient": 0, "without": 0}

    def loss(mixture: Mixture) -> Tensor:
        calls["with_gradient" if torch.is_grad_enabled() else "without"] += 1
        return quadratic(mixture)

    AdversarialPerturbation(EPSILON, steps=4)(mixture_of(), loss, progress=0.5, rng=rng())
    assert calls == {"with_gradient": 4, "without": 2}


@pytest.mark.parametrize(
    "perturbation",
    [RandomPerturbation(Linear(0.9, 0.9)), AdversarialPerturbation(Linear(0.9, 0.9))],
    ids=["random", "adversarial"],
)
def test_renormalised_rows_are_distributions(perturbation: Perturbation):
    mixture = mixture_of()
    moved = perturbation(mixture, linear(slopes(mixture)), progress=0.5, rng=rng())
    assert distance(moved, mixture) > 0.3
    for leaf in moved.leaves():
        assert (leaf >= 0).all() and (leaf <= 1).all()
        assert_close(leaf.sum(-1), torch.ones(14).double())


def test_renormalising_clips_and_divides_by_the_sum():
    centre = Mixture({"normal": CellMixture(torch.full((2, 3), 1 / 3).double())})
    moved = torch.tensor([[1.5, 0.5, -0.2], [-0.3, -0.1, -0.2]]).double()
    placed = RandomPerturbation().placed(centre, [moved])["normal"].ops
    assert_close(placed, torch.tensor([[2 / 3, 1 / 3, 0.0], [0.0, 1.0, 0.0]]).double())


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("kind", [RandomPerturbation, AdversarialPerturbation])
def test_absent_candidates_stay_at_zero(kind: type[Perturbation], renormalize: bool):
    rows = (("none", "skip_connect", "sep_conv_3x3"), ("skip_connect", "none"))
    space = SearchSpace({"normal": CellSpace(rows, num_nodes=1)})
    mixture = mixture_of(space)
    for seed in range(5):
        moved = kind(Linear(0.3, 0.3), renormalize)(
            mixture, linear(slopes(mixture)), progress=0.5, rng=rng(seed)
        )
        assert moved["normal"].ops[1, 2] == 0 and (moved["normal"].ops[0] != 0).any()


@BOTH
def test_edge_weights_stay(perturbation: Perturbation):
    ops, edges = torch.full((2, 3), 1 / 3).double(), torch.tensor([0.4, 0.6]).double()
    moved = perturbation(
        Mixture({"normal": CellMixture(ops, edges)}), quadratic, progress=0.5, rng=rng()
    )
    assert torch.equal(moved.leaves()[1], edges)


@BOTH
def test_a_sparse_mixture_is_refused(perturbation: Perturbation):
    mixture = GumbelHard()(ArchParameters(DARTS), progress=0.0, rng=rng())
    with pytest.raises(ValueError, match="a sparse mixture cannot be perturbed"):
        perturbation(mixture, quadratic, progress=0.5, rng=rng())


def test_the_numbers_are_the_papers_and_their_limits_are_checked():
    assert AdversarialPerturbation().steps == 7
    assert RandomPerturbation().settings(0.0) == {"epsilon": 0.03}
    assert RandomPerturbation().settings(1.0) == {"epsilon": pytest.approx(0.3)}
    for end in (-1.0, 0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"perturbation\.epsilon must not be negative"):
            RandomPerturbation(Linear(0.0, end))
    with pytest.raises(ValueError, match=r"perturbation\.steps must be at least 1, got 0"):
        AdversarialPerturbation(steps=0)
