"""What all tests of the kernels leave as it was."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    """A test that computes with several threads; not for the next one."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
