"""Training of the linearised network with any loss, and with momentum, as a differential equation.

Weights move along gradients of outputs, theta - theta_0 = J^T a, so N O numbers a say where all of
them are: outputs anywhere are f_0 + K a. They obey

    da/dt = -rate dL/df                                      gradient flow
    da/dt = rate v,  dv/dt = -(1 - momentum) v - dL/df       with momentum

with t in steps. The second is the heavy ball v <- momentum v - dL/df, theta <- theta + rate J^T v
for small rates and momenta near one.
"""

import math
from collections.abc import Callable, Sequence, Sized
from typing import Any

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.ntk.checks import check_tensor, is_number
from darts_gdas.ntk.dynamics import Prediction, check_numbers, check_shape, flat_cross, rows
from darts_gdas.ntk.spectrum import as_matrix, check_momentum, clip
from darts_gdas.reasons import reason

Loss = Callable[[Tensor, Tensor], Tensor]


def gradient_descent(
    loss: Loss,
    k_train_train: Tensor,
    y_train: Tensor,
    k_test_train: Tensor | None = None,
    *,
    f0_train: Float[Tensor, "samples outputs"],
    f0_test: Float[Tensor, "tests outputs"] | None = None,
    times: Sequence[float],
    learning_rate: float = 1.0,
    momentum: float = 0.0,
    tolerance: float = 1e-8,
) -> list[Prediction]:
    """Outputs after gradient descent with any loss, at some times.

    `predict_mse` for squared error is a closed form; this solves the differential equation (LSODA,
    which finds out whether it is stiff), so it takes a loss that is differentiable, such as the
    cross entropy.

    Args:
        loss: A function of outputs [N, O] (float64) and `y_train`; its value is what the optimiser
            descends, so take the mean where training does.
        k_train_train: [N, N] for each output alike, or [N, N, O, O], as in `predict_mse`.
        y_train: Targets in whatever form the loss takes them, N of them; [N, O] if floating point.
        k_test_train: [M, N] or [M, N, O, O]; None predicts the training samples only.
        f0_train: Outputs before training [N, O].
        f0_test: Outputs before training [M, O]; needed with `k_test_train`.
        times: In steps, ascending, not negative.
        learning_rate: The learning rate of one step.
        momentum: Heavy-ball momentum, in [0, 1).
        tolerance: Relative accuracy of the solution.

    Returns:
        One prediction for each time, in the type of `f0_train`.

    Raises:
        ValueError: If shapes do not fit, a number has no meaning, the kernel is no kernel, or the
            loss fails, is not one number, or has no finite gradient on the way.

    Example:
        >>> kernel, y, f0 = torch.eye(1), torch.ones(1, 1), torch.zeros(1, 1)
        >>> half = lambda f, y: (f - y).square().mean() / 2
        >>> gradient_descent(half, kernel, y, f0_train=f0, times=[math.log(2)])[0].train
        tensor([[0.5000]])

    Reference:
        Lee et al., NeurIPS 2019, https://arxiv.org/abs/1902.06720, eqs. (S2) and section 2.4.
    """
    _check(k_train_train, k_test_train, f0_train, f0_test)
    _check_numbers(times, learning_rate, momentum, tolerance)
    _check_loss(loss, f0_train, y_train)
    matrix = as_matrix(k_train_train)
    clip(torch.linalg.eigvalsh(matrix), k_train_train)  # for its error
    is_full = k_train_train.ndim == 4
    start, shape = rows(f0_train, is_full), (len(matrix), -1)

    def slope(dual: Tensor) -> Tensor:
        outputs = (start + matrix @ dual).reshape(f0_train.shape).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(outputs, y_train), outputs)
        if not torch.isfinite(gradient).all():
            raise ValueError(
                "loss has a gradient that is not finite on the way; lower the learning rate, or "
                "take a loss that is defined everywhere"
            )
        return gradient.reshape(dual.shape)

    def change(_: float, state: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(state).to(matrix.device).reshape(-1, *start.shape)
        if momentum == 0:
            moved = -learning_rate * slope(parts[0])
        else:
            velocity = -(1 - momentum) * parts[1] - slope(parts[0])
            moved = torch.stack([learning_rate * parts[1], velocity])
        return moved.cpu().numpy().ravel()

    sizes = _sizes(float(slope(torch.zeros_like(start)).abs().max()), matrix, times, learning_rate)
    units = np.repeat(sizes if momentum else sizes[:1], start.numel())
    states = _solve(change, units, times, tolerance)[:, : start.numel()]
    duals = [torch.from_numpy(state).to(matrix.device).reshape(shape) for state in states]
    return [_predicted(dual, start, matrix, f0_train, k_test_train, f0_test) for dual in duals]


def _sizes(slope: float, matrix: Tensor, times: Sequence[float], rate: float) -> list[float]:
    """How large the numbers a get, and their velocities: what errors are measured by.

    At first a = rate slope t, until outputs have moved as far as the slope lets them, K a = slope,
    so a unit of the kernel, the rate or the loss changes nothing. Without a slope nothing moves.
    """
    largest, first = float(matrix.abs().max()), next((t for t in times if t > 0), 1.0)
    reached = min(rate * first, 1 / largest if largest else math.inf)
    return [slope * reached or 1.0, slope * min(first, 1.0) or 1.0]


def _solve(
    change: Callable[[float, np.ndarray], np.ndarray],
    units: np.ndarray,
    times: Sequence[float],
    tolerance: float,
) -> np.ndarray:
    """States at the times, from zero at time zero; errors absolute in some units at first."""
    if times[-1] == 0:
        return np.zeros((len(times), len(units)))
    solve: Any = scipy.integrate.solve_ivp
    found = solve(
        change,
        (0.0, float(times[-1])),
        np.zeros(len(units)),
        method="LSODA",
        t_eval=np.asarray(times, float),
        rtol=tolerance,
        atol=1e-3 * tolerance * units,
    )
    if not found.success:
        raise ValueError(f"the differential equation cannot be solved: {found.message}")
    return found.y.T


def _predicted(
    dual: Tensor,
    start: Tensor,
    matrix: Tensor,
    f0_train: Tensor,
    k_test_train: Tensor | None,
    f0_test: Tensor | None,
) -> Prediction:
    train = (start + matrix @ dual).reshape(f0_train.shape).to(f0_train)
    if k_test_train is None or f0_test is None:
        return Prediction(train, None)
    moved = (flat_cross(k_test_train) @ dual).reshape(f0_test.shape)
    return Prediction(train, (f0_test.detach().double() + moved).to(f0_train))


def _check(kernel: Tensor, cross: Tensor | None, f0_train: Tensor, f0_test: Tensor | None) -> None:
    check_tensor("f0_train", f0_train)
    if f0_train.ndim != 2 or not f0_train.is_floating_point():
        raise ValueError(
            f"f0_train must be floating point [samples, outputs], got {f0_train.dtype} of shape "
            f"{tuple(f0_train.shape)}"
        )
    samples, outputs = f0_train.shape
    check_tensor("k_train_train", kernel)
    ends = (outputs, outputs) if kernel.ndim == 4 else ()
    check_shape("f0_train", f0_train, (samples, outputs), "f0_train")
    check_shape("k_train_train", kernel, (samples, samples, *ends), "f0_train")
    if (cross is None) != (f0_test is None):
        raise ValueError("k_test_train and f0_test must both be given, or none of them")
    if cross is not None and f0_test is not None:
        check_shape("k_test_train", cross, (len(f0_test), samples, *ends), "f0_train and f0_test")
        check_shape("f0_test", f0_test, (len(f0_test), outputs), "f0_train")


def _check_loss(loss: Loss, f0: Tensor, y: Tensor) -> None:
    """Try it once; targets that would be broadcast against the outputs are another loss."""
    check_tensor("y_train", y)
    if y.ndim == 0 or len(y) != len(f0) or (y.is_floating_point() and y.shape != f0.shape):
        raise ValueError(
            f"y_train must hold {len(f0)} targets, [{len(f0)}] labels or floating point "
            f"{list(f0.shape)} as f0_train, got {y.dtype} of shape {tuple(y.shape)}"
        )
    outputs = f0.detach().double().requires_grad_()
    try:
        with torch.enable_grad():
            value = loss(outputs, y)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"loss fails for outputs {list(f0.shape)} in float64 and y_train {list(y.shape)} in "
            f"{y.dtype}: {reason(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss must return one number, got {got}; take the mean or the sum")
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value, outputs, allow_unused=True)
    if gradient is None:
        raise ValueError("loss has no gradient in the outputs; compute it from them with torch")


def _check_numbers(
    times: Sequence[float], learning_rate: float, momentum: float, tolerance: float
) -> None:
    if not isinstance(times, Sized) or not all(map(is_number, times)):
        raise ValueError(f"times must be a sequence of numbers, got {times!r}")
    ascending = all(a < b for a, b in zip(times, list(times)[1:], strict=False))
    if not len(times) or not ascending or not times[0] >= 0 or not times[-1] < math.inf:
        raise ValueError(f"times must ascend from 0 or later and be finite, got {list(times)}")
    check_numbers(None, learning_rate, 0.0)
    check_momentum(momentum)
    if not (is_number(tolerance) and 0 < tolerance < 1):
        raise ValueError(f"tolerance must lie in (0, 1), got {tolerance!r}")
