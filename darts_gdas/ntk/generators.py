"""The generators of random numbers that a network may draw from, beside those of its own."""

import pickle
import random
import sys
from collections.abc import Iterable

import numpy as np
import torch


class Generators:
    """Where torch's, numpy's and Python's generators stand.

    Args:
        devices: Those with a generator of torch's of their own.
    """

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._torch = torch.get_rng_state()
        self._cuda = {d: torch.cuda.get_rng_state(d) for d in devices if d.type == "cuda"}
        self._numpy, self._python = np.random.get_state(legacy=False), random.getstate()

    def restore(self) -> None:
        """Put all of them back to where they stood."""
        torch.set_rng_state(self._torch)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)
        np.random.set_state(self._numpy)
        random.setstate(self._python)

    def stood_at(self, other: "Generators") -> bool:
        """Whether nothing was drawn between two looks at the same devices.

        Python's has no say where `beartype` is loaded, which draws from it to choose what it looks
        at.
        """
        pairs = [(self._torch, other._torch)]
        pairs += [(state, other._cuda[device]) for device, state in self._cuda.items()]
        return (
            all(torch.equal(own, there) for own, there in pairs)
            and pickle.dumps(self._numpy) == pickle.dumps(other._numpy)
            and ("beartype" in sys.modules or self._python == other._python)
        )
