"""S1 to S4: which operations stand on which edges."""

import pytest

from darts_gdas.space import SearchSpace

S1 = {
    "normal": {
        "skip_connect": set(range(12)),
        "sep_conv_3x3": {3, 6, 7, 9},
        "dil_conv_3x3": {0, 4, 8, 11, 12, 13},
        "dil_conv_5x5": {1, 2, 12, 13},
        "max_pool_3x3": {5, 10},
    },
    "reduce": {
        "max_pool_3x3": {0, 1, 2, 3, 5, 6, 9, 10},
        "avg_pool_3x3": {0, 2, 3, 5, 9, 10},
        "skip_connect": {4, 7, 8, 11, 12, 13},
        "dil_conv_5x5": {4, 8, 11, 12, 13},
        "dil_conv_3x3": {1, 7},
        "sep_conv_3x3": {6},
    },
}
"""Edges by operation, turned from the authors' lists by edge."""


@pytest.mark.parametrize("kind", ["normal", "reduce"])
def test_s1_has_the_authors_operations_on_every_edge(kind: str):
    cell = SearchSpace.named("s1").cells[kind]
    for edge, names in enumerate(cell.candidates):
        assert set(names) == {name for name, edges in S1[kind].items() if edge in edges}


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("s2", {"skip_connect", "sep_conv_3x3"}),
        ("s3", {"none", "skip_connect", "sep_conv_3x3"}),
        ("s4", {"noise", "sep_conv_3x3"}),
    ],
)
def test_s2_to_s4_offer_the_same_on_every_edge(name: str, operations: set[str]):
    for cell in SearchSpace.named(name).cells.values():
        assert {frozenset(names) for names in cell.candidates} == {frozenset(operations)}
