"""What stays of a space is what was most probable."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_gdas.nets import CellMixture, Mixture
from darts_gdas.search import ArchParameters, Dirichlet, Softmax
from darts_gdas.search.restriction import most_probable
from darts_gdas.space import SearchSpace
from tests.space.test_cell import spaces


@settings(deadline=None, max_examples=40)
@given(cell=spaces(), count=st.integers(2, 4), seed=st.integers(0, 2**31))
def test_a_candidate_stays_if_fewer_than_count_are_more_probable(cell, count: int, seed: int):
    """By comparing all pairs, in place of sorting."""
    space = SearchSpace({"normal": cell})
    ops = torch.rand(
        len(cell.edges), cell.num_candidates, generator=torch.Generator().manual_seed(seed)
    )  # in the columns of absent candidates too
    left = most_probable(Mixture({"normal": CellMixture(ops)}), space, count=count).cells["normal"]
    for row, names, stayed in zip(ops.tolist(), cell.candidates, left.candidates, strict=True):
        row = row[: len(names)]
        expected = [
            name for w, name in zip(row, names, strict=True) if sum(o > w for o in row) < count
        ]
        assert list(stayed) == expected
    assert (left.edges, left.keep, left.num_nodes) == (cell.edges, cell.keep, cell.num_nodes)


def test_of_equal_weights_the_earlier_stay_and_other_edges_are_untouched():
    space = SearchSpace.darts(num_nodes=1, keep=1).restrict(
        {"reduce": {0: ["none", "skip_connect"]}}
    )
    alphas = ArchParameters(space, scale=0.0)
    left = most_probable(Softmax().expected(alphas), space, count=3)
    assert left.cells["normal"].candidates == (("none", "max_pool_3x3", "avg_pool_3x3"),) * 2
    assert left.cells["reduce"].candidates[0] == ("none", "skip_connect")


def test_kinds_and_relaxations_are_each_asked_for_themselves():
    """The mean of a Dirichlet ranks as its concentrations do."""
    space = SearchSpace.named("darts")
    alphas = ArchParameters(space, scale=2.0, generator=torch.Generator().manual_seed(0))
    left = most_probable(Dirichlet().expected(alphas), space, count=4)
    for kind, cell in space.cells.items():
        for edge, logits in enumerate(alphas.logits[kind]):
            best = logits.topk(4).indices.sort().values.tolist()
            expected = tuple(cell.candidates[edge][i] for i in best)
            assert left.cells[kind].candidates[edge] == expected
