"""Chains of blocks as spaces: names, sizes, and the genotypes in JSON."""

import math
import random

import pytest

from darts_gdas.space import CHAIN_CANDIDATES, Genotype, SearchSpace, block_kinds

BLOCKS = [CHAIN_CANDIDATES, CHAIN_CANDIDATES[1:], ["mbconv3_5x5"]] * 4
SPACE = SearchSpace.chain(BLOCKS, reductions=[1, 4], widths=[1, 2, 2] * 4)


@pytest.mark.parametrize("count", [1, 9, 10, 11, 101])
def test_names_sort_in_the_order_of_the_blocks(count: int):
    kinds = block_kinds(count)
    assert len(set(kinds)) == count
    assert sorted(kinds) == list(kinds)


def test_every_block_has_candidates_of_its_own():
    assert [*SPACE.cells] == list(block_kinds(12))
    assert [cell.num_candidates for cell in SPACE.cells.values()] == [7, 6, 1] * 4
    assert math.prod(cell.num_cells for cell in SPACE.cells.values()) == (7 * 6 * 1) ** 4
    assert set(SPACE.num_inputs.values()) == set(SPACE.num_outputs.values()) == {1}


def test_a_chain_survives_json():
    genotype = SPACE.sample(random.Random(0))
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert genotype.num_inputs == SPACE.num_inputs
    assert (genotype.reductions, genotype.widths) == ((1, 4), (1, 2, 2) * 4)
    assert SPACE.restrict({"block00": {0: ["mbconv3_3x3"]}}).widths == genotype.widths
    with pytest.raises(ValueError, match="reductions must hold whole numbers, got '1'"):
        Genotype.from_json(genotype.to_json().replace("[1, 4]", '["1", 4]'))


def test_nothing_can_be_in_place_of_a_block():
    with pytest.raises(ValueError, match="candidates of block1: there is no way around a block"):
        SearchSpace.chain([["mbconv3_3x3"], ["none", "mbconv3_3x3"]], [], [1, 1])
