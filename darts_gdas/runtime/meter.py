"""Means of metrics over an epoch, on one rank or on all."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.distributed import Ranks


class Meter:
    """Sums of metrics over samples; values stay on their device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, tuple[Tensor, int]]) -> None:
        """Add one step's sums and counts."""
        for name, (value, count) in metrics.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + count

    def clear(self) -> None:
        """Set all sums to zero. The names stay: ranks add up the same ones, whoever has values."""
        self._sums = {name: torch.zeros_like(value) for name, value in self._sums.items()}
        self._counts = dict.fromkeys(self._counts, 0)

    def means(self) -> dict[str, float]:
        """Mean per sample of every metric; one transfer to the host."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        return {
            name: value / self._counts[name] for name, value in zip(self._sums, sums, strict=True)
        }

    def over(self, ranks: Ranks) -> "Meter":
        """What all ranks have summed; this rank's own sums stay as they are."""
        total = Meter()
        sums = [value.clone() for value in self._sums.values()]
        counts = torch.tensor(list(self._counts.values()))
        ranks.add_([*sums, counts])
        total._sums = dict(zip(self._sums, sums, strict=True))
        total._counts = dict(zip(self._counts, counts.tolist(), strict=True))
        return total

    def state_dict(self) -> State:
        """Sums and counts."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dicts(self, states: Sequence[State], device: torch.device) -> None:
        """The sums of states that `state_dict` made."""
        self._sums, self._counts = {}, {}
        for state in states:
            values = {name: value.to(device) for name, value in state["sums"].items()}
            self.add({name: (values[name], count) for name, count in state["counts"].items()})
