"""Studies of Optuna: their runs, their end, and what goes on after an interruption."""

import json
import os
import re
import shlex
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from darts_gdas.cli.plan import Plan
from darts_gdas.cli.tune import _follow, main
from darts_gdas.reasons import installing
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.signals import StopRequest
from tests.sweepers.environments import ROOT, SHORT, finish, python_with, start

sweepers = pytest.mark.sweepers
pytestmark = pytest.mark.timeout(1800)
RATE = "optimizer.lr=tag(log, interval(0.01,0.1))"
PAGE = ROOT / "docs" / "tune.md"


@pytest.fixture
def python() -> str:
    return python_with("optuna")


def tiny(*said: str) -> tuple[str, ...]:
    """Settings, with those of a short run beside them that they do not name."""
    names = {word.split("=")[0] for word in said}
    return (*(word for word in SHORT if word.split("=")[0] not in names), *said)


def tune(python: str, folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    return finish(start(folder, python, "-m", "darts_gdas.tune", "study", *arguments), status)


def trials(folder: Path) -> list[tuple[str, float | None]]:
    """State and first value of all trials that had a run, out of the file itself."""
    with sqlite3.connect(folder / "study" / "study.db") as file:
        query = (
            "select state, value from trials left join trial_values using (trial_id) "
            "where (objective = 0 or objective is null) and trial_id in "
            "(select trial_id from trial_user_attributes where key = 'run') order by number"
        )
        return [tuple(row) for row in file.execute(query)]


def result(folder: Path, run: str) -> dict:
    return json.loads((folder / "study" / run / "result.json").read_text())


@sweepers
def test_a_study_that_was_interrupted_goes_on_to_the_same_number_of_runs(
    python: str, tmp_path: Path
):
    """Killed in its second trial, whose run goes on; then stopped by a signal; then to the end."""
    command = ("--trials", "4", *tiny("epochs=4", RATE))
    process = start(tmp_path, python, "-m", "darts_gdas.tune", "study", *command)
    metrics = tmp_path / "study" / "0001" / "metrics.jsonl"
    while not metrics.exists() and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60  # the run was not killed; it ends by itself
    while not (metrics.parent / "result.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    process = start(tmp_path, python, "-m", "darts_gdas.tune", "study", *command)
    while not (tmp_path / "study" / "0002" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, status=128 + signal.SIGTERM)
    assert err.endswith("stopped in run 0002, which is kept\ngo on with: the same command\n")
    out, _ = tune(python, tmp_path, *command)
    runs = [p.parent.name for p in sorted((tmp_path / "study").glob("*/result.json"))]
    assert runs == ["0000", "0001", "0002", "0003"]
    ended = [value for state, value in trials(tmp_path) if state == "COMPLETE"]
    accuracies = [result(tmp_path, run)["metrics"]["validation/accuracy"] for run in runs]
    assert sorted(ended) == sorted(accuracies)
    page = (tmp_path / "study" / "report.html").read_text()
    assert f"{max(accuracies):.6g}" in out and f"validation_accuracy {max(accuracies):.4g}" in page
    assert "optimizer.lr: 0.01 to 0.1, even over orders of magnitude" in page
    assert "Study of optimizer.lr: 4 trials" in page and "study.db: 4 complete\n" in out
    again, _ = tune(python, tmp_path, *command)  # nothing is left to do
    assert again.strip().splitlines() == out[out.index("study/study.db") :].strip().splitlines()
    _, err = tune(python, tmp_path, *command, "seed=3", status=2)
    assert "study was begun without seed=3; pass the same settings, or" in err
    with open("/dev/full", "w") as full:  # one more trial, of which nobody can be told
        arguments = ("-m", "darts_gdas.tune", "study", *command, "--trials", "5")
        process = start(tmp_path, python, *arguments, stdout=full.fileno())
        _, err = finish(process, status=1)
    assert err.startswith("error: standard output takes nothing") and err.count("\n") == 1
    assert [state for state, _ in trials(tmp_path)].count("COMPLETE") == 5
    assert sum(json.loads((tmp_path / "study/study.json").read_text())["counts"].values()) == 5


@sweepers
def test_a_run_below_the_median_is_pruned_and_ends_cleanly(python: str, tmp_path: Path):
    """A rate of next to nothing learns nothing."""
    rates = ("optimizer.lr=choice(0.1,0.000001)", "seed=range(0,4)", "epochs=12")
    tune(python, tmp_path, "--trials", "7", "--startup", "2", *tiny(*rates))
    states = [state for state, _ in trials(tmp_path)]
    assert set(states) == {"COMPLETE", "PRUNED"}
    for number, state in enumerate(states):
        run = tmp_path / "study" / f"{number:04d}"
        said = (run / "output.txt").read_text()
        assert (run / "result.json").exists() == (state == "COMPLETE")
        if state == "PRUNED":
            assert re.search(r"stopped in epoch \d+ .* the state is saved\ngo on with: ", said)
            assert list((run / "checkpoints").glob("*.pt"))


@sweepers
def test_several_objectives_give_the_front_and_a_failed_run_is_a_failed_trial(
    python: str, tmp_path: Path
):
    what = ("objective=[validation_accuracy,multiply_adds]", "net.channels=choice(2,4)")
    words = tiny(*what, "optimizer.lr=choice(0.05,1e20)")
    out, err = tune(python, tmp_path, "--trials", "4", *words)
    runs = sorted(p.parent.name for p in (tmp_path / "study").glob("*/result.json"))
    found = {r: result(tmp_path, r) for r in runs}
    pairs = {r: (f["metrics"]["validation/accuracy"], f["multiply_adds"]) for r, f in found.items()}
    front = {
        r for r, (a, m) in pairs.items()
        if not any(b >= a and n <= m and (b, n) != (a, m) for b, n in pairs.values())
    }  # fmt: skip
    told = set(re.findall(r"^\d\S+ +\S+ +(\d{4}) ", out, re.MULTILINE))
    assert "the front: no trial is better in all" in out and told == front
    failed = 4 - len(runs)
    assert err.count("failed with status 1") == failed
    assert [s for s, _ in trials(tmp_path)].count("FAIL") == failed


@sweepers
def test_bad_input_is_one_line_before_any_run(python: str, tmp_path: Path):
    for arguments, told in (
        ((*SHORT,), "nothing is varied: give at least one setting a range"),
        ((RATE, "objective=x"), "objective=x must be one, or a list of different ones, of"),
        (
            ("method=choice(gdas,gdass)",),
            "method=gdass is not known; did you mean gdas? choose one of",
        ),
        (("optimizer.lr=interval(-1,0.1)",), "optimizer.lr must be"),
        ((RATE, "run_dir=here"), "run_dir=here: the runs of a study lie below its folder"),
        ((RATE, "--trials", "0"), "--trials must be at least 1, got 0"),
    ):
        _, err = tune(python, tmp_path, *arguments, status=2)
        assert told in err and err.count("\n") == 1
    assert not (tmp_path / "study").exists()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.db").write_bytes(b"no database" * 500)
    _, err = tune(python, tmp_path, RATE, status=2)
    assert "study/study.db cannot be read as a study: " in err and err.count("\n") == 1
    assert (tmp_path / "study" / "study.db").read_bytes() == b"no database" * 500


RANGES = {
    "optimizer.lr=interval(0.02,0.01)": "optimizer.lr=interval(0.02,0.01): `low <= high` must hold",
    "optimizer.lr=tag(log,interval(0,0.01))": "tag(log,interval(0,0.01)): `low > 0` must hold for",
    "optimizer.lr=tag(lg,interval(0,0.01))": "the tag of a range must be log, got lg",
    "net.channels=range(4,4)": "net.channels=range(4,4): there is no such value",
    "batch_size=interval(16,32)": "batch_size takes whole numbers: batch_size=range(16,33)",
    "method=interval(1,2)": "method=1.0: ",
    "net.channels=range(8,1,-2)": "IntDistribution(high=8, log=False, low=2, step=2)",
}


@sweepers
def test_a_range_that_cannot_be_names_its_setting_and_one_may_count_down(
    python: str, tmp_path: Path
):
    code = (
        "import sys\nfrom darts_gdas.cli.plan import Plan\nfor typed in sys.argv[1:]:\n"
        "    try: print(Plan.of('search', [typed]).space)\n"
        "    except ValueError as error: print(error)"
    )
    out, _ = finish(start(tmp_path, python, "-c", code, *RANGES))
    for line, told in zip(out.splitlines(), RANGES.values(), strict=True):
        assert told in line


class Running:
    """A process that goes on until it is asked to end; a trial that is below the median."""

    params: Mapping[str, str] = {"epochs": "1"}
    returncode = None

    def __init__(self, patience: int = 3) -> None:
        self.looks, self.signals, self.told = patience, [], []

    def wait(self, timeout: float) -> None:
        self.looks -= 1

    def poll(self) -> int | None:
        return 0 if self.looks <= 0 or self.signals else None

    def send_signal(self, signum: int) -> None:
        self.signals.append(signum)

    def report(self, value: float, step: int) -> None:
        self.told.append((value, step))

    def should_prune(self) -> bool:
        return True


@pytest.mark.parametrize(("varied", "is_pruned"), [("epochs=1", False), ("method=darts", True)])
def test_a_run_is_pruned_before_its_own_last_epoch_alone(
    varied: str, is_pruned: bool, tmp_path: Path
):
    """Epochs may be what varies, or be those of a method that does."""
    plan = Plan("search", ("dataset=digits",), {}, ("validation_accuracy",))
    running, folder = Running(), RunFolder(tmp_path)
    name, _, value = varied.partition("=")
    running.params = {name: value}
    assert (plan.num_epochs(running.params) > 1) is is_pruned
    folder.metrics.write_text('{"epoch": 0, "validation/accuracy": 0.25}\n')
    with StopRequest("") as request:
        found = _follow(running, running, folder, plan, request, prunes=True)  # type: ignore[arg-type]
    assert found is is_pruned and running.told == [(0.25, 0)]
    assert running.signals == [signal.SIGTERM] * is_pruned


@sweepers
def test_what_needs_no_runs_holds_where_optuna_is(python: str):
    """The tests of studies in memory, which are skipped without Optuna."""
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sweepers/test_trials.py")
    out, _ = finish(start(ROOT, python, *tests))
    assert re.search(r"\d+ passed", out) and "skipped" not in out


@sweepers
def test_the_commands_of_the_page_run(python: str, tmp_path: Path):
    """With tiny sizes, and two trials each."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    studies = [shlex.split(line)[3:] for line in lines if "-m darts_gdas.tune " in line]
    assert len(studies) >= 3
    for folder, *arguments in studies:
        names = {word.split("=")[0] for word in arguments if "=" in word}
        small = [word for word in SHORT if word.split("=")[0] not in names | {"epochs"}]
        few = [re.sub(r"^epochs=.*", "epochs=1", word) for word in arguments]
        few = [
            "2" if before == "--trials" else w for before, w in zip(["", *few], few, strict=False)
        ]
        if "--program" in arguments:
            small = ["net.channels=2", "net.layers=3", "dataset.test_fraction=0.9"]
        finish(start(tmp_path, python, "-m", "darts_gdas.tune", folder, *few, *small))
        assert (tmp_path / folder / "report.html").exists()
    sweeper = python_with("hydra-optuna-sweeper")
    (line,) = (line for line in lines if "hydra/sweeper=optuna" in line)
    words = re.sub(r"n_trials=\d+", "n_trials=2", re.sub(r"epochs=\d+", "epochs=1", line))
    finish(start(tmp_path, sweeper, str(ROOT / "search.py"), *shlex.split(words)[2:], *SHORT[1:-2]))


@pytest.mark.parametrize("varied", ["objective=seconds,parameters", "objective=choice(seconds)"])
def test_what_trials_are_judged_by_cannot_vary(varied: str):
    names = "seconds,parameters" if "," in varied else "seconds"
    with pytest.raises(ValueError, match=rf"cannot vary; .* are a list: objective=\[{names}\]$"):
        Plan.of("search", [RATE, varied])


def test_without_optuna_it_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["study", RATE])
    assert stop.value.code == 2 and not os.listdir(tmp_path)
    assert f"error: tune needs optuna: {installing('tune')}\n" in capsys.readouterr().err
