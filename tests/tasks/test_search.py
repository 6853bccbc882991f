"""Stages: each a whole search over what the one before left, together one resumable run."""

import io
import itertools
import math
import os
import signal
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.report.verdict import CLOSE_TO_RANDOM
from darts_gdas.runtime.distributed import ALONE
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.loop import Loop
from darts_gdas.runtime.optim import SGD
from darts_gdas.runtime.signals import Interrupted, StopRequest
from darts_gdas.runtime.task import Callback, Progress
from darts_gdas.runtime.terminal import PhaseLine, Terminal, Verbosity
from darts_gdas.runtime.work import Work
from darts_gdas.search import GumbelHard, PerturbationSelection
from darts_gdas.search.diagnostics import is_undecided
from darts_gdas.space import Edge, Genotype, SearchSpace
from darts_gdas.tasks.conclusion import conclude
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.initial import choose_learning_rate
from darts_gdas.tasks.method import DECAY, Method, Stage
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.stage import StageSearch
from tests.cli.test_runs import assert_same
from tests.tasks.test_stage import DARTS, GDAS, at, flat, task_of

SPACE = SearchSpace.darts(
    num_nodes=1, candidates=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
)
STAGES = (
    Stage(epochs=2, arch_warmup_epochs=1),
    Stage(epochs=2, candidates=3, arch_warmup_epochs=1, skip_dropout=0.5),
    Stage(epochs=1, candidates=2, skip_dropout=0.2),
)
CHECKPOINTS = Path(__file__).parent / "checkpoints"
STEPS = 3  # of an epoch; see `task_of`


def staged(
    method: Method = DARTS, stages: tuple[Stage, ...] = STAGES, space: SearchSpace = SPACE
) -> SearchTask:
    def build(index: int, space: SearchSpace) -> StageSearch:
        stage = stages[index]
        of_stage = replace(method, arch_warmup_epochs=stage.arch_warmup_epochs)
        return task_of(of_stage, seed=index, space=space, num_epochs=stage.epochs)

    return SearchTask(space, stages, build)


def plain(
    method: Method = DARTS,
    *,
    space: SearchSpace = SPACE,
    num_epochs: int = 2,
    diagnostics: Diagnostics | None = None,
) -> SearchTask:
    def build(index: int, space: SearchSpace) -> StageSearch:
        return task_of(method, space=space, num_epochs=num_epochs, diagnostics=diagnostics)

    return SearchTask(space, (Stage(num_epochs),), build)


def progress(task: SearchTask, epoch: int, step: int = 0) -> Progress:
    return Progress(epoch, task.num_epochs, step, task.steps_per_epoch)


def train(task: SearchTask, epochs: range) -> None:
    for epoch in epochs:
        for step in range(STEPS):
            task.train_step(progress(task, epoch, step))


class StopAfter(Callback):
    """Asks for an end, as Ctrl-C does, after so many steps of the run."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step(self, progress: Progress, meter: object) -> None:
        if progress.global_step == self.steps:
            os.kill(os.getpid(), signal.SIGINT)


def loop_in(folder: Path, *callbacks: Callback) -> Loop:
    folder.mkdir(exist_ok=True)
    run = RunFolder(folder)
    run.create()
    return Loop(run, kind="search", fingerprint="", callbacks=callbacks, device=torch.device("cpu"))


def newest(loop: Loop) -> dict:
    found = loop.checkpoints.newest()
    assert found is not None
    return {key: value for key, value in found[1].items() if key != "seconds"}


@pytest.mark.parametrize("method", [DARTS, GDAS], ids=["darts", "gdas"])
def test_one_stage_is_the_plain_search_bit_for_bit(method: Method, tmp_path: Path):
    """A search of one stage in the loop, and by another route its steps one after the other."""
    task, alone = plain(method), task_of(method, space=SPACE)
    loop = loop_in(tmp_path / "loop")
    metrics = loop.run(task)
    evaluated = {}
    for step in range(2 * STEPS):
        alone.train_step(at(alone, step))
        if (step + 1) % STEPS == 0:
            evaluated = alone.evaluate(at(alone, step))
    assert_same(newest(loop)["task"], alone.state_dict())
    assert metrics.items() >= evaluated.items() and "search/stage" not in metrics
    assert task.genotype() == alone.genotype()


def files_of(name: str) -> dict:
    """A state that the version before `SearchTask` had stages wrote, and what followed it."""
    with zipfile.ZipFile(CHECKPOINTS / f"{name}.zip") as archive:
        return {
            part: torch.load(io.BytesIO(archive.read(part)), weights_only=True)
            for part in archive.namelist()
        }


@pytest.mark.parametrize(
    ("name", "steps"), [("plain", range(4, 6)), ("staged", range(10, 13))], ids=["plain", "staged"]
)
def test_an_older_checkpoint_loads_and_goes_on_as_it_did(name: str, steps: range):
    """Written by 530ecb4: after four steps of GDAS, and in the second epoch of a second stage."""
    files, task = files_of(name), {"plain": plain, "staged": staged}[name](GDAS)
    task.load_state_dict(files["before"])
    now, then = task.state_dict(), files["before"]
    monitors = [part.get("search", part).pop("monitor") for part in (now, then)]
    assert_same(now, then)
    assert monitors[1]["warning"] == "" and monitors[0]["warnings"] == {}
    assert task.index == (0 if name == "plain" else 1)
    for step in steps:
        task.train_step(progress(task, *divmod(step, STEPS)))
    state, expected = task.state_dict(), files["after"]["state"]
    if name == "staged":
        assert (state["stage"], state["candidates"]) == (2, expected["candidates"])
        state, expected = state["search"], expected["search"]
    for part in ("arch", "supernet"):  # other machines and libraries round differently
        for key, value in expected[part].items():
            assert_close(state[part][key], value, rtol=1e-3, atol=1e-5)
    assert torch.equal(state["noise"], expected["noise"])
    metrics = task.evaluate(progress(task, *divmod(steps[-1], STEPS)))
    del metrics["validation/balanced_accuracy"]  # new since
    assert metrics.keys() == files["after"]["metrics"].keys()
    assert metrics == pytest.approx(files["after"]["metrics"], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("steps", [2 * STEPS, 2 * STEPS + 4])
def test_stopped_in_any_stage_and_resumed_equals_undisturbed(steps: int, tmp_path: Path):
    """At a boundary and in the middle of a later one; GDAS has noise, that stage has dropout."""
    whole = loop_in(tmp_path / "whole")
    metrics = whole.run(staged(GDAS))
    parts = loop_in(tmp_path / "parts", StopAfter(steps))
    with pytest.raises(Interrupted):
        parts.run(staged(GDAS))
    resumed, task = loop_in(tmp_path / "parts"), staged(GDAS)
    resumed.load(task, newest(parts) | {"seconds": 0.0})
    assert resumed.run(task) == metrics
    assert_same(newest(whole), newest(resumed))


def test_every_edge_keeps_what_was_most_probable_when_its_stage_ended():
    task = staged()
    train(task, range(2))
    logits = {kind: rows.detach().clone() for kind, rows in task.current.alphas.logits.items()}
    assert task.current.space == SPACE  # all that follows the epoch still sees its stage
    task.train_step(progress(task, 2))
    for kind, cell in SPACE.cells.items():
        left = task.current.space.cells[kind].candidates
        for edge, names in enumerate(cell.candidates):
            weakest = logits[kind][edge].argmin().item()  # one of four leaves
            assert left[edge] == tuple(n for i, n in enumerate(names) if i != weakest)
    train(task, range(2, 5))
    assert {len(row) for c in task.current.space.cells.values() for row in c.candidates} == {2}


def test_each_stage_begins_anew_and_has_a_progress_of_its_own():
    """Warm-up, learning rate and temperature; weights and alphas are new, data goes on."""
    task = staged(GDAS)
    temperatures, rates, moved = [], [], []
    for epoch in range(task.num_epochs):
        task.train_step(progress(task, epoch))
        alphas = flat(task.current.alphas.parameters())
        task.train_step(progress(task, epoch, 1))
        moved.append(not torch.equal(alphas, flat(task.current.alphas.parameters())))
        metrics = task.evaluate(progress(task, epoch, STEPS))
        temperatures.append(metrics["search/tau"])
        rates.append(metrics["search/learning_rate"])
        assert metrics["search/stage"] == 1 + epoch // 2
    assert moved == [False, True, False, True, True]
    tau = GumbelHard().tau
    assert temperatures == pytest.approx([tau.start, tau.end, tau.start, tau.end, tau.start])
    assert rates[0] == rates[2] == rates[4] > rates[1] == rates[3]


def test_the_rate_falls_linearly_then_begins_anew_and_falls_exponentially():
    stage = Stage(epochs=25, arch_warmup_epochs=10, skip_dropout=0.7)
    rates = [stage.dropout_rate(epoch) for epoch in range(25)]
    assert_close(torch.tensor(rates[:10]), 0.7 * torch.arange(24, 14, -1) / 25)
    assert rates[10] == 0.7
    ratios = [b / a for a, b in itertools.pairwise(rates[10:])]
    assert ratios == pytest.approx([math.exp(-DECAY)] * 14)
    assert {Stage(epochs=9).dropout_rate(epoch) for epoch in range(9)} == {0.0}


def test_dropout_is_there_in_steps_and_in_steps_alone(monkeypatch: pytest.MonkeyPatch):
    task, seen = staged(), []
    original = StageSearch.train_step

    def watched(self: StageSearch, progress: Progress):
        seen.append(self.supernet.skip_dropout)
        return original(self, progress)

    monkeypatch.setattr(StageSearch, "train_step", watched)
    train(task, range(5))
    assert seen[: 2 * STEPS] == [None] * 2 * STEPS
    masks = seen[2 * STEPS :]
    expected = [
        stage.dropout_rate(e) for stage, e in ((STAGES[1], 0), (STAGES[1], 1), (STAGES[2], 0))
    ]
    assert [mask.rate for mask in masks] == [rate for rate in expected for _ in range(STEPS)]
    assert len({mask.seed for mask in masks}) == len(masks)
    assert task.current.supernet.skip_dropout is None
    assert task.evaluate(progress(task, 4, STEPS))["search/skip_dropout"] == expected[-1]


def test_the_view_keeps_all_columns_and_gives_weight_to_what_is_left_alone():
    task = staged()
    train(task, range(4))
    view, narrow = task.view(), task.current.view(task.genotype(), task.current.space)
    assert view.space == SPACE and view.genotype == task.genotype() == narrow.genotype
    for kind, cell in SPACE.cells.items():
        left = narrow.space.cells[kind].candidates
        for edge, names in enumerate(cell.candidates):
            row = dict(zip(names, view.probabilities[kind][edge], strict=True))
            assert {name for name, value in row.items() if value > 0} == set(left[edge])
            for name, value in zip(left[edge], narrow.probabilities[kind][edge], strict=False):
                assert row[name] == value
            assert sum(row.values()) == pytest.approx(1.0)
            alphas = dict(zip(names, view.alphas[kind][edge], strict=True))
            assert {name for name, value in alphas.items() if value == value} == set(left[edge])


def test_a_warning_is_told_once_per_run_with_the_epoch_of_the_run():
    task = staged()
    train(task, range(2))
    task.current.monitor.warn("normal cell", "epoch 2: told")
    train(task, range(2, 3))
    monitor = task.current.monitor
    assert monitor.warnings == {"normal cell": "epoch 2: told"} and monitor.epochs_before == 2
    monitor._collapsed_since = dict.fromkeys(monitor.space.cells, -5)
    cells = {
        kind: replace(
            cell,
            nodes=tuple(tuple(Edge("skip_connect", e.source) for e in node) for node in cell.nodes),
        )
        for kind, cell in task.genotype().cells.items()
    }
    monitor._judge_cells(1, Genotype(cells), task.current.expected())
    assert monitor.warnings["normal cell"] == "epoch 2: told"
    assert monitor.warnings["reduce cell"].startswith("epoch 4: the search is collapsing")


def test_cells_of_every_stage_are_judged_in_the_space_of_the_first():
    """Of four candidates two are left, with level alphas: that is no random cell."""
    task = staged()
    train(task, range(5))
    monitor = task.current.monitor
    assert monitor.whole == SPACE != monitor.space
    assert is_undecided(task.current.expected(), monitor.space)
    assert not any(CLOSE_TO_RANDOM in text for text in task.warnings())


def test_a_rate_that_is_to_be_measured_is_measured_in_every_stage():
    task = staged(replace(DARTS, optimizer=SGD(lr="auto")))
    assert choose_learning_rate(task.current) is not None
    first = task.current.learning_rate
    train(task, range(2))
    task.train_step(progress(task, 2))
    assert task.current.learning_rate not in (0.0, first)


def test_a_selection_asks_the_last_stage():
    task = staged(replace(DARTS, discretizer=PerturbationSelection(tune_epochs=0)))
    train(task, range(5))
    work = Work(PhaseLine(Terminal(Verbosity.quiet)), StopRequest(), ALONE, str)
    assert "search/selected_accuracy" in conclude(task, work, lambda state: Journal(None, state))
    for kind, cell in task.current.space.cells.items():
        for node, edges in enumerate(task.genotype().cells[kind].nodes):
            for edge in edges:
                assert edge.op in cell.candidates[cell.edges.index((node, edge.source))]
