"""Selections on real supernets: they choose out of the space, repeatably, and report."""

import copy
import itertools
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_gdas.nets import DerivedNet, count_parameters
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.distributed import ALONE
from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.signals import StopRequest
from darts_gdas.runtime.terminal import PhaseLine, Terminal, Verbosity
from darts_gdas.runtime.work import Work
from darts_gdas.scoring.table import AccuracyTable, arch_string
from darts_gdas.search import (
    BestOfSamples,
    Evolution,
    Known,
    PerturbationSelection,
    Reinforce,
    Softmax,
    Uniform,
    Untrained,
)
from darts_gdas.search.one_hot import one_hot
from darts_gdas.space import SearchSpace
from darts_gdas.tasks import conclusion
from darts_gdas.tasks.conclusion import conclude, tune, untrained_scores
from darts_gdas.tasks.initial import small_layout
from darts_gdas.tasks.method import Method, Order
from darts_gdas.tasks.probing import SupernetProbe
from darts_gdas.tasks.search import SearchTask
from tests.tasks.test_search import plain
from tests.tasks.test_stage import BENCH, DARTS, SPACE, at, flat, task_of

PT = replace(DARTS, discretizer=PerturbationSelection(tune_epochs=1))
RANDOM = replace(
    DARTS, relaxation=Uniform(), order=Order.weights_only, discretizer=BestOfSamples(count=6)
)
everywhere = pytest.mark.parametrize(
    ("method", "space"),
    [
        (PT, BENCH),
        (RANDOM, SPACE),
        (replace(RANDOM, discretizer=Evolution(count=14)), SPACE),
        (replace(RANDOM, discretizer=Reinforce(count=6)), BENCH),
        (replace(RANDOM, discretizer=Evolution(count=12, judge=Untrained("params"))), BENCH),
    ],
    ids=["perturbation", "best_of_samples", "evolution", "reinforce", "untrained"],
)


def trained(method: Method, space: SearchSpace, steps: int = 2) -> SearchTask:
    task = plain(method, space=space, num_epochs=1)
    for step in range(steps):
        task.train_step(at(task.current, step))
    return task


class Stop(Exception):
    """The moment at which a process is killed."""


def concluded(
    task: SearchTask, path: Path | None = None, killed_at: int | None = None
) -> tuple[dict[str, float], list[tuple[str, int, int]]]:
    """Metrics and progress of a selection, which may be killed at its n-th pass over a batch."""
    lines: list[tuple[str, int, int]] = []
    passes = itertools.count()

    class Watched(Work):
        def __call__(self, phase: str, done: int, total: int) -> None:
            lines.append((phase, done, total))

        def heed(self) -> None:
            if next(passes) == killed_at:
                raise Stop

    line = PhaseLine(Terminal(Verbosity.quiet))
    work = Watched(line, StopRequest(), ALONE, str)
    return conclude(task, work, lambda state: Journal(path, f"settings {state}")), lines


@everywhere
def test_a_selection_is_a_function_of_the_last_checkpoint(method: Method, space: SearchSpace):
    """Begun anew after an interruption it ends with the same cell and the same figures."""
    task = trained(method, space)
    state = copy.deepcopy(task.state_dict())
    metrics, lines = concluded(task)
    total = lines[0][2]
    assert lines == [("selecting", done, total) for done in range(total + 1)]

    again = plain(method, space=space, num_epochs=1)
    again.load_state_dict(state)
    assert concluded(again)[0] == metrics
    assert again.genotype() == task.genotype()
    one_hot(task.genotype(), space)  # it is of the space
    assert metrics["search/selected_accuracy"] == task.current.probe.accuracy(
        one_hot(task.genotype(), space)
    )


@everywhere
@pytest.mark.parametrize(
    "share",
    [pytest.param(0.01, marks=pytest.mark.slow), 0.6, pytest.param(0.97, marks=pytest.mark.slow)],
)
def test_killed_half_way_it_goes_on_with_what_it_has_measured(
    tmp_path: Path,
    method: Method,
    space: SearchSpace,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
):
    """The same answer bit for bit; no accuracy and no epoch of tuning is computed twice."""
    task, path = trained(method, space), tmp_path / "selection.jsonl"
    state = copy.deepcopy(task.state_dict())
    calls = {"accuracy": 0, "tune": 0, "scores": 0}
    accuracy, plain_tune, scores = SupernetProbe.accuracy, conclusion.tune, untrained_scores

    def counted_scores(*arguments: Any) -> dict[str, float]:
        calls["scores"] += 1
        return scores(*arguments)

    def counted_accuracy(*arguments: Any) -> float:
        found = accuracy(*arguments)
        calls["accuracy"] += 1
        return found

    def counted_tune(*arguments: Any, **settings: Any) -> None:
        plain_tune(*arguments, **settings)
        calls["tune"] += 1

    monkeypatch.setattr(SupernetProbe, "accuracy", counted_accuracy)
    monkeypatch.setattr(conclusion, "tune", counted_tune)
    monkeypatch.setattr(conclusion, "untrained_scores", counted_scores)
    whole, lines = concluded(task)
    expected, total = dict(calls), lines[0][2]
    assert sum(expected.values()) == total + 1  # the last is that of the answer
    batches = task.current.probe.num_batches
    passes = batches * expected["accuracy"] + task.steps_per_epoch * expected["tune"]
    passes += expected["scores"]
    calls.update(accuracy=0, tune=0, scores=0)

    def begun() -> SearchTask:
        again = plain(method, space=space, num_epochs=1)
        again.load_state_dict(copy.deepcopy(state))
        return again

    with pytest.raises(Stop):
        concluded(begun(), path, killed_at=int(share * passes))
    kept = calls["accuracy"]
    again = begun()
    found, lines = concluded(again, path)
    assert (found, again.genotype()) == (whole, task.genotype())
    assert calls == expected
    assert not lines or (lines[-1][1] == total and (kept == 0 or lines[0][1] > 0))
    same = flat(again.current.supernet.state_dict().values())
    assert torch.equal(same, flat(task.current.supernet.state_dict().values()))
    assert [*tmp_path.iterdir()] == [path]  # the tuned state is no longer needed

    assert concluded(begun(), path) == (whole, [])  # all of it is known
    assert calls == expected


def test_a_selection_of_another_state_measures_anew(tmp_path: Path):
    path = tmp_path / "selection.jsonl"
    concluded(trained(RANDOM, BENCH, steps=1), path)
    task, other = (trained(RANDOM, BENCH, steps=2) for _ in range(2))
    assert concluded(task, path)[0] == concluded(other)[0]


def test_a_damaged_tuned_state_is_tuned_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    whole = concluded(trained(PT, BENCH))[0]
    (tmp_path / "selection.pt").write_bytes(b"<html>")
    assert concluded(trained(PT, BENCH), tmp_path / "selection.jsonl")[0] == whole
    assert "selection.pt' cannot be loaded" in caplog.text and "; tuning anew" in caplog.text


def test_the_best_sample_beats_all_others_under_the_shared_weights():
    task = trained(RANDOM, BENCH)
    accuracy = concluded(task)[0]["search/selected_accuracy"]
    rng = random.Random(derive_seed(task.current.seed, "selection"))
    drawn = [BENCH.sample(rng) for _ in range(6)]
    accuracies = [task.current.probe.accuracy(one_hot(genotype, BENCH)) for genotype in drawn]
    assert accuracy == max(accuracies)
    assert task.genotype() == drawn[accuracies.index(accuracy)]


def test_untrained_scores_are_of_the_cell_the_seed_and_the_repeat_alone():
    """The largest cell by `params` has the most parameters; another repeat sees other images."""
    task = trained(replace(RANDOM, discretizer=BestOfSamples(count=1)), BENCH)
    search, rng = task.current, random.Random(0)
    cells = [BENCH.sample(rng) for _ in range(3)]
    for cell in cells:
        first, again, other = (
            untrained_scores(search, cell, ["naswot", "params"], repeat) for repeat in (0, 0, 1)
        )
        assert first == again and first["params"] == other["params"]
        net = DerivedNet(cell, small_layout(search.supernet.layout, 8))
        assert first["params"] == pytest.approx(math.log(count_parameters(net)))
    scores = [untrained_scores(search, cells[0], ["naswot"], repeat)["naswot"] for repeat in (0, 1)]
    assert scores[0] != scores[1]


def test_the_table_is_asked_where_it_judges():
    task = trained(replace(RANDOM, discretizer=Evolution(count=30, judge=Known())), BENCH)
    texts = map(arch_string, itertools.product(*map(BENCH.cells["normal"].derivable, range(6))))
    accuracies = {text: float(text.count("nor_conv_3x3")) for text in texts}
    task.known = AccuracyTable(accuracies, {}, "accuracy")
    concluded(task)
    rng = random.Random(derive_seed(task.current.seed, "selection"))
    first = [BENCH.sample(rng).to_arch_string() for _ in range(10)]
    assert task.known.accuracy(task.genotype()) > max(accuracies[text] for text in first)


def test_without_a_selection_nothing_happens():
    task = trained(DARTS, SPACE)
    before = flat(task.current.supernet.parameters()).clone()
    assert concluded(task) == ({}, [])
    assert task.answer is None
    assert torch.equal(flat(task.current.supernet.parameters()), before)


def test_tuning_takes_the_steps_that_would_have_come_next():
    """By another route: the search's own weight step, one epoch later, at the tuning's rate."""
    tuned, searched = (trained(DARTS, SPACE, steps=3).current for _ in range(2))
    mixture = Softmax().expected(tuned.alphas)
    tune(tuned, mixture, lr=0.01, epoch=0, num_epochs=4)
    for group in searched.weight_step.optimizer.param_groups:
        group["lr"] = 0.01
    for step in range(3, 6):
        searched.step_weights(searched.data.weight_batches.batch(step), 0.0)
    assert torch.equal(flat(tuned.supernet.parameters()), flat(searched.supernet.parameters()))
    tune(tuned, mixture, lr=0.01, epoch=3, num_epochs=4)
    schedule = tuned.method.optimizer.schedule
    expected = schedule(0.01, epoch=3, num_epochs=4)
    assert tuned.weight_step.optimizer.param_groups[0]["lr"] == expected < 0.01


def test_random_search_with_weight_sharing_steps_no_alpha():
    task = task_of(RANDOM, space=BENCH)
    alphas, weights = (flat(m.parameters()).clone() for m in (task.alphas, task.supernet))
    metrics = task.train_step(at(task, 0))
    assert set(metrics) == {"train/loss", "train/accuracy"}
    assert torch.equal(flat(task.alphas.parameters()), alphas)
    assert not torch.equal(flat(task.supernet.parameters()), weights)
