from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def seeded() -> Iterator[None]:
    """Random numbers that are the same in every run, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
