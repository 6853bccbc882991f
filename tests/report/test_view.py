"""Values of a restricted search in the space that it was restricted from."""

import numpy as np
import pytest

from darts_gdas.report.view import edge_name, in_columns, leads
from darts_gdas.space import CellSpace, SearchSpace
from tests.report.test_tensorboard import view_at

SPACE = SearchSpace.darts(num_nodes=2, candidates=("none", "skip_connect", "sep_conv_3x3"))


def test_what_is_left_keeps_its_value_in_its_own_column():
    """Every edge has lost one candidate, another one from edge to edge."""
    kept = {
        kind: {
            edge: [name for i, name in enumerate(names) if i != edge % 3]
            for edge, names in enumerate(cell.candidates)
        }
        for kind, cell in SPACE.cells.items()
    }
    whole = view_at(0, SPACE).probabilities
    narrow = {
        kind: np.stack([np.delete(row, edge % 3) for edge, row in enumerate(rows)])
        for kind, rows in whole.items()
    }
    wide = in_columns(narrow, SPACE.restrict(kept), SPACE, blank=np.nan)
    for kind, rows in whole.items():
        for edge, row in enumerate(rows):
            assert np.isnan(wide[kind][edge][edge % 3])
            assert np.array_equal(np.delete(wide[kind][edge], edge % 3), narrow[kind][edge])
            assert np.array_equal(np.delete(row, edge % 3), narrow[kind][edge])


@pytest.mark.parametrize("name", ["darts", "s1", "nasbench201"])
def test_in_its_own_space_what_an_edge_has_stays_and_what_it_lacks_is_blank(name: str):
    space = SearchSpace.named(name)
    values = view_at(0, space).probabilities
    found = in_columns(values, space, space, blank=7.0)
    for kind, cell in space.cells.items():
        for edge, names in enumerate(cell.candidates):
            assert np.array_equal(found[kind][edge][: len(names)], values[kind][edge][: len(names)])
            assert (found[kind][edge][len(names) :] == 7.0).all()


def test_edges_are_named_by_what_they_join():
    cell = SPACE.cells["normal"]
    names = [edge_name(cell, edge) for edge in range(len(cell.edges))]
    assert names == ["c_k-2->0", "c_k-1->0", "c_k-2->1", "c_k-1->1", "0->1"]


def test_a_lead_is_the_largest_minus_the_next_of_what_the_edge_has():
    cell = CellSpace((("none", "skip_connect", "sep_conv_3x3"), ("skip_connect",)), num_nodes=1)
    rows = np.array([[0.2, 0.5, 0.3], [0.1, 0.7, 0.9]])
    assert leads(cell, rows) == pytest.approx([0.2, np.nan], nan_ok=True)
    two = CellSpace((("none", "skip_connect"), ("none", "skip_connect")), num_nodes=1)
    assert leads(two, rows) == pytest.approx([0.3, 0.6])
    assert leads(two, np.full((2, 2), 0.5)).tolist() == [0.0, 0.0]
