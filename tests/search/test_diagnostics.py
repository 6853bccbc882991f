import math

import pytest
import torch

from darts_gdas.search.diagnostics import entropy, skip_share
from darts_gdas.space import Genotype


def test_entropy_is_one_when_undecided_and_zero_when_decided():
    assert entropy(torch.full((14, 8), 1 / 8)) == pytest.approx(1.0)
    assert entropy(torch.eye(8)[torch.randint(8, (14,))]) == 0.0


def test_entropy_of_a_coin_on_one_of_two_edges():
    probabilities = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]).double()
    assert entropy(probabilities) == pytest.approx(math.log(2) / math.log(4) / 2)


def test_skip_share_counts_edges_of_all_cells():
    """DARTS_V1: 2 + 1 skips in the normal cell, 1 + 1 + 1 in the reduction cell; 16 edges."""
    genotype = Genotype.load("DARTS_V1")
    text = genotype.to_json()
    assert skip_share(genotype) == text.count("skip_connect") / 16
    assert skip_share(Genotype.load("NASNet")) == 3 / 20
