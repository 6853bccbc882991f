"""What a kernel predicts of training: gradient flow of the linearised network, in closed form."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from darts_gdas.ntk.checks import check_tensor, is_number
from darts_gdas.ntk.spectrum import as_matrix, clip, resolution

Column = Float64[Tensor, "rows columns"]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Outputs of a trained network, predicted.

    Attributes:
        train: On the training samples.
        test: On the test samples; None if no kernel with them was given.
    """

    train: Float[Tensor, "samples outputs"]
    test: Float[Tensor, "test_samples outputs"] | None


def predict_mse(
    k_train_train: Tensor,
    y_train: Tensor,
    k_test_train: Tensor | None = None,
    *,
    f0_train: Tensor | None = None,
    f0_test: Tensor | None = None,
    t: float | None = None,
    learning_rate: float = 1.0,
    ridge: float = 0.0,
    relative_ridge: bool = False,
) -> Prediction:
    """Outputs after training on the loss ||f - y||^2 / (2 N O) for a time t, or for ever.

    Gradient flow of the linearised network, exactly: t steps of gradient descent with a small
    learning rate. For a network of finite width use the kernel of all outputs (four dimensions)
    and its outputs `f0` before training; a kernel [N, M] is taken for that of every output, as in
    the limit of infinite width, where outputs share no gradients. `empirical_ntk` gives neither by
    default: take kind="full", or the mean over outputs, kind="trace" divided by O. With more than
    one output a "sum" kernel predicts wrong numbers, and nothing in it tells.

    Args:
        k_train_train: [N, N], or [N, N, O, O] with [n, m, a, b] between output a of training
            sample n and output b of training sample m.
        y_train: Targets [N, O].
        k_test_train: [M, N] or [M, N, O, O]; None predicts the training samples only.
        f0_train: Outputs before training [N, O]; None is 0.
        f0_test: Outputs before training [M, O]; None is 0, if `f0_train` is None as well.
        t: Time in steps; None is the limit of infinite time.
        learning_rate: The learning rate of one step.
        ridge: Added to the diagonal of `k_train_train`: the loss gets the term
            ridge ||theta - theta_0||^2 / (2 N O), for finite t as well. Training outputs then
            end short of the targets.
        relative_ridge: `ridge` is a share of the mean of the diagonal.

    Returns:
        Predictions in the type of `y_train`, computed in float64, detached. Without a ridge, the
        training outputs for t = None are the targets themselves.

    Raises:
        ValueError: If shapes do not fit, a number has no meaning, the kernel is no kernel, or
            t is None and the kernel is singular without a (larger) ridge. What is singular goes
            by the kernel's type: of a float32 network pass `kernel.float()`, since its products
            are rounded to that, whatever they are added up in.

    Example:
        >>> kernel, targets = torch.eye(2), torch.tensor([[1.0], [-1.0]])
        >>> predict_mse(kernel, targets, torch.tensor([[0.5, 0.0]])).test
        tensor([[0.5000]])

    Reference:
        Lee et al., NeurIPS 2019, https://arxiv.org/abs/1902.06720, eqs. (8) to (11).
    """
    check_numbers(t, learning_rate, ridge)
    _check_shapes(k_train_train, y_train, k_test_train, f0_train, f0_test)
    matrix = as_matrix(k_train_train)
    is_full = k_train_train.ndim == 4
    start = rows(torch.zeros_like(y_train) if f0_train is None else f0_train, is_full)
    targets = rows(y_train, is_full)
    added = ridge * float(matrix.diagonal().mean()) if relative_ridge else ridge
    if t is None:
        dual = equilibrium(k_train_train, matrix, start - targets, added)
        train = targets - added * dual
    else:
        s = learning_rate * t / y_train.numel()
        dual, change = flow(k_train_train, matrix, start - targets, s, added)
        train = start + change
    test = None
    if k_test_train is not None:
        change = (flat_cross(k_test_train) @ dual).reshape(k_test_train.shape[0], -1)
        test = (change if f0_test is None else f0_test.detach().double() + change).to(y_train)
    return Prediction(train.reshape(y_train.shape).to(y_train), test)


def flat_cross(kernel: Tensor) -> Float64[Tensor, "rows columns"]:
    """[M, N] or [M, N, O, O] as a matrix in float64, sample by sample."""
    kernel = kernel.detach().double()
    if kernel.ndim == 2:
        return kernel
    return kernel.permute(0, 2, 1, 3).reshape(kernel.shape[0] * kernel.shape[2], -1)


def flow(
    kernel: Tensor, matrix: Float64[Tensor, "rows rows"], error: Column, s: float, ridge: float
) -> tuple[Column, Column]:
    """The dual variables a after a time s of da/ds = -((K + ridge) a + error), and K a.

    Parameters are theta_0 + J^T a, so outputs anywhere have moved by their kernel times a.
    """
    eigenvalues, basis = torch.linalg.eigh(matrix)
    eigenvalues = clip(eigenvalues, kernel).eigenvalues
    dual = _phi(eigenvalues + ridge, s)[:, None] * (basis.T @ error)
    return basis @ dual, basis @ (eigenvalues[:, None] * dual)


def _phi(rates: Float64[Tensor, " rows"], s: float) -> Float64[Tensor, " rows"]:
    """(exp(-w s) - 1) / w, with its limit -s at w = 0."""
    divisor = torch.where(rates > 0, rates, torch.ones_like(rates))
    return torch.where(rates > 0, torch.expm1(-rates * s) / divisor, -s)


def equilibrium(
    kernel: Tensor, matrix: Float64[Tensor, "rows rows"], error: Column, ridge: float
) -> Column:
    """The dual variables at infinite time: -(K + ridge)^-1 error, by Cholesky."""
    eigenvalues = torch.linalg.eigvalsh(matrix)
    largest, smallest = clip(eigenvalues, kernel).largest, float(eigenvalues[0]) + ridge
    floor = resolution(kernel, len(matrix)) * (largest + ridge)
    if smallest <= floor:
        raise ValueError(
            f"k_train_train has a smallest eigenvalue of {smallest:.3g} (ridge included) next to a "
            f"largest of {largest:.3g}, so t=None has no unique solution; pass a ridge (not "
            f"relative) above {max(floor - smallest, floor) + ridge:.2g}, drop duplicate samples, "
            "compute the kernel in float64, or pass a finite t"
        )
    shifted = matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_solve(-error, torch.linalg.cholesky(shifted))


def rows(values: Tensor, is_full: bool) -> Column:
    """[N, O] as the kernel's matrix multiplies it: one column [N O, 1] for a kernel of all."""
    values = values.detach().double()
    return values.reshape(-1, 1) if is_full else values


def check_numbers(t: float | None, learning_rate: float, ridge: float) -> None:
    """Raise a `ValueError` for a time, rate or ridge without meaning."""
    if t is not None and not (is_number(t) and 0 <= t < math.inf):
        raise ValueError(f"t must be a finite time >= 0, got {t!r}; pass None for infinite time")
    if not (is_number(learning_rate) and 0 < learning_rate < math.inf):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")
    if not (is_number(ridge) and 0 <= ridge < math.inf):
        raise ValueError(f"ridge must be finite and >= 0, got {ridge!r}; 0 is no ridge")


def _check_shapes(
    k_train_train: Tensor,
    y_train: Tensor,
    k_test_train: Tensor | None,
    f0_train: Tensor | None,
    f0_test: Tensor | None,
) -> None:
    check_tensor("y_train", y_train)
    check_tensor("k_train_train", k_train_train)
    if y_train.ndim != 2 or not y_train.is_floating_point():
        raise ValueError(
            f"y_train must be floating point [samples, outputs], got {y_train.dtype} of shape "
            f"{tuple(y_train.shape)}; one column is y[:, None], classes are F.one_hot(y).float()"
        )
    samples, outputs = y_train.shape
    ends = (outputs, outputs) if k_train_train.ndim == 4 else ()
    check_shape("y_train", y_train, (samples, outputs), "y_train")
    check_shape("k_train_train", k_train_train, (samples, samples, *ends), "y_train")
    if f0_train is not None:
        check_shape("f0_train", f0_train, (samples, outputs), "y_train")
    if k_test_train is None:
        if f0_test is not None:
            raise ValueError(
                "f0_test is given without k_test_train, so it would be ignored; pass the kernel of "
                "test with training samples, or drop f0_test"
            )
        return
    check_tensor("k_test_train", k_test_train)
    tests = k_test_train.shape[0] if k_test_train.ndim else 0
    check_shape("k_test_train", k_test_train, (tests, samples, *ends), "k_train_train and y_train")
    if f0_test is not None:
        check_shape("f0_test", f0_test, (tests, outputs), "k_test_train and y_train")
    elif f0_train is not None:
        raise ValueError(
            "f0_train is given but f0_test is not, so test outputs would start from 0; pass the "
            "model's outputs on the test samples before training (or zeros, if they are)"
        )


def check_shape(name: str, value: Tensor, expected: tuple[int, ...], by: str) -> None:
    """Raise a `ValueError` unless a tensor has a shape and is finite."""
    check_tensor(name, value)
    if tuple(value.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; {by} ask for {list(expected)}")
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} has NaN or infinite entries")
