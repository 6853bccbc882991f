"""What the eigenvalues of a kernel say: how hard its network is to train, and how fast at most."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from darts_gdas.ntk.checks import check_count, check_tensor, is_number

TOLERANCE = 1e-3
"""Asymmetry and negative eigenvalues up to this share of the largest entry or eigenvalue pass for
rounding: matrix products of reduced precision reach it, mistakes are far beyond it."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The eigenvalues of a kernel, with a note of what rounding had done to them.

    Attributes:
        eigenvalues: Ascending and not negative.
        clipped: The most negative eigenvalue before it was set to 0, as a share of the largest;
            0 if there was none. Values near -1e-7 are those of a float32 kernel.
        num_clipped: Number of eigenvalues set to 0.
        resolution: Share of the largest eigenvalue below which an eigenvalue is only rounding.
    """

    eigenvalues: Float64[Tensor, " n"]
    clipped: float
    num_clipped: int
    resolution: float

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.eigenvalues[-1])

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue."""
        return float(self.eigenvalues[0])

    @property
    def is_singular(self) -> bool:
        """Whether the smallest eigenvalue cannot be told from 0."""
        return self.smallest <= self.resolution * self.largest


def as_matrix(kernel: Tensor) -> Float64[Tensor, "n n"]:
    """A kernel as one symmetric matrix, checked.

    Args:
        kernel: [samples, samples], or [samples, samples, outputs, outputs] with
            kernel[n, m, a, b] between output a of sample n and output b of sample m.

    Returns:
        The mean of the kernel and its transpose. Four dimensions become two sample by sample:
        row `n * outputs + a` belongs to output a of sample n. Detached.

    Raises:
        ValueError: If the kernel is empty, of another shape, not symmetric, or has NaN or inf.
    """
    matrix = _flattened(kernel).detach().double()
    if not torch.isfinite(matrix).all():
        count = int((~torch.isfinite(matrix)).sum())
        raise ValueError(
            f"kernel has {count} NaN or infinite entries of {matrix.numel()}; normalise the "
            "network's inputs or lower its weights' variance, it overflows"
        )
    asymmetry = float((matrix - matrix.T).abs().max() / matrix.abs().max().clamp(min=1e-300))
    if asymmetry > _tolerance(kernel):
        raise ValueError(
            f"kernel is not symmetric: it differs from its transpose by {asymmetry:.2g} of its "
            "largest entry; pass the kernel of one set of samples with itself"
        )
    return (matrix + matrix.T) / 2


def spectrum(kernel: Tensor) -> Spectrum:
    """The eigenvalues of a kernel, in float64.

    Args:
        kernel: As for `as_matrix`.

    Raises:
        ValueError: As `as_matrix`, and if an eigenvalue is negative beyond rounding.
    """
    matrix = as_matrix(kernel)
    return clip(torch.linalg.eigvalsh(matrix), kernel)


def clip(values: Float64[Tensor, " n"], kernel: Tensor) -> Spectrum:
    """A kernel's ascending eigenvalues, of which tiny negative ones are set to 0.

    Raises:
        ValueError: If one is negative beyond rounding.
    """
    smallest, largest = float(values[0]), float(values[-1])
    if smallest < -_tolerance(kernel) * max(largest, 0.0):
        raise ValueError(
            f"kernel has a negative eigenvalue {smallest:.3g} next to a largest of {largest:.3g}, "
            "so it is no kernel of inner products; check how it was computed, or use float64"
        )
    clipped = smallest / largest if smallest < 0 else 0.0
    count = int((values < 0).sum())
    return Spectrum(values.clamp(min=0), clipped, count, resolution(kernel, len(values)))


def resolution(kernel: Tensor, n: int) -> float:
    """Share of the largest of n eigenvalues below which there is only rounding.

    Rounding of the kernel's own numbers, or of the float64 eigenvalues.
    """
    return max(n * torch.finfo(torch.float64).eps, _epsilon(kernel))


def condition_number(kernel: Tensor) -> float:
    """Largest over smallest eigenvalue: small is easy to train, 1 the least, inf for singular.

    "Singular" is a smallest eigenvalue that rounding alone could have made (`Spectrum`): a float32
    kernel resolves condition numbers up to about 1e7. One of a float32 network that was asked for
    in float64 does not resolve more, but does not show it.

    Args:
        kernel: As for `as_matrix`. The kernel of all outputs tells more about a network than that
            of its summed logits, whose condition number is another one.

    Raises:
        ValueError: As `spectrum`.

    Example:
        >>> condition_number(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        3.0

    Reference:
        Chen et al. (TE-NAS), ICLR 2021, https://arxiv.org/abs/2102.11535, eq. (3).
    """
    values = spectrum(kernel)
    return float("inf") if values.is_singular else values.largest / values.smallest


def logdet_normalised(kernel: Tensor) -> float:
    """Mean log eigenvalue of the kernel scaled to unit diagonal; higher means better conditioned.

    Uses all eigenvalues where the condition number uses two, so it varies less from one
    initialisation to the next, and does not change when rows and columns are rescaled.

    Args:
        kernel: As for `as_matrix`.

    Returns:
        At most 0, which a diagonal kernel reaches; -inf for a singular kernel, of which one with
        a zero on the diagonal (a sample without gradient) is a case.

    Raises:
        ValueError: As `spectrum`.
    """
    matrix = as_matrix(kernel)
    clip(torch.linalg.eigvalsh(matrix), kernel)  # for its error
    if (matrix.diagonal() <= 0).any():
        return -float("inf")
    scale = matrix.diagonal().rsqrt()
    values = torch.linalg.eigvalsh(scale[:, None] * matrix * scale)
    if values[0] <= resolution(kernel, len(matrix)) * values[-1]:
        return -float("inf")
    return float(values.log().mean())


def max_learning_rate(
    kernel: Tensor, *, num_outputs: int | None = None, momentum: float = 0.0
) -> float:
    """Learning rate beyond which full-batch gradient descent on the linearised network diverges.

    2 N O (1 + momentum) / lambda_max, for the loss ||f - y||^2 / (2 N O) over N samples with O
    outputs. It is the same number for the cross entropy averaged over N samples while predictions
    are uniform: its curvature in the outputs is then 1 / (N O) as well. As predictions sharpen, the
    curvature can grow up to O / 2 times that. A tenth to a half of the number is a sensible rate.

    The kernel of all outputs gives the exact bound. Their mean kernel hides how outputs share
    gradients: its largest eigenvalue is too small, so the learning rate is too large (1.3 to 2.4
    times for small networks).

    Args:
        kernel: [samples, samples, outputs, outputs], or [samples, samples]: the mean of the
            outputs' own kernels (trace divided by the number of outputs).
        num_outputs: Number of outputs of the network; needed for [samples, samples] only.
        momentum: The momentum of heavy-ball gradient descent, in [0, 1).

    Returns:
        inf for a kernel of zeros.

    Raises:
        ValueError: As `spectrum`, and for a momentum or number of outputs without meaning.
    """
    check_momentum(momentum)
    check_tensor("kernel", kernel)
    full = kernel.ndim == 4
    if full and num_outputs not in (None, kernel.shape[-1]):
        raise ValueError(
            f"num_outputs is {num_outputs}, but the kernel of shape {tuple(kernel.shape)} has "
            f"{kernel.shape[-1]}; leave num_outputs out"
        )
    if not full and num_outputs is None:
        raise ValueError(
            f"a kernel of shape {tuple(kernel.shape)} does not tell how many outputs it is the "
            f"mean of, and num_outputs is {num_outputs}; pass the network's number of outputs"
        )
    if num_outputs is not None:
        num_outputs = check_count("num_outputs", num_outputs)
    values = spectrum(kernel)
    count = len(values.eigenvalues) * (1 if full else num_outputs or 1)  # N O
    bound = 2 * count * (1 + momentum)
    return bound / values.largest if values.largest > 0 else float("inf")


def check_momentum(momentum: float) -> None:
    """Raise a `ValueError` for a momentum without meaning."""
    if not (is_number(momentum) and 0 <= momentum < 1):
        raise ValueError(f"momentum must lie in [0, 1), got {momentum!r}; common is 0.9")


def _flattened(kernel: Tensor) -> Tensor:
    """[N, N] or [N, N, O, O] as a square matrix, of which only the shape is checked."""
    check_tensor("kernel", kernel)
    shape = tuple(kernel.shape)
    square = len(shape) in (2, 4) and shape[0] == shape[1] and shape[-2] == shape[-1]
    if not square:
        hint = (
            "; take one output of a diagonal kernel at a time, kernel[:, :, a]"
            if len(shape) == 3
            else ""
        )
        raise ValueError(
            f"kernel must be [samples, samples] or [samples, samples, outputs, outputs], got shape "
            f"{shape}{hint}"
        )
    if kernel.numel() == 0:
        raise ValueError(f"kernel of shape {shape} is empty; pass at least one sample")
    if kernel.is_complex():
        raise ValueError(f"kernel must be real, got {kernel.dtype}")
    if len(shape) == 2:
        return kernel
    return kernel.permute(0, 2, 1, 3).reshape(shape[0] * shape[2], -1)


def _tolerance(kernel: Tensor) -> float:
    """What passes for rounding, as a share of the largest entry or eigenvalue."""
    return max(TOLERANCE, _epsilon(kernel) ** 0.5)


def _epsilon(kernel: Tensor) -> float:
    """Relative spacing of the kernel's numbers; that of float64 for integers."""
    dtype = kernel.dtype if kernel.is_floating_point() else torch.float64
    return torch.finfo(dtype).eps
