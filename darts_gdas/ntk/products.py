"""Products of the kernel with vectors, without the kernel; its extreme eigenvalues by Lanczos."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import scipy
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from darts_gdas.ntk.agreement import gradients_of_sum
from darts_gdas.ntk.checks import (
    Filter,
    check_count,
    check_finite,
    check_tensor,
    gradient_type,
    is_number,
)
from darts_gdas.ntk.directions import Pushed, pushed
from darts_gdas.ntk.entry import tried
from darts_gdas.ntk.gram import Kind


def ntk_vector_product(
    model: nn.Module,
    x1: Shaped[Tensor, "samples ..."],
    vector: Float[Tensor, "others outputs"],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    params: Literal["all", "weights"] | Filter = "all",
    chunk_size: int = 64,
) -> Float[Tensor, "samples outputs"]:
    """The full kernel times v, sum over m, b of Theta[n, m, a, b] v[m, b], without forming it.

    One backward pass over x2 and one forward-mode pass over x1: the cost of a few training steps,
    whatever the size of the kernel, and the memory of `chunk_size` samples.

    Args:
        model: Taken as it stands; batch norms in evaluation.
        x1: Rows of the kernel.
        vector: What to multiply, one number per sample of x2 and output.
        x2: Columns of the kernel; None means x1.
        params: As in `empirical_ntk`.
        chunk_size: Samples per pass.

    Raises:
        ValueError: As `empirical_ntk`, or if the vector has another shape.
    """
    chunk_size = check_count("chunk_size", chunk_size)
    check_tensor("vector", vector)
    with tried(model, x1, x2, params, chunk_size=chunk_size) as found:
        outputs, others = found.outputs, x1 if x2 is None else x2
        if vector.shape != (len(others), outputs.shape[1]):
            raise ValueError(
                f"the vector must have shape {(len(others), outputs.shape[1])} (samples, outputs), "
                f"got {tuple(vector.shape)}"
            )
        if vector.dtype != outputs.dtype or vector.device != outputs.device:
            raise ValueError(
                f"the vector must be in {outputs.dtype} on {outputs.device} as the outputs, got "
                f"{vector.dtype} on {vector.device}; convert it by .to(...)"
            )
        push = pushed(model, found.parameters, [x1] if x2 is None else [x1, x2])
        return _product(push, x1, others, vector, chunk_size)


def extreme_eigenvalues(
    model: nn.Module,
    x: Shaped[Tensor, "samples ..."],
    *,
    count: int = 1,
    end: Literal["largest", "smallest"] = "largest",
    params: Literal["all", "weights"] | Filter = "all",
    chunk_size: int = 64,
    tolerance: float = 1e-6,
    max_products: int = 10_000,
) -> Float[np.ndarray, " count"]:
    """Eigenvalues at one end of the full kernel's spectrum [samples * outputs], ascending.

    Lanczos iteration on `ntk_vector_product` (ARPACK), for kernels that are too large to form.
    The largest come after some tens of products; the smallest, where the spectrum is dense,
    can take thousands.

    Args:
        model: As in `ntk_vector_product`.
        x: The samples.
        count: How many eigenvalues, fewer than samples * outputs.
        end: Which end of the spectrum.
        params: As in `empirical_ntk`.
        chunk_size: Samples per pass.
        tolerance: Relative accuracy.
        max_products: After so many an `ArpackNoConvergence` is raised.

    Raises:
        ValueError: As `empirical_ntk`, or for numbers out of range.
    """
    chunk_size = check_count("chunk_size", chunk_size)
    max_products = check_count("max_products", max_products)
    if end not in ("largest", "smallest"):
        raise ValueError(f"end must be largest or smallest, got {end!r}")
    if not is_number(tolerance) or not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must lie in [0, 1), got {tolerance!r}; 0 is that of float64")
    with tried(model, x, None, params, chunk_size=chunk_size) as found:
        outputs, shape = found.outputs, (len(x), found.num_outputs)
        size = shape[0] * shape[1]
        if size < 2:
            raise ValueError("one sample with one output has one eigenvalue, its kernel's number")
        count = check_count("count, below samples * outputs,", count, most=size - 1)
        push = pushed(model, found.parameters, [x])
        linalg, left = scipy.sparse.linalg, iter(range(max_products))
        moved: list[bool] = []

        def multiply(v: np.ndarray) -> np.ndarray:
            if next(left, None) is None:
                raise linalg.ArpackNoConvergence(
                    f"no convergence after max_products={max_products}", np.empty(0), np.empty(0)
                )
            vector = torch.from_numpy(v.reshape(shape)).to(outputs)
            y = _product(push, x, x, vector, chunk_size)
            moved.append(bool(y.any()))
            return y.double().cpu().numpy().ravel()

        start = np.random.default_rng(0).standard_normal(size)  # the same answer every time
        solve: Any = linalg.eigsh  # its annotations do not know of fractional tolerances
        operator: Any = linalg.LinearOperator
        try:
            values = solve(
                operator((size, size), matvec=multiply, dtype=np.float64),
                k=count,
                which="LA" if end == "largest" else "SA",
                return_eigenvectors=False,
                tol=float(tolerance),
                v0=start,
                maxiter=max_products,
            )
        except linalg.ArpackError:
            if any(moved):
                raise
            values = np.zeros(count)  # the kernel is zero, where the iteration cannot start
    return np.sort(values)


def product_kernel(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None,
    parameters: Mapping[str, nn.Parameter],
    kind: Kind,
    num_outputs: int,
    *,
    chunk_size: int,
    dtype: torch.dtype,
) -> Tensor:
    """A kernel column by column, from products with unit vectors."""
    sides = [x1] if x2 is None else [x1, x2]
    push = pushed(model, parameters, sides)
    others, like = x1 if x2 is None else x2, gradient_type(x1, parameters)
    columns = []
    for m in range(len(others)):
        if kind is Kind.sum:
            units = others.new_ones(1, 1, num_outputs, dtype=like)
        else:
            units = torch.eye(num_outputs, dtype=like, device=others.device)[:, None]
        products = [
            _product(push, x1, others[m : m + 1], unit, chunk_size).to(dtype) for unit in units
        ]
        stacked = torch.stack(products, dim=2)  # [N1, O, rows]
        if kind is Kind.sum:
            columns.append(stacked.sum((1, 2)))
        elif kind is Kind.full:
            columns.append(stacked)
        else:
            diagonal = stacked.diagonal(dim1=1, dim2=2)
            columns.append(diagonal.sum(1) if kind is Kind.trace else diagonal)
    return torch.stack(columns, dim=1)


def _product(
    push: Pushed,
    x1: Tensor,
    x2: Tensor,
    vector: Tensor,
    chunk_size: int,
) -> Tensor:
    """J1 (J2^T v)."""
    direction = [torch.zeros_like(w) for w in push.parameters.values()]
    for images, v in zip(x2.split(chunk_size), vector.split(chunk_size), strict=True):
        gradients = gradients_of_sum(push.model, push.parameters, images, v)
        direction = [d + g for d, g in zip(direction, gradients.values(), strict=True)]
    found = push.along(x1, direction, chunk_size)
    check_finite(found)
    return found
