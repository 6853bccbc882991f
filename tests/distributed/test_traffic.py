"""Bytes that ranks hand over in a step are those of the formula in docs/scaling.md."""

from pathlib import Path

import torch

from benchmarks.pair import search_task
from benchmarks.scaling import counted
from benchmarks.scaling_model import arch_bytes, on_the_wire, weight_bytes
from darts_gdas.nets import Layout
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.search import FirstOrder, Softmax
from tests.ranks import on_ranks


def test_a_step_hands_over_gradients_statistics_and_the_mixture(tmp_path: Path):
    def work(ranks: Ranks) -> tuple[int, int, int, int]:
        compute = Compute(torch.device("cpu"), channels_last=True, ranks=ranks)
        task = search_task(Softmax(), FirstOrder(), Layout(4, 3, 10), 4, 8, compute)
        task.supernet.train()
        batches = task.data.weight_batches.batch(0), task.data.arch_batches.batch(0)
        task.step_weights(batches[0], 0.5)  # makes the library's wrapper
        sent = counted(task.weight_step.replica._parallel)
        task.step_weights(batches[0], 0.5)
        weights, sent["bytes"] = sent["bytes"], 0
        task.arch_step(*batches, 0.5)
        expected = weight_bytes(task.supernet), arch_bytes(task.space)
        return weights, sent["bytes"], *expected

    for weights, arch, expected_weights, expected_arch in on_ranks(work, tmp_path):
        assert (weights, arch) == (expected_weights, expected_arch)
    assert on_the_wire(12, 2) == 12 and on_the_wire(12, 3) == 16  # of a ring's two rounds
