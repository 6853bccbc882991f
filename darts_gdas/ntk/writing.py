"""From gradients of layers' outputs, one backward pass after the other, to rows of J."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.ntk.calls import Use
from darts_gdas.ntk.gram import Factors
from darts_gdas.ntk.layers import Rows, bias_rows, is_faster_together, weight_rows

_WAITING_BYTES = 2**28
"""Of gradients that wait until those of several passes are turned into rows together, at most."""


class Writer:
    """Rows of some parameters, side by side.

    Args:
        uses: Calls of layers with such parameters.
        places: The columns of each parameter.
        factored: Parameters whose rows stay factors.
        rows: Zeros; gets one row per pass, or several at once.
        at_once: So many rows come from one pass, in which every sample lies as often, its copies
            behind each other.
    """

    def __init__(
        self,
        uses: Sequence[Use],
        places: Mapping[str, slice],
        factored: Container[str],
        rows: Float[Tensor, "samples rows columns"],
        at_once: int,
    ) -> None:
        self._uses, self._places, self._rows, self._at_once = uses, places, rows, at_once
        self._formed = {name for name in places if name not in factored}
        self._kept: list[list[Tensor]] = [[] for _ in uses]
        self._width = at_once
        self._weights = cache(self._prepared)

    def add(self, first: int, gradients: Sequence[Tensor | None]) -> None:
        """Take the gradients of the outputs of all calls in the pass of row `first` and on."""
        if first == 0 and self._at_once == 1:
            self._width = self._passes_together(gradients)
        stop = first + self._at_once
        for i, (use, gradient) in enumerate(zip(self._uses, gradients, strict=True)):
            if gradient is None:
                continue
            if self._formed.isdisjoint(use.selected.values()):
                self._kept[i].append(use.by_place(gradient).unflatten(0, (-1, self._at_once)))
            elif self._width > self._at_once and is_faster_together(use.layer):
                self._kept[i].append(gradient)
                if len(self._kept[i]) == self._width or stop == self._rows.shape[1]:
                    together = torch.stack(self._kept[i], dim=1).flatten(0, 1)
                    self._write(i, together, slice(stop - len(self._kept[i]), stop))
                    self._kept[i].clear()
            else:
                self._write(i, gradient, slice(first, stop))

    def factors(self) -> list[Factors]:
        """What stays factors, when all passes are through."""
        return [
            self._factors(use, torch.cat(parts, dim=1))
            for use, parts in zip(self._uses, self._kept, strict=True)
            if parts
        ]

    def _passes_together(self, gradients: Sequence[Tensor | None]) -> int:
        size = sum(
            gradient.nbytes
            for use, gradient in zip(self._uses, gradients, strict=True)
            if gradient is not None and is_faster_together(use.layer)
        )
        return min(self._rows.shape[1], max(1, _WAITING_BYTES // max(1, size)))

    def _write(self, i: int, gradient: Tensor, part: slice) -> None:
        for name, found in formed(self._uses[i], gradient, self._formed, partial(self._weights, i)):
            size = part.stop - part.start
            self._rows[:, part, self._places[name]] += found.view(len(self._rows), size, -1)

    def _prepared(self, i: int) -> Rows:
        use = self._uses[i]
        return weight_rows(use.layer, self._inputs(use), several=self._rows.shape[1] > 1)

    def _inputs(self, use: Use) -> Tensor:
        return use.read_inputs()[:: self._at_once]

    def _factors(self, use: Use, gradients: Tensor) -> Factors:
        x, inputs = self._inputs(use), []
        if use.selected.get("weight") in self._places:
            inputs.append(use.patches(x))
        if use.selected.get("bias") in self._places:
            inputs.append(gradients.new_ones(len(x), use.places, 1))
        return Factors(torch.cat(inputs, dim=2), gradients)


def formed(
    use: Use, gradient: Tensor, names: Container[str | None], weights: Callable[[], Rows]
) -> Iterator[tuple[str, Tensor]]:
    """Rows of a call's weight and bias, if they are named; `weights` makes those of the weight."""
    if use.selected.get("weight") in names:
        yield use.selected["weight"], weights()(gradient)
    if use.selected.get("bias") in names:
        yield use.selected["bias"], bias_rows(use.layer, gradient)
