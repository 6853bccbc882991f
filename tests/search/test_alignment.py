"""Alignment of layers against its definition and against a closed form of its gradient."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search import Bilevel, FirstOrder, LayerAlignment
from darts_gdas.search.alignment import alignment

COUNTS = {"normal": 3, "reduce": 2}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_mean_cosine_of_all_pairs_summed_over_kinds():
    gradients = [drawn(4, 3, 2), drawn(2, 3, 2, seed=1), drawn(1, 3, 2, seed=2)]
    expected = 0.0
    for rows in gradients[:2]:
        pairs = list(itertools.combinations(rows.flatten(1), 2))
        expected += sum(float(F.cosine_similarity(a, b, dim=0)) for a, b in pairs) / len(pairs)
    assert_close(float(alignment(gradients)), expected)
    assert float(alignment([drawn(1, 5)])) == 0.0


def test_a_cell_without_a_gradient_adds_nothing_and_spoils_nothing():
    rows = torch.cat([drawn(2, 4), torch.zeros(1, 4).double()]).requires_grad_()
    (gradient,) = torch.autograd.grad(alignment([rows]), rows)
    assert torch.isfinite(gradient).all()


class Quadratic:
    """L = sum over kinds of x^T A x / 2 + b x, x all cells' mixtures of a kind side by side."""

    def __init__(self) -> None:
        self.terms = {}
        for i, (kind, count) in enumerate(COUNTS.items()):
            size = count * 6
            half = drawn(size, size, seed=i)
            self.terms[kind] = (half + half.T, drawn(size, seed=10 + i))
        self.asked: list[Mixture] = []

    def __call__(self, weights: dict[str, Tensor], mixture: Mixture) -> Tensor:
        self.asked.append(mixture.detach())
        loss = torch.zeros((), dtype=torch.float64)
        for kind, (a, b) in self.terms.items():
            parts = mixture[kind].parts
            x = torch.cat([parts[i % len(parts)].ops.flatten() for i in range(COUNTS[kind])])
            loss = loss + x @ a @ x / 2 + b @ x
        return loss


def problem(loss: Quadratic) -> Bilevel:
    mixture = Mixture({k: CellMixture(drawn(2, 3, seed=i).softmax(-1)) for i, k in
                       enumerate(COUNTS)})  # fmt: skip
    return Bilevel(loss, loss, {}, mixture, lambda: pytest.fail("no step"), COUNTS)  # type: ignore[arg-type]


def test_the_gradient_is_that_of_loss_minus_weight_times_alignment():
    """A quadratic's cell gradients are affine, so autograd differentiates the definition exactly,
    and the central difference of affine gradients has no error of its own."""
    loss, weight = Quadratic(), 0.7
    asked = problem(loss)
    found = LayerAlignment(weight=weight, step=1e-3)(asked)
    leaf = asked.mixture.require_grad()
    per_cell = []
    for kind, (a, b) in loss.terms.items():
        x = leaf[kind].ops.flatten().repeat(COUNTS[kind])
        per_cell.append((a @ x + b).view(COUNTS[kind], -1))
    objective = loss({}, leaf) - weight * alignment(per_cell)
    expected = torch.autograd.grad(objective, leaf.leaves())
    for got, want in zip(found.leaves(), expected, strict=True):
        assert_close(got, want, rtol=1e-7, atol=1e-7)


def test_without_weight_it_is_first_order_bit_for_bit():
    loss = Quadratic()
    found, expected = LayerAlignment(weight=0.0)(problem(loss)), FirstOrder()(problem(loss))
    assert len(loss.asked) == 2  # and it costs no more
    for got, want in zip(found.leaves(), expected.leaves(), strict=True):
        assert torch.equal(got, want)


def test_the_last_mixture_that_the_loss_sees_is_the_plain_one():
    loss = Quadratic()
    asked = problem(loss)
    LayerAlignment()(asked)
    assert len(loss.asked) == 4
    for got, want in zip(loss.asked[-1].leaves(), asked.mixture.leaves(), strict=True):
        assert torch.equal(got, want)


def test_weights_of_edges_stay_shared():
    loss = Quadratic()
    asked = problem(loss)
    cells = {kind: replace(cell, edges=torch.ones(2).double()) for kind, cell in
             asked.mixture.items()}  # fmt: skip
    found = LayerAlignment()(replace(asked, mixture=Mixture(cells)))
    assert [leaf.shape for leaf in found.leaves()] == [(2, 3), (2,), (2, 3), (2,)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"weight": -1.0}, "weight must not be negative, got -1.0"),
     ({"step": 0.0}, "step must be positive, got 0.0")],
)  # fmt: skip
def test_values_without_meaning_are_refused(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        LayerAlignment(**settings)
