"""The empirical neural tangent kernel: what moving the weights along one sample does to another.

    Theta[n, m, a, b] = sum over weights w of df_a(x_n)/dw df_b(x_m)/dw

Four kinds of it and four ways to one number; `empirical_ntk` is the door.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from darts_gdas.ntk.agreement import check_depends, probe
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.checks import (
    check_count,
    check_inputs,
    check_memory,
    check_model,
    check_output,
    gradient_type,
    kind_of,
    select_parameters,
)
from darts_gdas.ntk.generic import JacobianRows, LoopRows
from darts_gdas.ntk.gram import Factors, Gram, Kind
from darts_gdas.ntk.normalization import (
    batch_norms,
    flat_outputs,
    frozen_statistics,
    preserved,
)
from darts_gdas.ntk.products import product_kernel
from darts_gdas.ntk.structured import StructuredRows
from darts_gdas.ntk.trials import check_fits, check_repeats, check_uncoupled

Filter = Callable[[str, nn.Parameter], bool]
METHODS = ("auto", "loop", "jacobian", "vector_product", "structured")
LAST = ("loop", "batch")
NORMS = (None, "frozen", "batch")

ROW_BYTES = 2**30
"""Memory for rows of the Jacobian; with more of them the parameters are taken in groups."""


@runtime_checkable
class RowSource(Protocol):
    """Where rows of J come from.

    Attributes:
        columns: How many columns of J each parameter takes; none where its rows stay factors.
    """

    columns: Mapping[str, int]

    def fill(self, images: Tensor, names: Sequence[str], rows: Tensor) -> list[Factors]:
        """Write rows for some parameters and some samples; return what stays in factors."""
        ...


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
    dtype: torch.dtype = torch.float64,
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
        dtype: In which products of rows are added up.
        trusted: Leave out the checks of weights, samples and layers, which take as long as the
            kernel of a small network; for networks of the same parts as one that has passed them.

    Returns:
        [N1, N2]; for `diagonal` [N1, N2, O]; for `full` [N1, N2, O, O].

    Raises:
        ValueError: For values that make no sense, weights or inputs that are not finite, networks
            whose samples depend on each other, a kernel larger than the memory, or a network that
            `structured` cannot take (it says what).

    Example:
        >>> model, x = nn.Linear(3, 2), torch.ones(4, 3)
        >>> empirical_ntk(model, x, kind="trace")[0, 0]  # 2 outputs, <x, x> + 1 each
        tensor(8., dtype=torch.float64)

    Reference:
        Jacot, Gabriel, Hongler, NeurIPS 2018, https://arxiv.org/abs/1806.07572; the `sum` kernel:
        Mohamadi, Bae, Sutherland, ICML 2023, https://arxiv.org/abs/2206.12543.
    """
    which = check_choices(kind, method, batch_norm, dtype, coupled=x2 is not None)
    chunk_size = check_count("chunk_size", chunk_size)
    if not trusted:
        check_inputs(x1, x2)
        check_model(model, batch_norm)
        check_fits(model, x1)
    parameters = select_parameters(model, params)
    normalised = _normalisation(model, x1, batch_norm)
    with torch.no_grad(), normalised, flat_outputs(model):
        if batch_norm == "batch":
            run = check_output(model(x1), len(x1)) if trusted else check_repeats(model, x1)
            num_outputs, chunk_size = run.shape[1], len(x1)
        elif trusted:
            num_outputs = check_output(model(x1[:1]), 1).shape[1]
        else:
            num_outputs = check_uncoupled(model, x1, x2).shape[1]
        check_memory(which, x1, x2, num_outputs, dtype)
        if not trusted:
            check_depends(model, x1, parameters)
        sides = [x1] if x2 is None else [x1, x2]
        samples = len(sides[0]), len(sides[-1])
        for candidate in _candidates(method, batch_norm):
            try:
                if candidate == "vector_product":
                    sizes = {"chunk_size": chunk_size, "dtype": dtype}
                    return product_kernel(model, x1, x2, parameters, which, num_outputs, **sizes)
                gram = Gram(which, samples, num_outputs, dtype=dtype, device=x1.device)
                source = _source(candidate, model, parameters, sides, which, trusted)
                _add_all(gram, source, parameters, sides, chunk_size)
                return gram.result()
            except (torch.OutOfMemoryError, MemoryError):
                raise
            except Exception as error:
                if candidate in LAST:
                    raise
                if method != "auto":
                    raise _refusal(method, error) from error
    raise AssertionError("the last method neither returned nor raised")


def _refusal(method: str, error: Exception) -> Unsupported:
    """What a named method says that cannot take a network, in one line."""
    reason = str(error).partition("\n")[0]
    if not isinstance(error, Unsupported):  # the network itself runs, as the checks have shown
        reason = f"{type(error).__name__}: {reason}"
    return Unsupported(f'method="{method}" cannot take this network: {reason}; use "auto"')


def _candidates(method: str, batch_norm: str | None) -> tuple[str, ...]:
    """What to try, in this order."""
    if batch_norm == "batch":
        return ("batch",)
    return ("structured", "jacobian", "loop") if method == "auto" else (method,)


def check_choices(
    kind: str, method: str, batch_norm: str | None, dtype: object, *, coupled: bool = False
) -> Kind:
    """The kind by its name; raises a `ValueError` for a choice that there is not.

    Args:
        kind: As in `empirical_ntk`, as the next three.
        method: How.
        batch_norm: Which statistics.
        dtype: In which products are added up.
        coupled: Whether there is a second side.
    """
    which = kind_of(kind, dtype)
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


def _normalisation(
    model: nn.Module, images: Tensor, batch_norm: str | None
) -> contextlib.AbstractContextManager[object]:
    if batch_norm == "frozen":
        return frozen_statistics(model, images)
    stack = contextlib.ExitStack()
    stack.enter_context(preserved(model))
    if batch_norm == "batch":
        model.eval()
        for norm in batch_norms(model).values():
            norm.train()
    return stack


def _source(
    method: str,
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    sides: Sequence[Tensor],
    kind: Kind,
    trusted: bool,
) -> RowSource:
    """Where the rows come from; raises `Unsupported` where the method cannot take the network."""
    if method == "structured":
        some = sides[0][[0, -1]] if trusted else probe(sides)
        return StructuredRows(model, parameters, some, trusted=trusted)
    if method == "jacobian":
        return JacobianRows(model, parameters, is_sum=kind is Kind.sum, trusted=trusted)
    return LoopRows(model, parameters, coupled=method == "batch")


def _add_all(
    gram: Gram,
    source: RowSource,
    parameters: Mapping[str, nn.Parameter],
    sides: Sequence[Tensor],
    chunk_size: int,
) -> None:
    """Add what all parameters contribute, as many at a time as the memory takes."""
    num_rows = gram.kind.num_rows(gram.num_outputs)
    dtype = gradient_type(sides[0], parameters)
    for names in _groups(source, parameters, num_rows * sum(map(len, sides)), dtype):
        _add_group(gram, source, names, sides, num_rows, chunk_size, dtype)


def _groups(
    source: RowSource, parameters: Mapping[str, nn.Parameter], num_rows: int, dtype: torch.dtype
) -> list[list[str]]:
    """The parameters in order, cut where their rows would exceed the memory for them."""
    room = ROW_BYTES // (num_rows * dtype.itemsize)
    groups: list[list[str]] = [[]]
    used = 0
    for name in parameters:
        columns = source.columns[name]
        if groups[-1] and used + columns > room:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += columns
    return groups


def _add_group(
    gram: Gram,
    source: RowSource,
    names: Sequence[str],
    sides: Sequence[Tensor],
    num_rows: int,
    chunk_size: int,
    dtype: torch.dtype,
) -> None:
    """Add what a group of parameters contributes."""
    columns = sum(source.columns[name] for name in names)
    all_rows, all_factors = [], []
    for images in sides:
        rows = images.new_zeros(len(images), num_rows, columns, dtype=dtype)
        parts = zip(images.split(chunk_size), rows.split(chunk_size), strict=True)
        all_factors.append([source.fill(part, names, out) for part, out in parts])
        all_rows.append(rows)
    if columns:
        gram.add_rows(all_rows[0], all_rows[-1])
    left, right = (zip(*factors, strict=True) for factors in (all_factors[0], all_factors[-1]))
    for factors, others in zip(left, right, strict=True):
        gram.add_factors(factors, others)
