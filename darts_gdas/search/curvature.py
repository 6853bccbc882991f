"""The sharpest direction of a scalar function: the dominant eigenvalue of its Hessian."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Product = Callable[[Float[Tensor, " n"]], Float[Tensor, " n"]]


def hessian_product(loss: Callable[[Sequence[Tensor]], Tensor], point: Sequence[Tensor]) -> Product:
    """The map v -> H v, H the Hessian of a loss at a point: the gradient, differentiated again.

    The graph of the gradient is built once, here, and kept: a product is one backward pass
    through it. ReLU and max pooling count as the linear maps they are at this point.

    Args:
        loss: A scalar of several tensors.
        point: The tensors; H is over all of them, flattened one after the other.

    Returns:
        A linear map. It takes and returns vectors of any float type, on any device.
    """
    leaves = [x.detach().clone().requires_grad_() for x in point]
    gradient = torch.cat(
        [
            torch.zeros_like(x).flatten() if g is None else g.flatten()
            for x, g in zip(leaves, _gradients(loss(leaves), leaves), strict=True)
        ]
    )

    def product(vector: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        if not gradient.requires_grad:  # a linear function
            return torch.zeros_like(vector)
        found = torch.autograd.grad(
            gradient, leaves, vector.to(gradient), retain_graph=True, allow_unused=True
        )
        columns = [
            torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)
        ]
        return torch.cat([column.flatten() for column in columns]).to(vector)

    return product


def _gradients(loss: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not loss.requires_grad:
        return [None] * len(leaves)
    return torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True)


def dominant_eigenvalue(
    product: Product,
    start: Float[Tensor, " n"],
    *,
    max_products: int = 40,
    tolerance: float = 1e-4,
) -> float:
    """The eigenvalue of largest magnitude of a symmetric matrix, with its sign, by Lanczos.

    The Krylov basis is kept orthogonal in full, so that no eigenvalue appears twice; after n
    products the result is exact. Few are needed: the extreme eigenvalues converge first.

    Args:
        product: The matrix, as a function of a vector.
        start: Any vector that is not orthogonal to the eigenvector; random ones are not. Its
            type is that of the arithmetic: take float64.
        max_products: Stop after so many products, however far it has come.
        tolerance: Stop when the distance to an eigenvalue is smaller, as a share of the value.

    Returns:
        The eigenvalue; NaN where a product is not finite.

    Raises:
        ValueError: If the start is zero or not finite.

    Example:
        >>> diagonal = torch.tensor([1.0, 2.0, -3.0]).double()
        >>> round(dominant_eigenvalue(lambda v: diagonal * v, torch.ones(3).double()), 6)
        -3.0

    Reference:
        Golub and Van Loan, Matrix Computations, 4th edition, section 10.1.
    """
    norm = torch.linalg.vector_norm(start)
    if not 0 < float(norm) < float("inf"):
        raise ValueError(f"the start vector must be finite and not zero, its norm is {norm}")
    basis = (start / norm)[:, None]  # [n, k]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    value = 0.0
    for _ in range(min(max_products, len(start))):
        image = product(basis[:, -1])
        if not torch.isfinite(image).all():  # the loss has diverged
            return float("nan")
        diagonal.append(image @ basis[:, -1])
        for _ in range(2):  # twice is enough (Parlett, The Symmetric Eigenvalue Problem, 6.9)
            image = image - basis @ (basis.T @ image)
        left = torch.linalg.vector_norm(image)
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        largest = int(values.abs().argmax())
        value = float(values[largest])
        # The distance of a Ritz value to an eigenvalue: Golub and Van Loan, eq. (10.1.9).
        distance = float(left * vectors[-1, largest].abs())
        if distance <= tolerance * abs(value):
            break
        beside.append(left)
        basis = torch.cat([basis, (image / left)[:, None]], dim=1)
    return value


def _tridiagonal(diagonal: Sequence[Tensor], beside: Sequence[Tensor]) -> Float[Tensor, "k k"]:
    matrix = torch.diag(torch.stack(list(diagonal)))
    if beside:
        off = torch.stack(list(beside))
        matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    return matrix
