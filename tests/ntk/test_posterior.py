"""An ensemble's mean and covariance against Bayes' rule, a differential equation, and members."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.ntk import Posterior, predict_ensemble, predict_mse

N, M, O = 4, 3, 2  # noqa: E741


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def kernels(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Train-train, test-train, test-test of one positive definite kernel."""
    rows = random(N + M, 12, seed=seed)
    whole = rows @ rows.T / 12 + 0.1 * torch.eye(N + M).double()
    return whole[:N, :N], whole[N:, :N], whole[N:, N:]


def predicted(*, tangent: bool = True, **options: Any) -> Posterior:
    train, cross, test = kernels(1)
    if tangent:
        k, c, _ = kernels(2)
        options |= {"ntk_train_train": k, "ntk_test_train": c}
    return predict_ensemble(random(N, O, seed=3), train, cross, test, **options)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_last_layer_for_ever_is_bayes_rule(noise: float):
    """Condition the joint Gaussian of targets and test outputs, by precision matrices."""
    train, cross, test = kernels(1)
    joint = torch.cat(
        [
            torch.cat([train + noise * torch.eye(N).double(), cross.T], 1),
            torch.cat([cross, test], 1),
        ]
    )
    precision = torch.linalg.inv(joint)
    covariance = torch.linalg.inv(precision[N:, N:])
    mean = -covariance @ precision[N:, :N] @ random(N, O, seed=3)
    found = predicted(tangent=False, noise=noise)
    assert_close(found.mean, mean, rtol=1e-9, atol=1e-9)
    assert_close(found.covariance, covariance, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("noise", "ridge"), [(0.0, 0.0), (0.2, None), (0.0, 0.4), (0.3, 0.1)])
@pytest.mark.parametrize("tangent", [True, False])
@pytest.mark.parametrize("t", [0.0, 0.7, 9.0])
def test_it_is_the_solution_of_a_differential_equation(
    t: float, tangent: bool, noise: float, ridge: float | None
):
    """da/ds = -((T + ridge) a + f_0 - y - e): one column of a per unit of f_0(X) - y - e."""
    train, cross, test = kernels(1)
    k, c, _ = kernels(2) if tangent else kernels(1)
    pull, y = noise if ridge is None else ridge, random(N, O, seed=3)
    matrix = (k + pull * torch.eye(N).double()).numpy()

    def change(_: float, a: np.ndarray) -> np.ndarray:
        return -(matrix @ a.reshape(N, N) + np.eye(N)).ravel()

    end = 0.9 * t / (N * O)
    solved = solve_ivp(change, (0, max(end, 1e-12)), np.zeros(N * N), rtol=1e-11, atol=1e-13)
    b = c @ torch.from_numpy(solved.y[:, -1].reshape(N, N))
    joint = torch.cat([torch.cat([train, cross.T], 1), torch.cat([cross, test], 1)])
    lift = torch.cat([b, torch.eye(M).double()], 1)  # f_t = B f_0(X) + f_0(x) + ...
    covariance = lift @ joint @ lift.T + noise * b @ b.T
    found = predicted(tangent=tangent, t=t, noise=noise, ridge=ridge, learning_rate=0.9)
    assert_close(found.mean, -b @ y, rtol=1e-7, atol=1e-8)
    assert_close(found.covariance, covariance, rtol=1e-7, atol=1e-8)


def test_members_are_spread_as_predicted():
    """20,000 members: means within 5, variances within 5 standard errors."""
    train, cross, test = kernels(1)
    k, c, _ = kernels(2)
    y, count, noise = random(N, 1, seed=3), 20_000, 0.2
    joint = torch.cat([torch.cat([train, cross.T], 1), torch.cat([cross, test], 1)])
    f0 = torch.linalg.cholesky(joint) @ random(N + M, count, seed=4)
    noisy = y + noise**0.5 * random(N, count, seed=5)
    # Every member is an output of its own: time is divided by their number as well.
    members = predict_mse(
        k, noisy, c, f0_train=f0[:N], f0_test=f0[N:], t=5.0 * count, ridge=noise
    ).test
    found = predict_ensemble(
        y, train, cross, test, ntk_train_train=k, ntk_test_train=c, t=5.0, noise=noise
    )
    assert members is not None
    deviations = found.covariance.diagonal().sqrt()
    assert ((members.mean(1) - found.mean[:, 0]).abs() < 5 * deviations / count**0.5).all()
    error = (members.cov() - found.covariance).abs()
    assert (error < 5 * 2**0.5 * torch.outer(deviations, deviations) / count**0.5).all()


@pytest.mark.parametrize("t", [None, 3.0])
def test_a_kernel_of_one_output_stands_for_all(t: float | None):
    unit = torch.eye(O).double()

    def full(kernel: Tensor) -> Tensor:
        return torch.einsum("nm,ab->nmab", kernel, unit).contiguous()

    (train, cross, test), (k, c, _) = kernels(1), kernels(2)
    y = random(N, O, seed=3)
    found = predict_ensemble(
        y, *map(full, (train, cross, test)), ntk_train_train=full(k), ntk_test_train=full(c), t=t
    )
    one = predicted(t=t)
    assert_close(found.mean, one.mean)
    assert_close(found.covariance, full(one.covariance))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "1"}, "noise must be finite and >= 0, got '1'"),
        ({"noise": None}, "noise must be finite and >= 0, got None"),
        ({"y_train": np.zeros((N, O))}, "y_train must be a tensor, got ndarray; torch.as_tensor"),
        ({"nngp_test_test": None}, "nngp_test_test must be a tensor, got NoneType"),
        ({"nngp_test_train": [1.0]}, "test_train kernel must be a tensor, got list"),
        ({"ntk_train_train": 1.0}, "train_train kernel must be a tensor, got float"),
        ({"noise": -0.1}, "noise must be finite and >= 0, got -0.1"),
        ({"ridge": -1.0}, "ridge must be finite and >= 0, got -1.0"),
        ({"t": -2.0}, "t must be a finite time"),
        ({"ntk_test_train": None}, "must both be given"),
        ({"ntk_test_train": torch.full((M, N), torch.nan)}, "has NaN or infinite entries"),
        ({"ntk_train_train": torch.eye(N + 1)}, r"train_train kernel has shape \(5, 5\)"),
    ],
)
def test_bad_input_is_refused(options: dict, message: str):
    (train, cross, test), (k, c, _) = kernels(1), kernels(2)
    given = {"y_train": random(N, O), "nngp_train_train": train, "nngp_test_train": cross}
    given |= {"nngp_test_test": test, "ntk_train_train": k, "ntk_test_train": c}
    with pytest.raises(ValueError, match=message):
        predict_ensemble(**(given | options))
