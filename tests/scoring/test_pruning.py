"""Pruning ends with a cell of the space, and asks with and without each candidate."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from darts_gdas.nets import NASBENCH201, Layout
from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring import pruning, supernets
from darts_gdas.scoring.correlation import NothingTold
from darts_gdas.scoring.pruning import prune
from darts_gdas.scoring.supernets import Measurement, Supernets
from darts_gdas.space import SearchSpace

SMALL = SearchSpace.darts(num_nodes=2, candidates=("none", "skip_connect", "sep_conv_3x3"))


def measurement(layout: Layout, seed: int = 0, repeats: int = 1) -> Measurement:
    images = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    return Measurement(layout, images, repeats, 40, seed)


@pytest.mark.slow
@pytest.mark.parametrize("per_round", [1, 3])
def test_one_cell_of_the_space_is_left(per_round: int):
    seen = []
    layout = Layout(2, 3, 3, in_channels=2)
    pruned = prune(
        SMALL, measurement(layout), per_round=per_round, report=lambda *a: seen.append(a)
    )
    for kind, cell in SMALL.cells.items():
        genotype = pruned.genotype.cells[kind]
        assert [len(edges) for edges in genotype.nodes] == [2, 2]
        assert all(len({e.source for e in edges}) == 2 for edges in genotype.nodes)
        assert {e.op for edges in genotype.nodes for e in edges} <= set(cell.derivable(0))
    # Two kinds of 5 edges with 2 candidates each, then the 10 edges; the whole supernet besides.
    assert seen == [
        *(("round 1", i, 21) for i in range(22)),
        *(("edges", i, 11) for i in range(12)),
    ]


def test_a_space_that_keeps_every_edge_is_pruned_to_its_operations():
    space = SearchSpace.nasbench201(candidates=("none", "skip_connect", "nor_conv_1x1"))
    layout = Layout(2, 5, 3, in_channels=2, skeleton=NASBENCH201)
    genotype = prune(space, measurement(layout)).genotype
    assert "none" not in genotype.to_arch_string()


def test_a_measure_that_says_nothing_is_named_and_the_other_decides(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Equal pictures: every kernel is singular, with and without any candidate."""
    space = SearchSpace.darts(num_nodes=1, candidates=SMALL.cells["normal"].candidates[0])
    equal = replace(measurement(Layout(2, 3, 3, in_channels=2)), images=torch.ones(4, 2, 8, 8))
    counts = itertools.count(3)
    monkeypatch.setattr(supernets, "variant_regions", lambda *a: [next(counts) for _ in a[2]])
    pruned = prune(space, equal)
    assert "the gain in condition is 0 for each of the candidates, round 1" in caplog.text
    assert list(pruned.warnings) == caplog.messages
    monkeypatch.setattr(supernets, "variant_regions", lambda *a: [4] * len(a[2]))
    with pytest.raises(NothingTold, match="no score tells the candidates, round 1 apart"):
        prune(space, equal)


@pytest.mark.parametrize("killed_after", [pytest.param(0, marks=pytest.mark.slow), 12])
def test_killed_half_way_it_goes_on_with_what_it_has_measured(tmp_path: Path, killed_after: int):
    space = SearchSpace.darts(num_nodes=1, candidates=SMALL.cells["normal"].candidates[0])
    how = measurement(Layout(2, 3, 3, in_channels=2), repeats=2)
    seen: list[tuple[str, int, int]] = []
    journal = Journal(tmp_path / "whole", "s")
    whole = prune(space, how, journal=journal, report=lambda *line: seen.append(line))
    total = 2 * (1 + 8)  # two repeats of the supernet with all, and without each of 8 candidates
    edges = [("edges", i, 2 * (1 + 4)) for i in range(2 * (1 + 4) + 1)]
    assert seen == [*(("round 1", i, total) for i in range(total + 1)), *edges]

    class Killed(Exception):
        pass

    def report(phase: str, done: int, total: int) -> None:
        if done == killed_after:
            raise Killed
        seen.append((phase, done, total))

    path = tmp_path / "cut"
    with pytest.raises(Killed):
        prune(space, how, journal=Journal(path, "s"), report=report)
    seen.clear()
    again = prune(space, how, journal=Journal(path, "s"), report=lambda *line: seen.append(line))
    assert again == whole
    assert seen == [*(("round 1", i, total) for i in range(killed_after, total + 1)), *edges]
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_it_is_a_function_of_its_seed_and_repeats_differ():
    layout = Layout(2, 3, 3, in_channels=2)
    space = SearchSpace.darts(num_nodes=1, candidates=SMALL.cells["normal"].candidates[0])
    assert prune(space, measurement(layout)).genotype == prune(space, measurement(layout)).genotype
    remaining = {k: [["skip_connect"]] * 2 for k in space.cells}
    nets = [
        Supernets(space, remaining, measurement(layout, repeats=2), r).kernel_net for r in (0, 1)
    ]
    first, second = (next(net.parameters()) for net in nets)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [(10.0, 5.0, 0.5), (10.0, 20.0, -1.0), (float("inf"), 5.0, 1.0), (10.0, float("inf"), -1e6)],
)
def test_changes_are_relative_and_finite(before: float, after: float, change: float):
    assert pruning._relative(before, after) == change


def test_something_must_go_in_every_round():
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        prune(SMALL, measurement(Layout(2, 3, 3, in_channels=2)), per_round=0)
