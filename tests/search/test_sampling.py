import torch
from torch.testing import assert_close

from darts_gdas.nets import SuperNet
from darts_gdas.search import ArchParameters, Uniform
from darts_gdas.space import CellSpace, SearchSpace


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


UNEVEN = SearchSpace(
    {
        "normal": CellSpace(
            (("none", "skip_connect"), ("none", "skip_connect", "sep_conv_3x3")), num_nodes=1
        ),
        "reduce": CellSpace((("skip_connect",), ("none", "max_pool_3x3")), num_nodes=1),
    }
)


def test_every_candidate_is_equally_likely_whatever_the_alphas():
    logits, n = torch.tensor([5.0, 0.0, -5.0, 1.0]).double(), 40_000
    weights, active = Uniform().relax(logits.expand(n, -1), progress=0.0, rng=rng())
    assert active is not None
    frequency = torch.bincount(torch.tensor(active), minlength=4).double() / n
    # 4 sigma of a share of 1/4.
    assert_close(frequency, torch.full((4,), 0.25).double(), atol=4 * (3 / 16 / n) ** 0.5, rtol=0)
    assert_close(weights, torch.eye(4).double()[list(active)], rtol=0, atol=0)


def test_absent_candidates_are_never_drawn():
    arch, seen = ArchParameters(UNEVEN), set()
    generator = rng()
    for _ in range(100):
        mixture = Uniform()(arch, rng=generator)
        for kind, cell in UNEVEN.cells.items():
            active = mixture[kind].active
            assert active is not None
            for edge, names in enumerate(cell.candidates):
                assert active[edge] < len(names)
                seen.add((kind, edge, active[edge]))
    assert len(seen) == 2 + 3 + 1 + 2  # each one of those there are was drawn


def test_without_noise_it_is_the_mean_over_all_paths():
    arch = ArchParameters(UNEVEN)
    for mixture in (Uniform()(arch, rng=None), Uniform().expected(arch)):
        assert mixture["normal"].active is None
        expected = torch.tensor([[1 / 2, 1 / 2, 0.0], [1 / 3, 1 / 3, 1 / 3]])
        assert_close(mixture["normal"].ops, expected)
        assert_close(mixture["reduce"].ops, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))


def test_the_same_seed_draws_the_same_paths():
    arch = ArchParameters(SearchSpace.named("darts"))
    paths = [[Uniform()(arch, rng=g)["normal"].active for _ in range(3)] for g in (rng(1), rng(1))]
    assert paths[0] == paths[1] and len(set(paths[0])) == 3


def test_no_alpha_gets_a_gradient():
    space = SearchSpace.named("nasbench201")
    arch = ArchParameters(space)
    net = SuperNet.build(space, channels=2, layers=5, num_classes=3, in_channels=1)
    mixture = Uniform()(arch, rng=rng())
    assert not mixture["normal"].ops.requires_grad
    assert net(torch.zeros(2, 1, 8, 8), mixture).shape == (2, 3)
