"""Mixtures: a fixed order of tensors, and structure that survives other numbers."""

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Mixture


@pytest.fixture
def mixture() -> Mixture:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Mixture(
        {
            "normal": CellMixture(draw(5, 3), draw(5), active=(0, 1, 2, 1, 0)),
            "reduce": CellMixture(draw(2, 4)),
        }
    )


def same_structure(first: Mixture, second: Mixture) -> bool:
    return list(first) == list(second) and all(
        first[kind].active == second[kind].active
        and (first[kind].edges is None) == (second[kind].edges is None)
        for kind in first
    )


def test_is_a_mapping_of_kinds(mixture: Mixture):
    assert list(mixture) == ["normal", "reduce"]
    assert len(mixture) == 2
    assert "normal" in mixture and "other" not in mixture
    assert mixture["reduce"].ops.shape == (2, 4)


def test_later_changes_of_the_source_do_not_reach_it():
    cells = {"normal": CellMixture(torch.ones(2, 3))}
    mixture = Mixture(cells)
    cells.clear()
    assert list(mixture) == ["normal"]


def test_repr_shows_kinds_and_numbers():
    text = repr(Mixture({"normal": CellMixture(torch.full((1, 1), 0.25), active=(0,))}))
    assert text.startswith("Mixture({'normal': CellMixture(")
    assert "0.25" in text and "active=(0,)" in text


def test_leaves_are_ops_then_edges_of_each_kind(mixture: Mixture):
    leaves = mixture.leaves()
    expected = [mixture["normal"].ops, mixture["normal"].edges, mixture["reduce"].ops]
    assert [id(leaf) for leaf in leaves] == [id(tensor) for tensor in expected]


def test_with_leaves_is_the_inverse_of_leaves(mixture: Mixture):
    again = mixture.with_leaves(mixture.leaves())
    assert all(a is b for a, b in zip(again.leaves(), mixture.leaves(), strict=True))
    assert same_structure(again, mixture)


def test_with_leaves_puts_each_tensor_where_its_predecessor_stood(mixture: Mixture):
    doubled = mixture.with_leaves([2 * leaf for leaf in mixture.leaves()])
    assert same_structure(doubled, mixture)
    assert_close(doubled["normal"].ops, 2 * mixture["normal"].ops)
    assert_close(doubled["normal"].edges, 2 * mixture["normal"].edges)
    assert_close(doubled["reduce"].ops, 2 * mixture["reduce"].ops)


@pytest.mark.parametrize("edges", [None, torch.ones(2)], ids=["no edge weights", "edge weights"])
def test_a_cell_takes_its_own_tensors_back(edges: Tensor | None):
    cell = CellMixture(torch.ones(2, 3), edges, active=(1, 2))
    again = cell.with_tensors(cell.tensors)
    assert again.ops is cell.ops and again.edges is cell.edges and again.active == (1, 2)


def test_detach_keeps_values_and_cuts_the_graph(mixture: Mixture):
    logits = [leaf.clone().requires_grad_() for leaf in mixture.leaves()]
    computed = mixture.with_leaves([3 * leaf for leaf in logits])
    detached = computed.detach()
    assert same_structure(detached, computed)
    for cut, leaf in zip(detached.leaves(), computed.leaves(), strict=True):
        assert not cut.requires_grad
        assert_close(cut, leaf.detach(), rtol=0, atol=0)
    assert all(leaf.requires_grad for leaf in computed.leaves())


def test_require_grad_makes_leaves_that_collect_their_own_gradient(mixture: Mixture):
    logits = [leaf.clone().requires_grad_() for leaf in mixture.leaves()]
    computed = mixture.with_leaves([3 * leaf for leaf in logits])
    fresh = computed.require_grad()
    assert same_structure(fresh, computed)
    sum((leaf**2).sum() for leaf in fresh.leaves()).backward()
    for leaf, value in zip(fresh.leaves(), computed.leaves(), strict=True):
        assert leaf.is_leaf
        assert_close(leaf.grad, 2 * value.detach())
    assert all(leaf.grad is None for leaf in logits)


def test_require_grad_leaves_its_source_without_gradient(mixture: Mixture):
    mixture.require_grad()
    assert not any(leaf.requires_grad for leaf in mixture.leaves())


def test_values_cannot_be_written(mixture: Mixture):
    with pytest.raises(AttributeError):
        mixture["normal"].ops = torch.ones(5, 3)  # type: ignore[misc]
    with pytest.raises(TypeError):
        mixture["normal"] = mixture["reduce"]  # type: ignore[index]


def test_shapes_are_checked_while_the_tests_run():
    with pytest.raises(TypeCheckError):
        CellMixture(torch.ones(2, 3), torch.ones(3))
