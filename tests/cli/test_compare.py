"""`python -m darts_gdas.compare` on real runs and on wrong input."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from darts_gdas.cli.compare import main
from darts_gdas.report.runs import DEFAULT_DATASET, DEFAULT_METHOD
from darts_gdas.space import Genotype
from tests.cli.test_runs import ENVIRONMENT, ROOT, finish, start
from tests.report.test_runs import RESULT, make_run


@pytest.mark.slow
def test_a_sweep_of_real_searches_is_compared(tmp_path: Path):
    """Two random cells: each of its seed, none trained; a run that is cut is left out."""
    arguments = ("-m", "method=random", "space=nasbench201", "net.channels=2", "seed=1,2")
    out, _ = finish(start(tmp_path, "search.py", *arguments, "dataset.test_fraction=0.9"))
    (sweep,) = (tmp_path / "outputs" / "search").iterdir()
    assert "random     2" in out.split("Search finished")[-1]  # compared by itself, after the last
    assert {path.name for path in sweep.iterdir()} == {
        "0", "1", "multirun.yaml", "compare.csv", "compare_runs.csv", "report.html",
    }  # fmt: skip
    assert "2 runs" in (sweep / "report.html").read_text()
    cut = make_run(sweep / "2")
    (cut / "result.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "darts_gdas.compare", str(sweep)],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"warning: {str(cut)!r} is not finished; left out\n"
    (out,) = (tmp_path / "outputs" / "compare").iterdir()
    assert {path.name for path in out.iterdir()} == {
        "compare.csv", "compare_runs.csv", "report.html",
    }  # fmt: skip
    with open(out / "compare_runs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"]) for row in rows] == [("random", "1"), ("random", "2")]
    cells = [Genotype.load(Path(row["folder"])) for row in rows]
    assert cells[0] != cells[1]
    assert "random     2" in done.stdout and str(out / "report.html") in done.stdout.replace(
        "outputs/", f"{tmp_path}/outputs/"
    )


def test_the_same_run_named_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_run(tmp_path / "runs" / "0", "method=darts")
    out = tmp_path / "new" / "place"
    main([str(tmp_path / "runs"), str(tmp_path / "runs" / "0"), "--out", str(out)])
    table = capsys.readouterr().out
    assert "darts      1       90.00" in table
    assert {path.name for path in out.iterdir()} == {
        "compare.csv", "compare_runs.csv", "report.html",
    }  # fmt: skip


def test_a_sweep_over_cost_targets_shows_which_runs_nothing_beats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    found = {"0": (6000, 5900, 0.8), "1": (9000, 8000, 0.7), "2": (9000, 8500, 0.9)}
    for name, (target, parameters, accuracy) in found.items():
        make_run(
            tmp_path / "sweep" / name, f"penalties.cost.target={target}",
            result={"kind": "search", "metrics": {"validation/accuracy": accuracy},
                    "parameters": parameters},
            penalties={"cost": {"quantity": "parameters", "target": target}},
        )  # fmt: skip
    out = tmp_path / "out"
    main([str(tmp_path / "sweep"), "--out", str(out)])
    text = capsys.readouterr().out
    _, front = text.split("Pareto front of 3 runs: ")
    shown = [name for name in found if str(tmp_path / "sweep" / name) in front]
    assert shown == ["0", "2"] and f"page     {out / 'report.html'}" in front
    assert "What accuracy costs" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "is no folder; name run folders"),
        ("empty", "is no run folder and holds none"),
        ("damaged", "there is no finished search or retraining to compare"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
):
    (tmp_path / "empty").mkdir()
    (make_run(tmp_path / "damaged") / "result.json").write_text("{")
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path / name), "--out", str(tmp_path / "out")])
    *warnings, last = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and last.startswith("error: ") and message in last
    assert [line.split(":")[0] for line in warnings] == ["warning"] * (name == "damaged")
    assert not (tmp_path / "out").exists()


def test_the_defaults_are_those_of_the_configuration():
    defaults = yaml.safe_load((ROOT / "conf" / "search.yaml").read_text())["defaults"]
    assert {"method": DEFAULT_METHOD} in defaults and {"dataset": DEFAULT_DATASET} in defaults


@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_search_repeated_with_its_seed_is_said(tmp_path: Path, capsys, kind: str):
    for name in ("a", "b"):
        make_run(tmp_path / name, "method=darts", result=RESULT | {"kind": kind})
    main([str(tmp_path), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    both = f"warning: {tmp_path / 'a'}, {tmp_path / 'b'} have the same settings and seed "
    assert told.startswith(both) == (kind == "search") and told.count("\n") == (kind == "search")
