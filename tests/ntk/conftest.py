from collections.abc import Iterator

import pytest
import torch
from jaxtyping import config


@pytest.fixture
def seeded() -> Iterator[None]:
    """Random numbers that are the same in every run, and leave no trace."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def untyped() -> Iterator[None]:
    """Types are looked at in tests alone: without that, what a user's call meets."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
