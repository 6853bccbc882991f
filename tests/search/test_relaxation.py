import math

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.search.relaxation import (
    ArchParameters,
    GumbelHard,
    Linear,
    Relaxation,
    Softmax,
    gumbel_noise,
)
from darts_gdas.space import CellSpace, SearchSpace

DARTS = SearchSpace.named("darts")
RELAXATIONS = pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=repr)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@RELAXATIONS
@pytest.mark.parametrize("shape", [(1, 2), (14, 8)])
def test_rows_are_distributions(relaxation: Relaxation, shape: tuple[int, int]):
    weights, _ = relaxation.relax(torch.randn(shape), progress=0.5, rng=rng())
    assert_close(weights.sum(-1), torch.ones(shape[0]))


@RELAXATIONS
def test_a_mixture_has_one_row_per_edge_and_kind(relaxation: Relaxation):
    mixture = relaxation(ArchParameters(DARTS), progress=0.0, rng=rng())
    assert list(mixture) == ["normal", "reduce"]
    assert all(cell.ops.shape == (14, 8) for cell in mixture.values())


@RELAXATIONS
def test_the_same_generator_state_gives_the_same_mixture(relaxation: Relaxation):
    arch = ArchParameters(DARTS)
    first, again = (relaxation(arch, progress=0.5, rng=rng(3)) for _ in range(2))
    for a, b in zip(first.leaves(), again.leaves(), strict=True):
        assert torch.equal(a, b)


@RELAXATIONS
def test_expectation_is_the_mean_over_the_noise(relaxation: Relaxation):
    logits, n = torch.tensor([[0.3, -1.0, 2.0]]).double(), 40_000
    drawn, _ = relaxation.relax(logits.expand(n, -1), progress=0.3, rng=rng())
    expected = relaxation.expectation(logits)[0]
    assert_close(drawn.mean(0), expected, atol=4 * 0.5 / n**0.5, rtol=0)  # 4 sigma


def test_gumbel_hard_draws_from_the_softmax_at_any_temperature():
    """Gumbel-max: P(op) = softmax(logits)."""
    logits, n = torch.tensor([0.0, 1.0, 2.0]).double(), 40_000
    for tau in (0.1, 5.0):
        relaxation = GumbelHard(Linear(tau, tau))
        _, active = relaxation.relax(logits.expand(n, -1), progress=0.0, rng=rng())
        frequency = torch.bincount(torch.tensor(active)).double() / n
        assert_close(frequency, logits.softmax(-1), atol=4 * 0.5 / n**0.5, rtol=0)  # 4 sigma


def test_gumbel_hard_is_exactly_one_hot_at_the_active_candidate():
    logits = torch.randn(1000, 8, generator=rng()).double().requires_grad_()
    weights, active = GumbelHard().relax(logits, progress=0.9, rng=rng())
    one_hot = torch.nn.functional.one_hot(torch.tensor(active), 8).double()
    assert torch.equal(weights.detach(), one_hot)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_gumbel_hard_has_the_gradient_of_the_tempered_softmax(progress: float):
    """dh_i/da_j = p_i (delta_ij - p_j) / tau, with p = softmax((log_softmax(a) + g) / tau)."""
    relaxation = GumbelHard()
    tau = relaxation.tau(progress)
    logits = torch.randn(5, 8, generator=rng()).double().requires_grad_()
    upstream = torch.randn(5, 8, generator=rng(1)).double()
    weights, _ = relaxation.relax(logits, progress=progress, rng=rng(2))
    (gradient,) = torch.autograd.grad((weights * upstream).sum(), logits)

    noise = gumbel_noise(torch.Size([5, 8]), rng(2))
    p = ((logits.detach().log_softmax(-1) + noise) / tau).softmax(-1)
    jacobian = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) / tau  # [edges, i, j]
    assert_close(gradient, torch.einsum("ei,eij->ej", upstream, jacobian), rtol=1e-12, atol=1e-14)


def test_gumbel_hard_anneals_by_progress():
    assert GumbelHard().settings(0.0) == {"tau": 10.0}
    assert GumbelHard().settings(1.0) == {"tau": pytest.approx(0.1)}
    assert Softmax().settings(0.5) == {}


def test_gumbel_hard_without_noise_takes_the_largest_logit():
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    weights, active = GumbelHard().relax(logits, progress=0.5, rng=None)
    assert active == (1, 0)
    assert torch.equal(weights, torch.eye(3)[[1, 0]])


def test_gumbel_noise_is_finite_at_the_ends_of_the_uniform(monkeypatch: pytest.MonkeyPatch):
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: ends)
    noise = gumbel_noise(torch.Size([2]), rng())
    assert noise.isfinite().all()
    assert noise[0] < -3 and noise[1] > 36


@pytest.mark.parametrize("end", [0.0, -1.0, math.nan, math.inf])
def test_gumbel_hard_rejects_a_temperature_that_is_none(end: float):
    with pytest.raises(
        ValueError, match=rf"relaxation\.tau must stay positive, got 10\.0 -> {end}"
    ):
        GumbelHard(Linear(10.0, end))


@RELAXATIONS
def test_absent_candidates_get_no_weight_and_no_gradient(relaxation: Relaxation):
    """Edges may offer different candidates; the missing places are never drawn."""
    rows = (("none", "skip_connect", "sep_conv_3x3"), ("skip_connect",))
    space = SearchSpace({"normal": CellSpace(rows, num_nodes=1)})
    arch = ArchParameters(space, scale=1.0).double()
    for seed in range(20):
        mixture = relaxation(arch, progress=0.5, rng=rng(seed))
        assert_close(mixture["normal"].ops[1], torch.tensor([1.0, 0.0, 0.0]).double())
    mixture["normal"].ops.square().sum().backward()
    gradient = arch.logits["normal"].grad
    assert gradient is not None and gradient.isfinite().all()
    assert torch.equal(gradient[1], torch.zeros(3).double())


def test_kinds_of_different_width_share_one_draw():
    wide, narrow = CellSpace(("none", "skip_connect", "sep_conv_3x3")), CellSpace(("skip_connect",))
    arch = ArchParameters(SearchSpace({"normal": wide, "reduce": narrow}))
    mixture = GumbelHard()(arch, progress=0.0, rng=rng())
    assert mixture["normal"].ops.shape == (14, 3)
    assert mixture["reduce"].ops.shape == (14, 1)
    assert mixture["reduce"].active == (0,) * 14


@RELAXATIONS
def test_edges_are_weighed_within_their_node_under_any_relaxation(relaxation: Relaxation):
    """Eq. (3) of Xu et al.: exp(beta_e) over the sum of the edges into the same node."""
    arch = ArchParameters(DARTS, scale=1.0, generator=rng(), edge_normalization=True).double()
    plain = ArchParameters(DARTS, scale=1.0, generator=rng()).double()
    mixture, without = (relaxation(a, progress=0.5, rng=rng(1)) for a in (arch, plain))
    for kind, cell in DARTS.cells.items():
        assert torch.equal(mixture[kind].ops, without[kind].ops) and without[kind].edges is None
        assert mixture[kind].active == without[kind].active
        powers = [math.exp(beta) for beta in arch.edge_logits[kind].tolist()]
        totals = [
            sum(p for p, (other, _) in zip(powers, cell.edges, strict=True) if other == node)
            for node, _ in cell.edges
        ]
        expected = [p / total for p, total in zip(powers, totals, strict=True)]
        assert_close(
            mixture[kind].edges, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0
        )


def test_edge_logits_get_the_softmaxs_gradient():
    """db_i/dbeta_j = b_i (delta_ij - b_j) within a node, nothing across nodes."""
    space = SearchSpace({"normal": CellSpace(("skip_connect",), num_nodes=2)})
    arch = ArchParameters(space, scale=1.0, edge_normalization=True).double()
    edges = Softmax()(arch)["normal"].edges
    assert edges is not None
    upstream = torch.randn(5).double()
    (gradient,) = torch.autograd.grad(edges @ upstream, [arch.edge_logits["normal"]])
    for node in (slice(0, 2), slice(2, 5)):
        b, g = edges[node].detach(), upstream[node]
        assert_close(gradient[node], b * (g - (b * g).sum()), rtol=1e-12, atol=1e-14)


def test_edge_logits_are_saved_and_absent_unless_asked_for():
    arch = ArchParameters(DARTS, edge_normalization=True)
    names = {f"{part}.{kind}" for part in ("logits", "edge_logits") for kind in DARTS.cells}
    assert set(arch.state_dict()) == names
    assert all(beta.shape == (14,) for beta in arch.edge_logits.values())
    assert set(ArchParameters(DARTS).state_dict()) == {"logits.normal", "logits.reduce"}
    expected = Softmax().expected(arch)
    assert all(leaf.grad_fn is None and not leaf.requires_grad for leaf in expected.leaves())


def test_arch_parameters_start_near_zero_and_from_their_generator():
    arch, again = (ArchParameters(DARTS, generator=rng(7)) for _ in range(2))
    values = torch.cat([p.flatten() for p in arch.parameters()])
    assert values.numel() == 2 * 14 * 8
    assert 0.8e-3 < values.std().item() < 1.2e-3  # 1e-3 +- 4 sigma of 224 draws
    for a, b in zip(arch.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
