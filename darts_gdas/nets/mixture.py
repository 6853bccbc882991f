"""Mixtures: how much of each candidate operation every edge uses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class CellMixture:
    """The mixture of one kind of cell, shared by all its cells.

    Attributes:
        ops: Weight of each candidate on each edge, in the order of `CellSpace.edges` and
            `CellSpace.candidates`. With a dimension before these, one for each cell of the kind,
            from the network's first to its last.
        edges: Weight of each edge in its node's sum (PC-DARTS), or None for one each.
        active: The one candidate to run per edge, known on the host, or None to run all. Its
            weight still multiplies the result, so a gradient reaches `ops` through it.
    """

    ops: Float[Tensor, "*cells edges candidates"]
    edges: Float[Tensor, " edges"] | None = None
    active: tuple[int, ...] | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in a fixed order."""
        return (self.ops,) if self.edges is None else (self.ops, self.edges)

    @property
    def edge_weighted(self) -> Float[Tensor, "*cells edges candidates"]:
        """The weights of the candidates, times those of their edges."""
        return self.ops if self.edges is None else self.ops * self.edges[:, None]

    @property
    def parts(self) -> tuple["CellMixture", ...]:
        """One mixture for each cell of the kind, or the one that all of them share."""
        if self.ops.dim() == 2:
            return (self,)
        return tuple(replace(self, ops=ops) for ops in self.ops)

    def with_tensors(self, tensors: Sequence[Tensor]) -> "CellMixture":
        """The same cell with other numbers in it, in the order of `tensors`."""
        ops, edges = (*tensors, None)[:2]
        return replace(self, ops=ops, edges=edges)


class Mixture(Mapping[str, CellMixture]):
    """One `CellMixture` per kind of cell: the argument that a supernet runs with.

    Gradients with respect to a mixture are mixtures themselves.

    Example:
        >>> import torch
        >>> mixture = Mixture({"normal": CellMixture(torch.ones(2, 3))})
        >>> [leaf.shape for leaf in mixture.leaves()]
        [torch.Size([2, 3])]
    """

    def __init__(self, cells: Mapping[str, CellMixture]) -> None:
        self._cells = dict(cells)

    def __getitem__(self, kind: str) -> CellMixture:
        return self._cells[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)

    def __repr__(self) -> str:
        return f"Mixture({self._cells!r})"

    def leaves(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        return [tensor for cell in self._cells.values() for tensor in cell.tensors]

    def with_leaves(self, leaves: Sequence[Tensor]) -> "Mixture":
        """The same structure around other tensors, in the order of `leaves()`."""
        expected = len(self.leaves())
        if len(leaves) != expected:
            raise ValueError(f"this mixture has {expected} leaves, got {len(leaves)}")
        remaining = iter(leaves)
        cells = {
            kind: cell.with_tensors([next(remaining) for _ in cell.tensors])
            for kind, cell in self._cells.items()
        }
        return Mixture(cells)

    def per_cell(self, counts: Mapping[str, int]) -> "Mixture":
        """The same values for each cell by itself, as many as there are of a kind."""
        return Mixture(
            {
                kind: replace(cell, ops=cell.ops.expand(counts[kind], -1, -1))
                for kind, cell in self._cells.items()
            }
        )

    def detach(self) -> "Mixture":
        """The same values, cut off from whatever computed them."""
        return self.with_leaves([leaf.detach() for leaf in self.leaves()])

    def require_grad(self) -> "Mixture":
        """The same values as fresh leaves that collect a gradient."""
        return self.with_leaves([leaf.detach().requires_grad_() for leaf in self.leaves()])


def is_sparse(mixture: Mixture) -> bool:
    """Whether some candidates do not run at all."""
    return any(cell.active is not None for cell in mixture.values())
