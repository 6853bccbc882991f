"""Out of memory is one line that says what to lower; whatever is not that passes."""

import pytest
import torch

from darts_gdas.cli.memory import OutOfMemory, is_out_of_memory, memory_errors
from tests.test_config import search_config, train_config

OF_THE_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n 2.00 GiB.")
OF_THE_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 4096 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize("error", [OF_THE_GPU, OF_THE_CPU, MemoryError()], ids=lambda e: type(e))
def test_it_says_how_much_at_which_size_and_what_to_lower(error: Exception):
    config = search_config("method=darts", "batch_size=48", "net.channels=8")
    with pytest.raises(OutOfMemory) as caught, memory_errors(config):
        raise error
    text = str(caught.value)
    assert "\n" not in text and text.startswith("out of memory on the ")
    for part in (
        "GiB in use at batch_size=48",
        "Set checkpoint_cells=true (goes on from the checkpoints), or else a smaller batch_size",
        "fewer net.channels (now 8), precision=bf16 (a new run). Checkpoints are kept",
    ):
        assert part in text


def test_what_is_set_already_or_not_there_is_not_recommended():
    for config in (
        search_config("method=darts", "checkpoint_cells=true", "precision=bf16"),
        train_config("precision=bf16"),
    ):
        with pytest.raises(OutOfMemory) as caught, memory_errors(config):
            raise MemoryError
        assert "checkpoint_cells" not in str(caught.value)
        assert "precision" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("can't allocate memory")])
def test_other_errors_pass(error: Exception):
    with pytest.raises(type(error), match=str(error)), memory_errors(search_config()):
        raise error


def test_a_real_request_that_cannot_be_met_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
