"""Gram matrices of Jacobian rows: what the four kinds of kernel have in common.

With the rows J [samples, outputs, columns] of two sets of samples, every kind is a batch of matrix
products J1 J2^T, only the rows are laid side by side differently:

    sum       outputs added up first, so J has one output     [1, N, P]
    trace     sum over a of Theta_aa                          [1, N, O * P]
    diagonal  Theta_aa for every a                            [O, N, P]
    full      Theta_ab                                        [1, N * O, P]
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

_FEWEST_ROWS = 64
"""Rows of a product that keep it efficient."""

_BLOCK = 8192
"""Columns of one product in the rows' own precision; the blocks are added up in the kernel's."""


_MOST_NUMBERS = 2**22
"""Products of factors that are held at a time."""


class Kind(Enum):
    """Which part of the kernel: see the module."""

    sum = "sum"
    trace = "trace"
    diagonal = "diagonal"
    full = "full"

    def num_rows(self, num_outputs: int) -> int:
        """Backward passes, and rows of J, per sample."""
        return 1 if self is Kind.sum else num_outputs

    def num_entries(self, samples: int, others: int, num_outputs: int) -> int:
        """Numbers in the kernel of two sets of samples."""
        per_pair = {Kind.diagonal: num_outputs, Kind.full: num_outputs**2}.get(self, 1)
        return samples * others * per_pair

    def arrange(
        self, rows: Float[Tensor, "samples outputs columns"]
    ) -> Float[Tensor, "batch rows columns_or_more"]:
        """The rows as they are multiplied; a view where the memory allows it."""
        if self is Kind.diagonal:
            return rows.transpose(0, 1)
        return (rows.flatten(0, 1) if self is Kind.full else rows.flatten(1))[None]


_OVER_PLACES = {
    Kind.sum: "napi,mnpai->nm",
    Kind.trace: "napi,mnpai->nm",
    Kind.diagonal: "napi,mnpai->anm",
    Kind.full: "napi,mnpbi->namb",
}
"""From gradients and, of other samples, gradients times products of inputs, to the kernel."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Rows that are sums of outer products over few places, sum over p of g_p (x) a_p.

    So are those of a weight that is used at every place alike: of a linear layer, whose places are
    tokens, and of a convolution, whose places are pixels. The product of two rows is the sum over
    p and q of <g_p, g'_q> <a_p, a'_q>, so the rows themselves are never formed.

    Attributes:
        inputs: What entered the layer, of a convolution the patches under its kernel; a column of
            ones more stands for its bias.
        gradients: The gradients of its outputs, for each row of J.
    """

    inputs: Float[Tensor, "samples places features"]
    gradients: Float[Tensor, "samples outputs places out_features"]

    @staticmethod
    def joined(parts: Sequence["Factors"]) -> "Factors":
        """Those of all samples, in numbers whose products stay in range."""
        inputs = torch.cat([part.inputs for part in parts])
        return Factors(_wide(inputs), _wide(torch.cat([part.gradients for part in parts])))

    def __getitem__(self, samples: slice) -> "Factors":
        return Factors(self.inputs[samples], self.gradients[samples])

    def __len__(self) -> int:
        return len(self.inputs)


class Gram:
    """The kernel of a kind, added up from rows.

    Args:
        kind: Which.
        samples: Number of samples on each side.
        num_outputs: Outputs of the network.
        dtype: In which the kernel is summed.
        device: Where the rows are.
    """

    def __init__(
        self,
        kind: Kind,
        samples: tuple[int, int],
        num_outputs: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.kind, self.samples, self.num_outputs = kind, samples, num_outputs
        batch = num_outputs if kind is Kind.diagonal else 1
        sides = [n * num_outputs if kind is Kind.full else n for n in samples]
        self._sum = torch.zeros(batch, *sides, dtype=dtype, device=device)

    def add_rows(
        self,
        rows: Float[Tensor, "samples outputs columns"],
        others: Float[Tensor, "others outputs columns"],
    ) -> None:
        """Add what some parameters contribute."""
        self._sum += self._product(rows, others)

    def add_factors(self, factors: Sequence[Factors], others: Sequence[Factors]) -> None:
        """Add what a layer contributes whose rows stay factors, its samples in parts."""
        left = Factors.joined(factors)
        right = left if factors is others else Factors.joined(others)
        with without_autocast(left.inputs.device):
            if left.inputs.shape[1] == 1:
                self._sum += self._of_one_place(left, right)
            else:
                self._sum += self._of_places(left, right)

    def _of_one_place(self, left: Factors, right: Factors) -> Tensor:
        inputs = left.inputs[:, 0] @ right.inputs[:, 0].mT
        inputs = inputs.to(self._sum.dtype)
        if self.kind is Kind.full:
            inputs = inputs.repeat_interleave(self.num_outputs, 0)
            inputs = inputs.repeat_interleave(self.num_outputs, 1)
        gradients = left.gradients[:, :, 0]
        same = left is right
        return inputs * self._product(gradients, gradients if same else right.gradients[:, :, 0])

    def _of_places(self, left: Factors, right: Factors) -> Tensor:
        total = torch.zeros_like(self._sum)
        rows, columns = (self._sum.shape[i] // n for i, n in zip((1, 2), self.samples, strict=True))
        step = -(-len(left) // 4) if left is right else len(left)
        numbers = step * right.gradients[0].numel()
        width = max(1, _MOST_NUMBERS // numbers)
        for first in range(0, len(left), step):
            for other in range(first if left is right else 0, len(right), width):
                part, beside = left[first : first + step], right[other : other + width]
                products = torch.einsum("npf,mqf->npmq", part.inputs, beside.inputs)
                turned = torch.einsum("npmq,mbqi->mnpbi", products, beside.gradients)
                found = torch.einsum(_OVER_PLACES[self.kind], part.gradients, turned)
                place = slice(first * rows, (first + len(part)) * rows)
                across = slice(other * columns, (other + len(beside)) * columns)
                total[:, place, across] = found.reshape(total[:, place, across].shape)
        return _mirrored(total) if left is right else total

    def _product(self, rows: Tensor, others: Tensor) -> Tensor:
        left, right = self.kind.arrange(_wide(rows)), self.kind.arrange(_wide(others))
        total = torch.zeros_like(self._sum)
        # Of a symmetric product, blocks on and above the diagonal.
        step = max(_FEWEST_ROWS, -(-left.shape[1] // 4)) if rows is others else left.shape[1]
        for start in range(0, left.shape[2], _BLOCK):
            columns = slice(start, start + _BLOCK)
            for first in range(0, left.shape[1], step):
                part, rest = slice(first, first + step), slice(first if rows is others else 0, None)
                with without_autocast(left.device):
                    product = torch.bmm(left[:, part, columns], right[:, rest, columns].mT)
                total[:, part, rest] += product
        return _mirrored(total) if rows is others else total

    def result(self) -> Tensor:
        """[N1, N2], for `diagonal` [N1, N2, O], for `full` [N1, N2, O, O]."""
        if self.kind is Kind.full:
            n, m = self.samples
            shape = (n, self.num_outputs, m, self.num_outputs)
            return self._sum[0].view(shape).permute(0, 2, 1, 3).contiguous()
        return (
            self._sum.permute(1, 2, 0).contiguous() if self.kind is Kind.diagonal else self._sum[0]
        )


def _mirrored(products: Tensor) -> Tensor:
    """A symmetric matrix, or several, of what stands on the diagonal and above."""
    return products.triu() + products.triu(1).mT


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Inside it products are in the type of their factors, whatever the network computes in."""
    if device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _wide(rows: Tensor) -> Tensor:
    """Numbers whose products do not leave the range of their type, as those of float16 do."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def gram_of_outputs(kind: Kind, sides: Sequence[Tensor], *, dtype: torch.dtype | None) -> Tensor:
    """The kernel of a kind of rows with a single column: outputs, or how they change.

    Args:
        kind: Which.
        sides: Outputs of one set of samples, or of two, [samples, outputs] each.
        dtype: As in `empirical_ntk`.
    """
    wide = [_wide(f) for f in sides]
    rows = [(f.sum(1, keepdim=True) if kind is Kind.sum else f)[..., None] for f in wide]
    samples, num_outputs = (len(sides[0]), len(sides[-1])), sides[0].shape[1]
    summed = dtype or torch.float64
    gram = Gram(kind, samples, num_outputs, dtype=summed, device=sides[0].device)
    gram.add_rows(rows[0], rows[-1])
    return gram.result().to(dtype or wide[0].dtype)
