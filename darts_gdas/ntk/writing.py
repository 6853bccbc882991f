"""From gradients of layers' outputs, one backward pass after the other, to rows of J."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.ntk.calls import Use
from darts_gdas.ntk.gram import Factors
from darts_gdas.ntk.layers import (
    Rows,
    bias_rows,
    is_depthwise,
    patches_bytes,
    patches_of,
    weight_rows,
)

_WAITING_BYTES = 2**27
"""Of gradients that wait until those of several passes are turned into rows together, at most."""

_PATCHES_BYTES = 2**26
"""Of the patches under all kernels, at most, that are kept from one gradient to the next."""


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
        self._several = rows.shape[1] > 1
        self._kept: list[list[Tensor | None]] = [[] for _ in uses]
        self._waiting: list[list[Tensor]] = [[] for _ in uses]
        self._patched = self._with_patches()
        self._width = at_once
        self._weights = cache(self._prepared)

    def add(self, first: int, gradients: Sequence[Tensor | None]) -> None:
        """Take the gradients of the outputs of all calls for row `first` and on; None is zeros."""
        if first == 0 and self._at_once == 1:
            self._width = self._passes_together(gradients)
        stop = first + self._at_once
        for i, (use, gradient) in enumerate(zip(self._uses, gradients, strict=True)):
            if self._is_factored(use):
                self._kept[i].append(None if gradient is None else use.by_place(gradient))
            elif self._width > self._at_once and self._waits(i):
                self._gather(i, first, gradient)
            elif gradient is not None:
                self._write(i, gradient, slice(first, stop))

    def factors(self) -> list[Factors]:
        """What stays factors, when all passes are through."""
        found = []
        for use, parts in zip(self._uses, self._kept, strict=True):
            like = next((part for part in parts if part is not None), None)
            if like is not None:
                whole = [torch.zeros_like(like) if part is None else part for part in parts]
                split = [part.unflatten(0, (-1, self._at_once)) for part in whole]
                found.append(self._factors(use, torch.cat(split, dim=1)))
        return found

    def _gather(self, i: int, first: int, gradient: Tensor | None) -> None:
        """Keep a pass's gradient with those of the passes before it, or write them all."""
        waiting, stop = self._waiting[i], first
        if gradient is not None:
            waiting.append(gradient)
            stop = first + 1
        last = first + 1 == self._rows.shape[1]
        if waiting and (gradient is None or last or len(waiting) == self._width):
            together = torch.stack(waiting, dim=1).flatten(0, 1)
            self._write(i, together, slice(stop - len(waiting), stop))
            waiting.clear()

    def _is_factored(self, use: Use) -> bool:
        return self._formed.isdisjoint(use.selected.values())

    def _waits(self, i: int) -> bool:
        return i in self._patched or is_depthwise(self._uses[i].layer)

    def _with_patches(self) -> set[int]:
        """Calls whose rows are made of patches: the first ones for which there is memory."""
        chosen, room = set(), _PATCHES_BYTES
        for i, use in enumerate(self._uses):
            size = patches_bytes(use.layer, use.inputs[:: self._at_once])
            if self._several and not self._is_factored(use) and 0 < size <= room:
                chosen.add(i)
                room -= size
        return chosen

    def _passes_together(self, gradients: Sequence[Tensor | None]) -> int:
        size = sum(
            gradient.nbytes
            for i, gradient in enumerate(gradients)
            if gradient is not None and self._waits(i)
        )
        return min(self._rows.shape[1], max(1, _WAITING_BYTES // max(1, size)))

    def _write(self, i: int, gradient: Tensor, part: slice) -> None:
        for name, found in formed(self._uses[i], gradient, self._formed, partial(self._weights, i)):
            size = part.stop - part.start
            self._rows[:, part, self._places[name]] += found.view(len(self._rows), size, -1)

    def _prepared(self, i: int) -> Rows:
        use, patched = self._uses[i], i in self._patched
        return weight_rows(use.layer, self._inputs(use), several=self._several, patches=patched)

    def _inputs(self, use: Use) -> Tensor:
        return use.read_inputs()[:: self._at_once]

    def _factors(self, use: Use, gradients: Tensor) -> Factors:
        x, inputs = self._inputs(use), []
        if use.selected.get("weight") in self._places:
            inputs.append(patches_of(use.layer, x))
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
