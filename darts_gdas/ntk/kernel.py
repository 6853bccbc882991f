"""The empirical neural tangent kernel: what moving the weights along one sample does to another.

    Theta[n, m, a, b] = sum over weights w of df_a(x_n)/dw df_b(x_m)/dw

Four kinds of it and four ways to one number; `empirical_ntk` is the door.
"""

from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from darts_gdas.ntk.checks import Filter, check_count, check_memory, kind_of
from darts_gdas.ntk.entry import tried
from darts_gdas.ntk.gram import Kind
from darts_gdas.ntk.ways import Ways

METHODS = ("auto", "loop", "jacobian", "vector_product", "structured")
NORMS = (None, "frozen", "batch")


def empirical_ntk(
    model: nn.Module,
    x1: Shaped[Tensor, "samples ..."],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    kind: Literal["sum", "trace", "diagonal", "full"] = "sum",
    method: Literal["auto", "loop", "jacobian", "vector_product", "structured"] = "auto",
    params: Literal["all", "weights"] | Filter = "all",
    batch_norm: Literal["frozen", "batch"] | None = None,
    chunk_size: int = 16,
    dtype: torch.dtype | None = None,
    trusted: bool = False,
) -> Tensor:
    """The kernel of a network f: samples -> [samples, outputs], at its present weights.

    Outputs of any other shape, as those of dense prediction or one per token, count in their order
    in memory: `kernel.unflatten(2, shape)` brings the shape back. Samples may be tokens (int64).

    Kinds: `sum` is the kernel of the sum of the outputs, sum over a and b of Theta_ab (what
    TE-NAS computes; not the trace); `trace` is the sum over a of Theta_aa; `diagonal` keeps a;
    `full` keeps a and b. Their spectra differ.

    Methods give the same numbers. `structured` is the fast one (`ntk/structured.py`): layers by
    their formulas. `jacobian` is `vmap(jacrev)`, for what it cannot take; `loop` is a backward pass
    per sample and output, for whatever is left; `vector_product` forms no rows at all, a column
    per product. `auto` takes the first of the three that can take the network: `structured` where
    it consists of linear layers, convolutions, norms, embeddings and operations without weights.
    The first two compare sums of their rows with autograd, and refuse what they would get wrong.

    Memory beside the kernel: activations of `chunk_size` samples (of small ones once per output, up
    to some 256 MiB), and rows of at most 1 GiB (of one parameter, if that is more); beyond, the
    parameters are taken in groups, one run of all passes each.

    Args:
        model: Taken as it stands, and left so; it gets copies of the samples. With batch norms it
            must be in evaluation, or `batch_norm` must say which statistics to use.
        x1: Inputs, floating-point or tokens.
        x2: Other inputs for a rectangular kernel; None means x1.
        kind: Which part of the kernel.
        method: How.
        params: With respect to which weights: all that require a gradient, those named "weight"
            (TE-NAS), or those for which a function of (name, parameter) says so.
        batch_norm: "frozen" takes the batch statistics of x1 as constants: values of training
            mode, samples independent. "batch" is training mode itself, in which every sample
            moves every other: the Jacobian of the function of the whole batch, not a kernel
            of two samples. Only to reproduce published numbers; with `loop` alone.
        chunk_size: Samples per pass.
        dtype: In which products of rows are added up, and what comes back. None: they are added up
            in float64, and what comes back is of the type of the rows (of half precision float32),
            so that `condition_number` and `predict_mse` see how many of its digits mean something.
        trusted: Leave out the checks of weights and samples, and with a method that is named its
            comparison with autograd too; they take as long as the kernel of a small network. For
            networks of the same parts as one that this very method has taken without it.

    Returns:
        [N1, N2]; for `diagonal` [N1, N2, O]; for `full` [N1, N2, O, O].

    Raises:
        ValueError: For values that make no sense, weights or inputs that are not finite, networks
            whose samples depend on each other, a kernel larger than the memory, or a network that
            `structured` cannot take (it says what).

    Example:
        >>> model, x = nn.Linear(3, 2), torch.ones(4, 3)
        >>> empirical_ntk(model, x, kind="trace")[0, 0]  # 2 outputs, <x, x> + 1 each
        tensor(8.)

    Reference:
        Jacot, Gabriel, Hongler, NeurIPS 2018, https://arxiv.org/abs/1806.07572; the `sum` kernel:
        Mohamadi, Bae, Sutherland, ICML 2023, https://arxiv.org/abs/2206.12543.
    """
    which = check_choices(kind, method, batch_norm, dtype, trusted, coupled=x2 is not None)
    chunk_size = check_count("chunk_size", chunk_size)
    look = chunk_size if method == "vector_product" else None
    options: Any = {"batch_norm": batch_norm, "trusted": trusted, "chunk_size": look}
    with tried(model, x1, x2, params, **options) as found:
        check_memory(which, x1, x2, found.num_outputs, dtype)
        ways = Ways(
            model,
            [x1] if x2 is None else [x1, x2],
            found,
            which,
            method="batch" if batch_norm == "batch" else method,
            chunk_size=len(x1) if batch_norm == "batch" else chunk_size,
            dtype=dtype,
            trusted=trusted,
        )
        return ways.kernel(x1, x2)


def check_choices(
    kind: str,
    method: str,
    batch_norm: str | None,
    dtype: object,
    trusted: object,
    *,
    coupled: bool = False,
) -> Kind:
    """The kind by its name; raises a `ValueError` for a choice that there is not.

    Args:
        kind: As in `empirical_ntk`, as the next four.
        method: How.
        batch_norm: Which statistics.
        dtype: In which products are added up.
        trusted: Whether checks are left out.
        coupled: Whether there is a second side.
    """
    which = kind_of(kind, dtype)
    if not isinstance(trusted, bool):
        raise ValueError(f"trusted must be True or False, got {trusted!r}")
    for name, value, allowed in (("method", method, METHODS), ("batch_norm", batch_norm, NORMS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    if batch_norm == "batch" and method not in ("auto", "loop"):
        raise ValueError(
            f'batch_norm="batch" couples the samples, which only method="loop" can follow, '
            f'got method="{method}"; batch_norm="frozen" goes with every method'
        )
    if batch_norm == "batch" and coupled:
        raise ValueError('batch_norm="batch" knows one batch: leave x2 out')
    return which
