"""The ways to one kernel, in the order in which they are tried, and the memory that they take."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from darts_gdas.ntk.agreement import probe
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.checks import NotFinite, check_finite, check_rows, gradient_type, is_full
from darts_gdas.ntk.entry import Tried
from darts_gdas.ntk.generic import JacobianRows, LoopRows
from darts_gdas.ntk.gram import Factors, Gram, Kind
from darts_gdas.ntk.products import product_kernel
from darts_gdas.ntk.structured import StructuredRows
from darts_gdas.reasons import reason

LAST = ("loop", "batch")

ROW_BYTES = 2**30
"""Memory for rows of the Jacobian; with more of them the parameters are taken in groups."""


@runtime_checkable
class RowSource(Protocol):
    """Where rows of J come from.

    Attributes:
        columns: How many columns of J each parameter takes; none where its rows stay factors.
        held: How many numbers of each parameter are held for a row of J.
    """

    columns: Mapping[str, int]
    held: Mapping[str, int]

    def fill(self, images: Tensor, names: Sequence[str], rows: Tensor) -> list[Factors]:
        """Write rows for some parameters and some samples; return what stays in factors."""
        ...


class Ways:
    """A kind of kernel of a network, of some samples or parts of them; within `tried`.

    Args:
        model: The network.
        sides: All samples, of one side or two; a way is tried at a few of them, once.
        found: What `tried` has found out.
        kind: Which part of the kernel.
        method: As in `empirical_ntk`, or "batch" for that of a whole batch.
        chunk_size: Samples per pass.
        dtype: As in `empirical_ntk`.
        trusted: Do not look at the result, nor compare a way that is named with autograd; where
            there is a choice, only the comparison tells which way is right.
    """

    def __init__(
        self,
        model: nn.Module,
        sides: Sequence[Tensor],
        found: Tried,
        kind: Kind,
        *,
        method: str,
        chunk_size: int,
        dtype: torch.dtype | None,
        trusted: bool,
    ) -> None:
        self.model, self.sides, self.kind = model, sides, kind
        self.parameters, self.num_outputs = found.parameters, found.num_outputs
        self.method, self.chunk_size, self.trusted = method, chunk_size, trusted
        self.dtype = dtype or torch.float64
        self._result = dtype or gradient_type(sides[0], found.parameters)
        self._left = ["structured", "jacobian", "loop"] if method == "auto" else [method]
        self._is_compared = not trusted or method == "auto"
        self._source: RowSource | None = None

    def kernel(self, x1: Tensor, x2: Tensor | None) -> Tensor:
        """The kernel of some of the samples; a way that failed for others is not tried again."""
        while True:
            way = self._left[0]
            try:
                found = self._by(way, x1, x2).to(self._result)
                break
            except Exception as error:
                if is_full(error) or isinstance(error, NotFinite) or way in LAST:
                    raise
                if self.method != "auto":
                    raise _refusal(self.method, error) from error
            del self._left[0]
            self._source = None
        if not self.trusted:
            check_finite(found)
        return found

    def _by(self, way: str, x1: Tensor, x2: Tensor | None) -> Tensor:
        if way == "vector_product":
            return product_kernel(
                self.model,
                x1,
                x2,
                self.parameters,
                self.kind,
                self.num_outputs,
                chunk_size=self.chunk_size,
                dtype=self.dtype,
            )
        sides = [x1] if x2 is None else [x1, x2]
        samples = len(sides[0]), len(sides[-1])
        gram = Gram(self.kind, samples, self.num_outputs, dtype=self.dtype, device=x1.device)
        if self._source is None:
            self._source = _source(
                way, self.model, self.parameters, self.sides, self.kind, not self._is_compared
            )
        _add_all(gram, self._source, self.parameters, sides, self.chunk_size)
        return gram.result()


def _refusal(method: str, error: Exception) -> Unsupported:
    """What a named method says that cannot take a network, in one line."""
    # The network itself runs, as the checks have shown.
    said = reason(error, named=not isinstance(error, Unsupported))
    return Unsupported(f'method="{method}" cannot take this network: {said}; use "auto"')


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
        return StructuredRows(model, parameters, some, kind=kind, trusted=trusted)
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
    all_rows = num_rows * sum(map(len, sides))
    groups = _groups(source, parameters, all_rows, dtype)
    largest = max(groups, key=lambda names: _columns(source, names))
    check_rows(all_rows, _columns(source, largest), largest[0], sides[0].new_empty(0, dtype=dtype))
    for names in groups:
        _add_group(gram, source, names, sides, num_rows, chunk_size, dtype)


def _groups(
    source: RowSource, parameters: Mapping[str, nn.Parameter], num_rows: int, dtype: torch.dtype
) -> list[list[str]]:
    """The parameters in order, cut where their rows would exceed the memory for them."""
    room = ROW_BYTES // (num_rows * dtype.itemsize)
    groups: list[list[str]] = [[]]
    used = 0
    for name in parameters:
        held = source.held[name]
        if groups[-1] and used + held > room:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += held
    return groups


def _columns(source: RowSource, names: Sequence[str]) -> int:
    return sum(source.columns[name] for name in names)


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
    columns = _columns(source, names)
    all_rows, all_factors = [], []
    for images in sides:
        rows = images.new_zeros(len(images), num_rows, columns, dtype=dtype)
        parts = zip(images.split(chunk_size), rows.split(chunk_size), strict=True)
        all_factors.append([source.fill(part, names, out) for part, out in parts])
        all_rows.append(rows)
    if columns:
        gram.add_rows(all_rows[0], all_rows[-1])
    left = [*zip(*all_factors[0], strict=True)]
    right = left if len(sides) == 1 else [*zip(*all_factors[-1], strict=True)]
    for factors, others in zip(left, right, strict=True):
        gram.add_factors(factors, others)
