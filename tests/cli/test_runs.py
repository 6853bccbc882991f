"""Whole runs as a user starts them: search, look, retrain; interrupted and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from darts_gdas.report.record import read_record
from darts_gdas.report.verdict import verdict
from darts_gdas.runtime.datasets import Digits
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import load_model
from tests import tiny
from tests.pages import Page, assert_is_safe, curves, figures

ROOT = Path(__file__).parents[2]
TINY = (*tiny.TINY, "epochs=3")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def start(
    folder: Path, script: str, *arguments: str, before: Sequence[str] = (), **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *before, str(ROOT / script), *arguments],
        cwd=folder,
        env=ENVIRONMENT | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(
    process: subprocess.Popen[str], status: int = 0, *, seconds: float = 120
) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == status, err
    return out, err


def newest_state(folder: Path) -> dict:
    path = max((folder / "checkpoints").glob("*.pt"))
    return torch.load(path, weights_only=True)


def assert_same(a: object, b: object, where: str = "state") -> None:
    """Bit for bit, through nested containers."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where  # type: ignore[arg-type]
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where  # type: ignore[attr-defined]
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")  # type: ignore[index]
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where  # type: ignore[arg-type]
        for i, (x, y) in enumerate(zip(a, b, strict=True)):  # type: ignore[call-overload]
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def metrics_of(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    measured = ("seconds", "peak_memory_bytes")
    return [{k: v for k, v in json.loads(line).items() if k not in measured} for line in lines]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A finished search with default method; (working folder, stdout, stderr)."""
    folder = tmp_path_factory.mktemp("searched")
    return folder, *finish(start(folder, "search.py", *TINY))


def run_folder(working: Path, kind: str = "search") -> Path:
    (folder,) = (working / "outputs" / kind).iterdir()
    return folder


def test_a_search_leaves_all_that_was_promised(searched: tuple[Path, str, str]):
    folder = run_folder(searched[0])
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "cells.png", "cells.svg", "checkpoints", "config.yaml", "content.json", "genotype.json",
        "genotype_best.json", "lock", "metrics.jsonl", "overrides.yaml", "report.html",
        "result.json", "tensorboard",
    }  # fmt: skip
    genotype = Genotype.load(folder)
    result = json.loads((folder / "result.json").read_text())
    assert result["kind"] == "search" and result["genotype"] == json.loads(genotype.to_json())
    assert [line["epoch"] for line in metrics_of(folder)] == [0, 1, 2]


def test_the_genotype_is_that_of_the_last_checkpoints_alphas(searched: tuple[Path, str, str]):
    """Another route: derived by hand from the saved logits, after the last update."""
    folder = run_folder(searched[0])
    state = newest_state(folder)
    assert state["epoch"] == 3
    genotype = Genotype.load(folder)
    for kind, cell in genotype.cells.items():
        probabilities = state["task"]["arch"][f"logits.{kind}"].softmax(-1)
        for edges, row in zip(cell.nodes, (range(2), range(2, 5)), strict=True):
            best = {e: probabilities[e, 1:].max().item() for e in row}
            kept = sorted(sorted(row, key=lambda e: -best[e])[:2])
            assert [edge.source for edge in edges] == [e - row.start for e in kept]


def test_the_summary_names_result_and_next_command(searched: tuple[Path, str, str]):
    _, out, err = searched
    assert "Search finished" in out and "node 0 = " in out and "train.py genotype=" in out
    halves = re.search(r"images of 1 x 8 x 8 in 10 classes: (\d+) for the weights, (\d+) for", err)
    assert halves and sum(map(int, halves.groups())) == len(Digits(test_fraction=0.9).load()[0])
    assert "  3/3 " in err and "\r" not in err and "\x1b" not in err  # this is no terminal


def test_tensorboard_shows_the_alphas(searched: tuple[Path, str, str]):
    events = EventAccumulator(str(run_folder(searched[0]) / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    curves = [tag for tag in tags["scalars"] if tag.startswith("probability_normal/")]
    assert len(curves) == 5 * 8
    assert {
        "train/loss",
        "arch/loss",
        "validation/accuracy",
        "search/tau",
        "entropy/normal",
    } <= set(tags["scalars"])
    assert {"genotype", "alphas/normal", "alphas/reduce"} <= set(tags["images"])
    sums = sum(
        events.Scalars(tag)[-1].value for tag in curves if tag.startswith("probability_normal/0->1")
    )
    assert sums == pytest.approx(1.0, abs=1e-5)


def test_tensorboard_shows_the_end_of_a_run(searched: tuple[Path, str, str]):
    folder = run_folder(searched[0])
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    result = json.loads((folder / "result.json").read_text())
    (accuracy,) = events.Scalars("final/accuracy")
    assert accuracy.value == pytest.approx(100 * result["metrics"]["validation/accuracy"])
    assert accuracy.step == events.Scalars("train/loss")[-1].step
    assert len(events.Histograms("alphas_of_normal")) == 3
    names = {node.name for node in events.Graph().node}
    assert {"stem", "cell_02_reduce/output", "cell_03_reduce/node_1/sum", "classifier"} <= names
    assert events.PluginTagToContent("hparams")


def test_the_page_shows_the_run(searched: tuple[Path, str, str]):
    folder = run_folder(searched[0])
    html = (folder / "report.html").read_text()
    page, found = Page(html), figures(html)
    assert_is_safe(page)
    rows = metrics_of(folder)
    curve = curves(found["Loss"])[0]
    assert [y for _, y in curve] == pytest.approx([row["train/loss"] for row in rows], abs=0.01)
    assert len(found) >= 9  # how it went, and an edge of both kinds
    told = verdict(read_record(folder))
    assert told is not None and f"verdict        {told}" in searched[1]  # as in the terminal
    assert told.reason in page.text
    assert "finished after 3 epochs" in page.text and "peak memory" in page.text
    assert f"train.py genotype={folder.relative_to(searched[0])}" in page.text


def test_retraining_takes_the_newest_search_and_its_model_loads_back(
    searched: tuple[Path, str, str],
):
    folder = searched[0]
    out, err = finish(start(folder, "train.py", "epochs=2", "net.channels=2", "net.layers=3"))
    cell = f"the cell is {run_folder(folder).relative_to(folder)}/genotype.json, found by gdas"
    begin = err.split("epoch ")[0]  # the search had other images, fewer
    assert cell in begin and "on digits (test_fraction=0.9, seed=0): other data than" in begin
    run = run_folder(folder, "train")
    result = json.loads((run / "result.json").read_text())
    assert result["genotype"] == json.loads(Genotype.load(run_folder(folder)).to_json())
    assert f"{100 * result['test']['accuracy']:.2f} %" in out
    assert result["test"]["accuracy"] == pytest.approx(result["metrics"]["test/accuracy"])
    classes = result["classes"]
    assert classes["names"] == [*"0123456789"] and sum(classes["images"]) == 359
    right = sum(row[i] for i, row in enumerate(classes["confusion"]))
    assert right / 359 == pytest.approx(result["test"]["accuracy"])
    assert result["test"]["balanced_accuracy"] == pytest.approx(sum(classes["accuracy"]) / 10)
    assert metrics_of(run)[-1]["classes"]["confusion"] == classes["confusion"]
    trust = result["calibration"]
    assert sum(trust["images"]) == 359 and len(trust["images"]) == 15
    hits = [n * (a or 0) for n, a in zip(trust["images"], trust["accuracy"], strict=True)]
    assert sum(hits) == pytest.approx(right)
    assert f"calibration    {100 * trust['error']:.2f} % expected error" in out
    assert {f"mistakes/{path.name}" for path in (run / "mistakes").iterdir()} == {
        mistake["picture"] for mistake in result["mistakes"]
    }
    validation = metrics_of(run_folder(folder))[-1]["validation/accuracy"]
    assert result["search"]["accuracy"] == validation and not result["search"]["same_data"]
    page = Page((run / "report.html").read_text())
    assert_is_safe(page)
    assert page.count("img") == len(result["mistakes"])
    for section in ("Against the search", "Classes", "Calibration", "Worst mistakes"):
        assert section in page.words
    assert result["preparation"] == ["values 0 to 16 become 0 to 255"]
    model = load_model(run)
    assert model.net.genotype == Genotype.load(run_folder(folder))
    assert model.predict(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape == (3, 10)


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    searched: tuple[Path, str, str], tmp_path: Path, signum: signal.Signals
):
    """Stopped by hand in the middle of an epoch, or killed; the end is the same bit for bit."""
    process = start(tmp_path, "search.py", *TINY)
    assert process.stderr is not None
    seen = ""
    while "1/3 " not in seen:  # the first epoch is over and saved soon after
        seen += process.stderr.readline()
        assert process.poll() is None, seen
    folder = run_folder(tmp_path)
    deadline = time.monotonic() + 60
    while not list((folder / "checkpoints").glob("*.sha256")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signum)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[signum]
    _, err = finish(process, expected)
    if signum != signal.SIGKILL:
        assert f"search.py resume={folder.relative_to(tmp_path)}" in err.split("go on with: ")[1]

    finish(start(tmp_path, "search.py", "resume=auto"))
    whole = run_folder(searched[0])
    a, b = newest_state(folder), newest_state(whole)
    for state in (a, b):
        del state["seconds"]
    assert_same(a, b)
    assert metrics_of(folder) == metrics_of(whole)
    assert Genotype.load(folder) == Genotype.load(whole)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    for tag in events.Tags()["scalars"]:
        steps = [scalar.step for scalar in events.Scalars(tag)]
        assert steps == sorted(set(steps)) and len(steps) == (1 if "final/" in tag else 3)
    assert "finished after 3 epochs" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_an_interrupted_retraining_keeps_its_genotype(tmp_path: Path):
    arguments = ("genotype=DARTS_V1", "epochs=3", "net.channels=2", "net.layers=3")
    finish(start(tmp_path, "train.py", *arguments, "run_dir=whole"))
    process = start(tmp_path, "train.py", *arguments, "run_dir=parts")
    assert process.stderr is not None
    seen = ""
    while "1/3 " not in seen:
        seen += process.stderr.readline()
        assert process.poll() is None, seen
    process.send_signal(signal.SIGINT)
    finish(process, 130)
    finish(start(tmp_path, "train.py", "resume=parts"))
    a, b = newest_state(tmp_path / "parts"), newest_state(tmp_path / "whole")
    for state in (a, b):
        del state["seconds"]
    assert_same(a, b)
    out, _ = finish(start(tmp_path, "train.py", "run_dir=parts", "resume=auto"))
    assert "has finished already" in out


@pytest.mark.slow
def test_a_sweep_numbers_its_runs_below_one_folder(tmp_path: Path):
    finish(start(tmp_path, "search.py", "-m", *TINY, "epochs=1", "seed=1,2"))
    (sweep,) = (tmp_path / "outputs" / "search").iterdir()
    assert sweep.name.startswith("sweep_")
    runs = sorted(path.parent.name for path in sweep.glob("*/result.json"))
    assert runs == ["0", "1"]
    seeds = [(sweep / run / "config.yaml").read_text().count(f"\nseed: {i}\n")
             for i, run in enumerate(runs, start=1)]  # fmt: skip
    assert seeds == [1, 1]


@pytest.mark.slow
def test_nas_bench_201_is_searched_and_retrained_like_any_space(tmp_path: Path):
    small = ("epochs=1", "net.channels=2", "dataset.test_fraction=0.9")
    arguments = ("space=nasbench201", "method=darts", "run_dir=found", *small)
    out, _ = finish(start(tmp_path, "search.py", *arguments))
    genotype = Genotype.load(tmp_path / "found")
    assert Genotype.load(genotype.to_arch_string()) == genotype
    assert "output = node 2" in out
    arguments = (f"genotype='{genotype.to_arch_string()}'", "run_dir=trained", *small)
    finish(start(tmp_path, "train.py", *arguments))
    assert load_model(tmp_path / "trained").net.genotype == genotype
    for run in ("found", "trained"):
        assert_is_safe(Page((tmp_path / run / "report.html").read_text()))
