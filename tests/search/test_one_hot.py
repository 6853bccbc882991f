import random

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Mixture, SuperNet
from darts_gdas.search import ArgMax
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import CellSpace, Genotype, SearchSpace

SPACES = {
    "darts": SearchSpace.darts(num_nodes=3),
    "nasbench201": SearchSpace.named("nasbench201"),
    "without none": SearchSpace.darts(
        num_nodes=2, candidates=("skip_connect", "sep_conv_3x3", "max_pool_3x3")
    ),
}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@spaces
def test_discretising_gives_the_genotype_back(space: SearchSpace):
    rng = random.Random(0)
    for _ in range(20):
        genotype = space.sample(rng)
        assert ArgMax()(one_hot(genotype, space), space) == genotype


@spaces
def test_what_runs_alone_is_what_the_weights_say(space: SearchSpace):
    """Two routes: only the active candidates, and all of them with weights 0 and 1."""
    torch.manual_seed(0)
    layers = 5 if len(space.cells) == 1 else 3
    net = SuperNet.build(space, channels=2, layers=layers, num_classes=3, in_channels=1).double()
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    sparse = one_hot(space.sample(random.Random(1)), space)
    sparse = sparse.with_leaves([leaf.double() for leaf in sparse.leaves()])
    dense = Mixture({kind: CellMixture(cell.ops) for kind, cell in sparse.items()})
    assert_close(net(images, sparse), net(images, dense), rtol=1e-9, atol=1e-9)


def test_edges_that_are_left_out_have_no_weight():
    space = SPACES["darts"]
    mixture = one_hot(space.sample(random.Random(0)), space)
    for kind, cell in space.cells.items():
        per_edge = mixture[kind].ops.sum(1)
        for node in range(cell.num_nodes):
            assert per_edge[list(cell.edges_into(node))].sum() == 2.0
        active = mixture[kind].active
        assert active is not None
        left_out = [active[edge] for edge in range(len(cell.edges)) if per_edge[edge] == 0]
        assert set(left_out) == {0}  # `none` runs there


@pytest.mark.parametrize(
    ("name", "space", "message"),
    [
        ("DARTS_V1", SearchSpace.named("nasbench201"), "reads state"),
        ("DARTS_V1", SearchSpace.darts(candidates=("sep_conv_3x3",)), "'skip_connect' on edge"),
        ("NASNet", SearchSpace.named("darts"), "reads state 0 in a way"),
        (
            "DARTS_V1",
            SearchSpace({"other": CellSpace(("skip_connect",))}),  # type: ignore[arg-type]
            "has no other cell",
        ),
    ],
)
def test_foreign_genotypes_are_refused(name: str, space: SearchSpace, message: str):
    with pytest.raises(ValueError, match=message):
        one_hot(Genotype.load(name), space)
