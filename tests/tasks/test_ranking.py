"""Rankings of small networks: one network has one score and one rank, however it is written."""

from random import Random

import pytest
import torch

from darts_gdas.nets import DerivedNet, Layout
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.journal import Journal
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.space.genotype import published_names
from darts_gdas.space.networks import representative
from darts_gdas.tasks.ranking import Scored, ScoreTask
from tests.space.test_networks import respelt

LAYOUT = Layout(2, 3, 3, in_channels=2)
CELLS = [SearchSpace.darts(num_nodes=3).sample(Random(i)) for i in range(4)]


def task(*genotypes: Genotype) -> ScoreTask:
    pixels = torch.randint(256, (20, 2, 8, 8), generator=torch.Generator().manual_seed(1))
    return ScoreTask(
        genotypes, LAYOUT, ImageSet(pixels.byte(), torch.arange(20) % 3, ("a", "b", "c")),
        Normalize(torch.full((2,), 0.5), torch.full((2,), 0.25)), 4, ("naswot", "synflow"),
        ("params",), 2, Compute(torch.device("cpu")), 3,
    )  # fmt: skip


def ranked(*genotypes: Genotype) -> Scored:
    return task(*genotypes).run(Journal(None, "s"))


def other(genotype: Genotype, seed: int = 0) -> Genotype:
    rng = Random(seed)
    return Genotype({kind: respelt(cell, rng) for kind, cell in genotype.cells.items()})


def test_two_rankings_that_spell_their_networks_differently_have_the_same_scores():
    spelt = [other(genotype) for genotype in CELLS]
    assert all(a != b for a, b in zip(CELLS, spelt, strict=True))
    one, two = ranked(*CELLS), ranked(*spelt)
    assert (one.means, one.errors, one.total) == (two.means, two.errors, two.total)
    assert one.genotypes == tuple(CELLS) and two.genotypes == tuple(spelt)  # as they are asked for


def test_a_network_that_is_written_twice_is_ranked_once_as_the_first():
    again = task(CELLS[0], other(CELLS[0]), CELLS[1], CELLS[2], CELLS[1])
    assert again.again == {1: 0, 4: 2}
    found, once = again.run(Journal(None, "s")), ranked(*CELLS[:3])
    assert found == once and sorted(found.order()) == [0, 1, 2]


@pytest.mark.parametrize("name", published_names())
def test_what_is_measured_of_a_published_cell_has_its_weights(name: str):
    """As many of each shape."""
    genotype = Genotype.load(name)
    sizes = []
    for each in (genotype, representative(genotype)):
        net = DerivedNet(each, Layout(2, 3, 3))
        sizes.append(sorted(tuple(p.shape) for p in net.parameters()))
        assert net.eval()(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
    assert sizes[0] == sizes[1]
