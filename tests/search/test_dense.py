"""Concrete, sigmoid and Dirichlet mixtures: their laws, their gradients, their limits."""

import math

import pytest
import torch
from torch.distributions import Dirichlet as TorchDirichlet
from torch.testing import assert_close

from darts_gdas.search.dense import Concrete, Dirichlet, Sigmoid, log_concentration
from darts_gdas.search.relaxation import ArchParameters, Linear, Relaxation, gumbel_noise
from darts_gdas.space import CellSpace, SearchSpace

DARTS = SearchSpace.named("darts")
RELAXATIONS = pytest.mark.parametrize("relaxation", [Concrete(), Sigmoid(), Dirichlet()], ids=repr)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@RELAXATIONS
def test_every_candidate_runs(relaxation: Relaxation):
    mixture = relaxation(ArchParameters(DARTS), progress=0.0, rng=rng())
    assert list(mixture) == ["normal", "reduce"]
    for cell in mixture.values():
        assert cell.active is None and cell.ops.shape == (14, 8)
        assert (cell.ops > 0).all() and (cell.ops < 1).all()


@pytest.mark.parametrize("relaxation", [Concrete(), Dirichlet()], ids=repr)
@pytest.mark.parametrize("shape", [(1, 2), (14, 8)])
def test_rows_are_distributions(relaxation: Relaxation, shape: tuple[int, int]):
    logits = torch.randn(shape, generator=rng()).double()
    for generator in (rng(), None):
        weights, _ = relaxation.relax(logits, progress=0.5, rng=generator)
        assert_close(weights.sum(-1), torch.ones(shape[0]).double())


@RELAXATIONS
def test_a_mixture_is_a_function_of_the_generator_alone(relaxation: Relaxation):
    """Torch's global generator plays no part, neither read nor moved."""
    arch = ArchParameters(DARTS, generator=rng(1))
    torch.manual_seed(5)
    first = relaxation(arch, progress=0.5, rng=rng(3))
    torch.manual_seed(6)
    state = torch.get_rng_state()
    again = relaxation(arch, progress=0.5, rng=rng(3))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(first.leaves(), again.leaves(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("relaxation", [Concrete(), Dirichlet()], ids=repr)
def test_noise_is_fresh(relaxation: Relaxation):
    generator, arch = rng(), ArchParameters(DARTS)
    first, second = (relaxation(arch, progress=0.5, rng=generator) for _ in range(2))
    assert not torch.equal(first["normal"].ops, second["normal"].ops)


@RELAXATIONS
def test_absent_candidates_get_no_weight_and_no_gradient(relaxation: Relaxation):
    rows = (("none", "skip_connect", "sep_conv_3x3"), ("skip_connect", "max_pool_3x3"))
    space = SearchSpace({"normal": CellSpace(rows, num_nodes=1)})
    arch = ArchParameters(space, scale=1.0).double()
    for generator in (*map(rng, range(20)), None):
        ops = relaxation(arch, progress=0.5, rng=generator)["normal"].ops
        assert ops[1, 2] == 0.0 and (ops[1, :2] > 0).all()
        arch.zero_grad()
        (ops * torch.randn(2, 3, generator=rng(1)).double()).sum().backward()
        gradient = arch.logits["normal"].grad
        assert gradient is not None and gradient.isfinite().all()
        assert gradient[1, 2] == 0.0 and (gradient[1, :2] != 0).all()
    assert relaxation.expected(arch)["normal"].ops[1, 2] == 0.0


@RELAXATIONS
def test_the_differentiable_mean_is_the_shown_one(relaxation: Relaxation):
    arch = ArchParameters(DARTS, scale=1.0)
    mean, shown = relaxation.mean(arch), relaxation.expected(arch)
    for a, b in zip(mean.leaves(), shown.leaves(), strict=True):
        assert torch.equal(a, b) and a.requires_grad and not b.requires_grad


# Concrete


@pytest.mark.parametrize("tau", [0.1, 1.0, 5.0])
def test_the_largest_concrete_weight_is_a_draw_from_the_softmax(tau: float):
    logits, n = torch.tensor([0.0, 1.0, 2.0]).double(), 40_000
    weights, _ = Concrete(Linear(tau, tau)).relax(logits.expand(n, -1), progress=0.0, rng=rng())
    frequency = torch.bincount(weights.argmax(-1), minlength=3).double() / n
    assert_close(frequency, logits.softmax(-1), atol=5 * 0.5 / n**0.5, rtol=0)  # 5 sigma
    assert torch.equal(Concrete().expectation(logits[None])[0], logits.softmax(-1))


def test_the_concrete_mean_tends_to_the_softmax_as_the_temperature_falls():
    logits, n = torch.tensor([0.3, -1.0, 2.0]).double(), 40_000
    cold, _ = Concrete(Linear(1.0, 1e-3)).relax(logits.expand(n, -1), progress=1.0, rng=rng())
    assert_close(cold.mean(0), logits.softmax(-1), atol=5 * 0.5 / n**0.5, rtol=0)  # 5 sigma


def test_the_difference_of_two_log_weights_is_logistic():
    """tau (log w_1 - log w_2) - (a_1 - a_2) is a difference of Gumbels: variance pi^2 / 3."""
    logits, n, tau = torch.tensor([0.7, -0.4]).double(), 40_000, 0.6
    weights, _ = Concrete(Linear(tau, tau)).relax(logits.expand(n, -1), progress=0.0, rng=rng())
    log_odds = tau * (weights[:, 0].log() - weights[:, 1].log())
    variance = math.pi**2 / 3
    assert_close(log_odds.mean().item(), 1.1, atol=5 * (variance / n) ** 0.5, rtol=0)  # 5 sigma
    # The fourth central moment of the logistic is 7 pi^4 / 15.
    sigma = ((7 * math.pi**4 / 15 - variance**2) / n) ** 0.5
    assert_close(log_odds.var().item(), variance, atol=5 * sigma, rtol=0)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_concrete_has_the_gradient_of_the_tempered_softmax(progress: float):
    """dw_i/da_j = w_i (delta_ij - w_j) / tau at fixed noise."""
    relaxation = Concrete()
    tau = relaxation.tau(progress)
    logits = torch.randn(5, 8, generator=rng()).double().requires_grad_()
    upstream = torch.randn(5, 8, generator=rng(1)).double()
    weights, _ = relaxation.relax(logits, progress=progress, rng=rng(2))
    (gradient,) = torch.autograd.grad((weights * upstream).sum(), logits)
    noise = gumbel_noise(torch.Size([5, 8]), rng(2))
    w = ((logits.detach() + noise) / tau).softmax(-1)
    assert_close(weights.detach(), w, rtol=1e-10, atol=1e-14)
    jacobian = (torch.diag_embed(w) - w[:, :, None] * w[:, None, :]) / tau  # [edges, i, j]
    expected = torch.einsum("ei,eij->ej", upstream, jacobian)
    assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_concrete_anneals_from_1_to_003_and_rejects_zero():
    assert Concrete().settings(0.0) == {"tau": 1.0}
    assert Concrete().settings(1.0) == {"tau": pytest.approx(0.03)}
    with pytest.raises(ValueError, match=r"relaxation\.tau must stay positive, got 1\.0 -> 0\.0"):
        Concrete(Linear(1.0, 0.0))


# Sigmoid


def test_sigmoids_do_not_compete():
    """Raising one logit moves its own weight alone: dw_i/da_j = delta_ij w_i (1 - w_i)."""
    logits = torch.randn(3, 4, generator=rng()).double().requires_grad_()
    weights, active = Sigmoid().relax(logits, progress=0.3, rng=rng())
    assert active is None
    expected = 1 / (1 + (-logits.detach()).exp())
    assert_close(weights.detach(), expected, rtol=1e-14, atol=0)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: Sigmoid().relax(x, progress=0.3, rng=None)[0].flatten(), logits.detach()
    ).reshape(12, 12)
    assert_close(jacobian, torch.diag((expected * (1 - expected)).flatten()))
    assert torch.equal(Sigmoid().expectation(logits), weights)


# Dirichlet


def test_concentrations_are_elu_plus_one():
    logits = torch.tensor([-3.0, -0.5, 0.0, 0.5, 4.0]).double().requires_grad_()
    concentrations = log_concentration(logits).exp()
    expected = torch.nn.functional.elu(logits) + 1
    assert_close(concentrations, expected)
    ours, torchs = (torch.autograd.grad(x.sum(), logits)[0] for x in (concentrations, expected))
    assert_close(ours, torchs)
    deep = torch.tensor([-40.0, -torch.inf])  # elu(-40) + 1 is 0 in float32
    assert_close(log_concentration(deep), deep)


LOGITS = torch.tensor([0.8, -0.3, -1.5, 2.5]).double()


def test_a_dirichlet_sample_has_the_law_of_torchs():
    """Mean, variance and log-moments of an independent implementation, within 5 sigma."""
    n = 40_000
    law = TorchDirichlet(torch.nn.functional.elu(LOGITS) + 1)
    sample, _ = Dirichlet().relax(LOGITS.expand(n, -1), progress=0.0, rng=rng())
    sigma = (law.variance / n).sqrt()
    assert ((sample.mean(0) - law.mean).abs() < 5 * sigma).all()
    squares = (sample - law.mean).square()
    sigma = (squares.var(0) / n).sqrt()
    assert ((squares.mean(0) - law.variance).abs() < 5 * sigma).all()
    # E log w_i = digamma(b_i) - digamma(sum b); Var log w_i = trigamma(b_i) - trigamma(sum b).
    b = law.concentration
    log_mean = b.digamma() - b.sum().digamma()
    log_variance = b.polygamma(1) - b.sum().polygamma(1)
    assert ((sample.log().mean(0) - log_mean).abs() < 5 * (log_variance / n).sqrt()).all()
    assert_close(Dirichlet().expectation(LOGITS[None])[0], law.mean)


def test_the_pathwise_gradient_is_unbiased():
    """Its mean is that of the mean: d(b_i / b_0)/da_j, and of E log w_i, within 5 sigma."""
    n = 20_000
    upstream = torch.tensor([0.5, -1.0, 2.0, 0.3]).double()
    b = log_concentration(LOGITS).exp()
    slope = torch.where(LOGITS > 0, torch.ones_like(b), b)  # db/da
    mean = b / b.sum()
    d_mean = (upstream - (upstream * mean).sum()) / b.sum() * slope
    d_log = (upstream * b.polygamma(1) - upstream.sum() * b.sum().polygamma(1)) * slope
    for function, expected in ((torch.clone, d_mean), (torch.log, d_log)):
        logits = LOGITS.repeat(n, 1).requires_grad_()
        weights, _ = Dirichlet().relax(logits, progress=0.0, rng=rng(1))
        (gradient,) = torch.autograd.grad((function(weights) * upstream).sum(), logits)
        sigma = (gradient.var(0) / n).sqrt()
        assert ((gradient.mean(0) - expected).abs() < 5 * sigma).all()


def test_without_noise_the_dirichlet_is_its_mean():
    logits = torch.randn(4, 5, generator=rng()).double()
    weights, _ = Dirichlet().relax(logits, progress=0.0, rng=None)
    assert torch.equal(weights, Dirichlet().expectation(logits))
    assert_close(weights, TorchDirichlet(torch.nn.functional.elu(logits) + 1).mean)


@pytest.mark.parametrize("value", [-1000.0, -30.0, 0.0, 30.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extreme_alphas_leave_mixture_and_gradient_finite(value: float, dtype: torch.dtype):
    for others in (value, 0.0):
        logits = torch.full((500, 4), others, dtype=dtype)
        logits[:, 0] = value
        logits.requires_grad_()
        weights, _ = Dirichlet().relax(logits, progress=0.0, rng=rng())
        (gradient,) = torch.autograd.grad(weights.square().sum(), logits)
        assert weights.dtype == dtype and weights.isfinite().all() and gradient.isfinite().all()
        assert_close(weights.sum(-1), torch.ones(500, dtype=dtype))


def test_a_dirichlet_of_concentration_one_is_uniform_on_the_simplex():
    """Its marginals are Beta(1, K - 1): P(w_i < x) = 1 - (1 - x)^(K - 1)."""
    n, x = 40_000, 0.2
    weights, _ = Dirichlet().relax(torch.zeros(n, 4).double(), progress=0.0, rng=rng())
    share = (weights < x).double().mean(0)
    expected = torch.full((4,), 1 - (1 - x) ** 3).double()
    assert_close(share, expected, atol=5 * 0.5 / n**0.5, rtol=0)  # 5 sigma
