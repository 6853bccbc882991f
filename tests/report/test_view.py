"""What is seen of a restricted search, in the space that it was restricted from."""

import numpy as np
import pytest

from darts_gdas.report.view import SearchView, edge_name
from darts_gdas.space import SearchSpace
from tests.report.test_tensorboard import view_at

SPACE = SearchSpace.darts(num_nodes=2, candidates=("none", "skip_connect", "sep_conv_3x3"))


def narrowed(view: SearchView) -> SearchView:
    """Every edge without one candidate, another one from edge to edge."""
    kept = {
        kind: {
            edge: [name for i, name in enumerate(names) if i != edge % len(names)]
            for edge, names in enumerate(cell.candidates)
        }
        for kind, cell in SPACE.cells.items()
    }
    space = SPACE.restrict(kept)
    rows = {
        kind: np.stack([np.delete(row, edge % 3) for edge, row in enumerate(values)])
        for kind, values in view.probabilities.items()
    }
    return SearchView(space, rows, view.genotype, {}, rows)


def test_what_is_left_keeps_its_value_in_its_own_column():
    whole = view_at(0, SPACE)
    wide = narrowed(whole).within(SPACE)
    assert wide.space == SPACE and wide.genotype == whole.genotype
    for kind, values in whole.probabilities.items():
        for edge, row in enumerate(values):
            gone = edge % 3
            assert wide.probabilities[kind][edge][gone] == 0.0
            assert np.isnan(wide.alphas[kind][edge][gone])
            for found in (wide.probabilities, wide.alphas):
                assert np.array_equal(np.delete(found[kind][edge], gone), np.delete(row, gone))


@pytest.mark.parametrize("name", ["darts", "s1", "nasbench201"])
def test_a_view_within_its_own_space_is_the_same(name: str):
    """Also where edges have different numbers of candidates."""
    space = SearchSpace.named(name)
    view = view_at(0, space)
    same = view.within(space)
    for kind, cell in space.cells.items():
        for edge, names in enumerate(cell.candidates):
            kept = slice(len(names))
            expected = view.probabilities[kind][edge][kept]
            assert np.array_equal(same.probabilities[kind][edge][kept], expected)
            assert not same.probabilities[kind][edge][len(names) :].any()
            assert np.isnan(same.alphas[kind][edge][len(names) :]).all()


def test_edges_are_named_by_what_they_join():
    cell = SPACE.cells["normal"]
    names = [edge_name(cell, edge) for edge in range(len(cell.edges))]
    assert names == ["c_k-2->0", "c_k-1->0", "c_k-2->1", "c_k-1->1", "0->1"]
