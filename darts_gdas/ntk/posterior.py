"""What an infinite ensemble of trained networks predicts: a mean, and how far its members differ.

A member begins with outputs f_0 drawn from a Gaussian process of covariance K (the NNGP), and the
gradient flow of its squared error moves them by its tangent kernel T. Both are linear in f_0 and in
the targets, so the members' outputs at any time are Gaussian again:

    f_t(x) = f_0(x) + B (f_0(X) - y - e),   B = T_xX (exp(-(T + ridge) s) - 1) (T + ridge)^-1
    mean = -B y
    covariance = K_xx + B (K_XX + noise) B^T + B K_Xx + K_xX B^T
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from darts_gdas.ntk.checks import check_tensor, check_variance
from darts_gdas.ntk.dynamics import check_numbers, check_shape, equilibrium, flat_cross, flow
from darts_gdas.ntk.spectrum import as_matrix


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Outputs of trained networks on test samples, as a Gaussian distribution.

    Attributes:
        mean: [M, O].
        covariance: [M, M], the same for every output and none between outputs; or [M, M, O, O].
    """

    mean: Float64[Tensor, "tests outputs"]
    covariance: Float64[Tensor, "tests tests ..."]


def predict_ensemble(
    y_train: Float[Tensor, "samples outputs"],
    nngp_train_train: Tensor,
    nngp_test_train: Tensor,
    nngp_test_test: Tensor,
    *,
    ntk_train_train: Tensor | None = None,
    ntk_test_train: Tensor | None = None,
    t: float | None = None,
    learning_rate: float = 1.0,
    noise: float = 0.0,
    ridge: float | None = None,
) -> Posterior:
    """Mean and covariance of infinitely many wide networks trained on ||f - y||^2 / (2 N O).

    Without a tangent kernel only the last layer is trained: for t = None that is exact Bayesian
    inference, the Gaussian process posterior with observation noise. With one all weights are.
    Noise and ridge are absolute, in units of the kernel.

    Args:
        y_train: Targets [N, O].
        nngp_train_train: Covariance of untrained outputs, [N, N] for each output alike, or
            [N, N, O, O].
        nngp_test_train: [M, N] or [M, N, O, O].
        nngp_test_test: [M, M] or [M, M, O, O]. The predicted covariance is that of the function,
            without noise of new observations.
        ntk_train_train: Tangent kernel of the same shape as the first; None trains the last layer.
        ntk_test_train: Tangent kernel of the same shape as the second.
        t: Time in steps; None is the limit of infinite time.
        learning_rate: The learning rate of one step.
        noise: Variance of the noise of targets; every member is trained on noisy targets of its
            own.
        ridge: Pull of each member to its own first weights, in the loss
            ridge ||theta - theta_0||^2 / (2 N O); None is `noise`, as inference asks for. With
            `noise=0` and a ridge the formulas are those of neural-tangents' `diag_reg` for "ntk",
            with None those for "nngp".

    Raises:
        ValueError: As `predict_mse`.

    Example:
        >>> one, half = torch.ones(1, 1), torch.tensor([[0.5]])
        >>> predict_ensemble(torch.tensor([[2.0]]), one, half, one, noise=1.0)
        Posterior(mean=tensor([[0.5000]], dtype=...), covariance=tensor([[0.8750]], dtype=...))

    Reference:
        Lee et al., NeurIPS 2019, https://arxiv.org/abs/1902.06720, eqs. (15), (16); noisy targets:
        He et al., NeurIPS 2020, https://arxiv.org/abs/2007.05864.
    """
    noise = check_variance("noise", noise)
    ridge = noise if ridge is None else ridge
    check_numbers(t, learning_rate, ridge)
    if (ntk_train_train is None) != (ntk_test_train is None):
        raise ValueError("ntk_train_train and ntk_test_train must both be given, or none of them")
    tangent = nngp_train_train if ntk_train_train is None else ntk_train_train
    cross = nngp_test_train if ntk_test_train is None else ntk_test_train
    _check(y_train, nngp_train_train, nngp_test_train, nngp_test_test)
    _check(y_train, tangent, cross, nngp_test_test)
    is_full = nngp_train_train.ndim == 4
    matrix, prior = as_matrix(tangent), as_matrix(nngp_train_train)
    reach = flat_cross(cross)
    if t is None:
        pull = equilibrium(tangent, matrix, reach.T, ridge).T
    else:
        pull = flow(tangent, matrix, reach.T, learning_rate * t / y_train.numel(), ridge)[0].T
    targets = y_train.detach().double()
    mean = -(pull @ (targets.reshape(-1, 1) if is_full else targets))
    mixed = pull @ flat_cross(nngp_test_train).T
    noisy = prior + noise * torch.eye(len(prior), dtype=prior.dtype, device=prior.device)
    covariance = as_matrix(nngp_test_test) + pull @ noisy @ pull.T + mixed + mixed.T
    covariance = (covariance + covariance.T) / 2
    tests, outputs = len(nngp_test_test), y_train.shape[1]
    if is_full:
        covariance = covariance.view(tests, outputs, tests, outputs).permute(0, 2, 1, 3)
    return Posterior(mean.reshape(tests, outputs), covariance.contiguous())


def _check(y_train: Tensor, train: Tensor, cross: Tensor, test: Tensor) -> None:
    check_tensor("y_train", y_train)
    check_tensor("nngp_test_test", test)
    if y_train.ndim != 2 or not torch.isfinite(y_train).all():
        raise ValueError(
            f"y_train must hold finite numbers [samples, outputs], got shape {tuple(y_train.shape)}"
        )
    (samples, outputs), tests = y_train.shape, len(test) if test.ndim else 0
    ends = (outputs, outputs) if test.ndim == 4 else ()
    check_shape("train_train kernel", train, (samples, samples, *ends), "y_train and test_test")
    check_shape("test_train kernel", cross, (tests, samples, *ends), "y_train and test_test")
    check_shape("nngp_test_test", test, (tests, tests, *ends), "y_train")
