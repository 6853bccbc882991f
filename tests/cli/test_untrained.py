"""What works without training: warm starts, TE-NAS, ranking cells."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from darts_gdas.space import Genotype, SearchSpace
from tests.cli.test_runs import ENVIRONMENT, ROOT, finish, newest_state, start
from tests.oracles import all_arch_strings

SMALL = ("method=gdas", "net.channels=2", "dataset.test_fraction=0.9", "space=nasbench201")
NTK = (
    "warm_start=ntk",
    "warm_start.samples=10",
    "warm_start.channels=2",
    "warm_start.batch_size=4",
)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_warm_start_sets_the_first_alphas_and_shows_them(tmp_path: Path):
    run = tmp_path / "run"
    # So slow that the alphas stay where they began.
    slow = ("arch_optimizer.lr=1e-12", "arch_optimizer.weight_decay=0", "epochs=1")
    _out, err = finish(start(tmp_path, "search.py", *SMALL, *NTK, *slow, "run_dir=run"))
    assert "scoring cells: 10 of 10" in err
    table = rows(run / "warm_start.csv")
    alphas = newest_state(run)["task"]["arch"]["logits.normal"]
    said = torch.tensor([float(row["alpha"]) for row in table]).view(6, 5)
    torch.testing.assert_close(alphas, said, rtol=0, atol=1e-4)
    assert {row["drawn"] for row in table if row["candidate"] == "none"} == {"0"}
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert "warm_start/text_summary" in events.Tags()["tensors"]
    assert "warm_start/normal" in events.Tags()["images"]


@pytest.mark.slow
def test_an_interrupted_warm_start_goes_on(tmp_path: Path):
    command = (*SMALL, *NTK, "warm_start.samples=24", "epochs=1")
    finish(start(tmp_path, "search.py", *command, "run_dir=whole"))
    process = start(tmp_path, "search.py", *command, "run_dir=cut")
    assert process.stderr is not None
    while "scoring cells: 6 of 24" not in process.stderr.readline():
        pass
    os.kill(process.pid, signal.SIGINT)
    _, err = finish(process, status=130)
    again = f"python {ROOT / 'search.py'} resume=cut"
    assert f"what is measured is kept\ngo on with: {again}\n" in err
    finish(start(tmp_path, "search.py", "resume=cut"))
    files = ("warm_start.csv", "genotype.json")
    for whole, cut in ((tmp_path / "whole" / f, tmp_path / "cut" / f) for f in files):
        assert whole.read_bytes() == cut.read_bytes()


def test_settings_without_effect_are_warned_of_once(
    run, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    small = ("net.channels=2", "net.layers=3", "dataset.test_fraction=0.9", "method=random")
    status, _, _ = run("search.py", *small, "arch_optimizer.lr=0.1", "run_dir=run")
    told = "epochs=0 takes no step, so what has no effect is arch_optimizer.lr=0.1"
    assert status == 0
    assert [r.getMessage() for r in caplog.records].count(told) == 1
    assert told in json.loads((tmp_path / "run" / "result.json").read_text())["warnings"]


@pytest.mark.slow
def test_te_nas_finds_a_cell_without_training(tmp_path: Path):
    small = ("warm_start.repeats=1", "warm_start.batch_size=4", "warm_start.region_samples=20")
    out, _ = finish(start(tmp_path, "search.py", *SMALL, "method=te_nas", *small, "run_dir=run"))
    assert "nothing was trained" in out
    cell = Genotype.load(tmp_path / "run").to_arch_string()
    assert "none" not in cell
    assert json.loads((tmp_path / "run" / "result.json").read_text())["kind"] == "search"
    chosen = {row["edge"]: row for row in rows(tmp_path / "run" / "warm_start.csv")}
    assert len(chosen) == 6


def test_a_search_says_what_its_cell_is_known_to_reach(run, tmp_path: Path):
    names = ("skip_connect", "nor_conv_1x1")
    known = {cell: 30.0 + i for i, cell in enumerate(all_arch_strings(names))}
    lines = ["arch,test", *(f"{cell},{accuracy}" for cell, accuracy in known.items())]
    (tmp_path / "known.csv").write_text("\n".join(lines) + "\n")
    search = (*SMALL, "epochs=1", "benchmark=known.csv", "run_dir=run")
    status, out, _ = run("search.py", *search, f"space.candidates=[{','.join(names)}]")
    assert status == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    found = known[Genotype.load(tmp_path / "run" / "genotype.json").to_arch_string()]
    share = 100 * sum(accuracy <= found for accuracy in known.values()) / len(known)
    assert result["benchmark"] == {
        "column": "test",
        "index": None,
        "accuracy": found,
        "regret": max(known.values()) - found,
        "percentile": share,
    }
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["benchmark/accuracy"] == found
    assert f"{found:.2f} % (test)" in out


SCORING = (
    "space=nasbench201",
    "count=6",
    "channels=2",
    "batch_size=4",
    "dataset.test_fraction=0.9",
)


def score(folder: Path, *arguments: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "darts_gdas.score", *arguments]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_spellings_of_one_network_have_one_score_and_cut_cells_are_named(
    run, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """In one ranking and, with the same seed, in two that hold different spellings."""
    one = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
    two = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|"
    cut = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    other = "|avg_pool_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|nor_conv_1x1~2|"
    found = []
    for name, cells in {"both": (one, two, cut, other), "last": (two, cut, other)}.items():
        (tmp_path / name).write_text("\n".join(cells) + "\n")
        shape = (f"cells={name}", "scores=[ntk_condition,synflow]", f"run_dir=run_{name}")
        caplog.clear()
        status, _, err = run("darts_gdas/score.py", *SCORING[2:], *shape)
        assert status == 0
        table = rows(tmp_path / f"run_{name}" / "scores.csv")
        assert {row["cell"] for row in table} == {cells[0], cut, other}
        found += [
            (row["ntk_condition"], row["synflow"], row["rank sum"])
            for row in table
            if row["cell"] == cells[0]
        ]
        assert {row["cell"] for row in table if row["remark"] == "disconnected"} == {cut}
        result = json.loads((tmp_path / f"run_{name}" / "result.json").read_text())
        assert result["disconnected"] == [cut]
        assert "scoring 3 cells in" in err
        assert result["warnings"] == [AGAIN] * (name == "both")
        assert set(result["warnings"]) <= set(caplog.messages)
    assert len(found) == 2 and len(set(found)) == 1


AGAIN = (
    "1 of 4 cells are the networks of earlier ones (cell 2 is cell 1); each is measured and ranked "
    "once, as the earlier"
)


def test_a_file_of_fewer_than_three_networks_is_refused_in_one_line(run, tmp_path: Path):
    """Two spellings of one are one: nothing is left to rank."""
    one = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"
    two = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|"
    (tmp_path / "cells").write_text("\n".join((one, two, one.replace("3x3", "1x1"))))
    status, out, err = run(
        "darts_gdas/score.py", *SCORING, "cells=cells", "device=cpu", "run_dir=run"
    )
    assert status == 2 and out == ""
    assert "cells=cells must hold at least 3 cells, no two of them one network, got 2" in err


@pytest.mark.slow
def test_cells_are_ranked_against_known_accuracies_and_a_cut_run_goes_on(tmp_path: Path):
    space = SearchSpace.named("nasbench201")
    rng = random.Random(0)
    cells = [space.sample(rng).to_arch_string() for _ in range(6)]
    lines = [f"{cell},{50 + i}" for i, cell in enumerate(cells)]
    (tmp_path / "known.csv").write_text("\n".join(["arch,test", *lines]) + "\n")
    out, _ = score(
        tmp_path, *SCORING, "scores=[params,naswot]", "benchmark=known.csv", "run_dir=run"
    )
    assert "Kendall tau" in out and "rank sum" in out
    table = rows(tmp_path / "run" / "scores.csv")
    assert {row["cell"]: float(row["accuracy"]) for row in table} == {
        cell: 50.0 + i for i, cell in enumerate(cells)
    }
    totals = [float(row["rank sum"]) for row in table]
    assert totals == sorted(totals, reverse=True)
    assert "Best cells" in (tmp_path / "run" / "report.html").read_text()

    run = tmp_path / "run"
    whole, book = (run / "scores.csv").read_text(), (run / "scores.jsonl").read_text()
    (run / "result.json").unlink()
    (run / "scores.jsonl").write_text(book[: len(book) // 2])
    score(tmp_path, "resume=run")
    assert (run / "scores.csv").read_text() == whole
    assert (run / "scores.jsonl").read_text() == book


ALIKE = "space.candidates=[skip_connect,avg_pool_3x3]"
"""Cells without a weight: the number of parameters tells none from another."""


def test_a_ranking_names_a_score_that_says_nothing_and_leaves_it_out(
    run, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    small = (*SCORING, ALIKE, "scores=[params,naswot]", "run_dir=run")
    status, out, _ = run("darts_gdas/score.py", *small)
    assert status == 0
    (told,) = [m for m in caplog.messages if "this score is left out of the ranks" in m]
    assert told.startswith("params is ") and told in out
    assert "ranked by naswot" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["scores"] == ["naswot"] and result["warnings"] == [told]
    assert told in (tmp_path / "run" / "report.html").read_text()
    table = rows(tmp_path / "run" / "scores.csv")
    assert [float(row["rank sum"]) for row in table] == [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]


def test_a_warm_start_without_a_score_that_tells_ends_in_one_line(run, tmp_path: Path):
    warm = (*NTK, "warm_start.scores=[params]", ALIKE)
    status, out, err = run("search.py", *SMALL, *warm, "device=cpu", "run_dir=run")
    assert status == 1 and out == ""
    last = err.splitlines()[-1]
    assert last.startswith("error: no score tells the drawn cells apart: params is ")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_search_keeps_what_its_warm_start_warned_of(run, tmp_path: Path):
    warm = (*NTK, "warm_start.scores=[params,naswot]", ALIKE, "epochs=1", "run_dir=run")
    assert run("search.py", *SMALL, *warm)[0] == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    (told,) = [text for text in result["warnings"] if "left out of the ranks" in text]
    assert told.startswith("params is ") and " for each of the drawn cells; " in told
