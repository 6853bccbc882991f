"""Hydra's Optuna sweeper gets what a run has reached; a failed run is a failed trial."""

import json
from pathlib import Path

import pytest
import yaml

from tests.sweepers.environments import ROOT, SHORT, finish, python_with, start

pytestmark = [pytest.mark.sweepers, pytest.mark.timeout(1800)]
OPTUNA = ("-m", "hydra/sweeper=optuna", "hydra.sweep.dir=sweep")


@pytest.fixture
def python() -> str:
    return python_with("hydra-optuna-sweeper")


def search(python: str, folder: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    command = (str(ROOT / "search.py"), *OPTUNA, *SHORT, *arguments)
    return finish(start(folder, python, *command), status)


def results(folder: Path) -> dict[str, dict]:
    found = {path.parent.name: path for path in folder.glob("sweep/*/result.json")}
    return {name: json.loads(path.read_text()) for name, path in found.items()}


def test_the_best_value_of_twelve_trials_is_the_best_runs_accuracy(python: str, tmp_path: Path):
    """A third of the rates is far too large; those runs diverge and are failed trials, not 0."""
    rates = "optimizer.lr=choice(0.02,0.05,1e20)"
    sweeper = ("hydra.sweeper.n_trials=12", "hydra.sweeper.direction=maximize",
               "hydra.sweeper.max_failure_rate=1")  # fmt: skip
    study = ("hydra.sweeper.study_name=s", "hydra.sweeper.storage=sqlite:///study.db")
    _, err = search(python, tmp_path, *sweeper, *study, rates, "seed=choice(0,1,2)", status=1)
    ended = results(tmp_path)
    accuracies = [r["metrics"]["validation/accuracy"] for r in ended.values()]
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(accuracies) > 0
    failed = 12 - len(ended)
    assert failed >= 1 and f"{failed} of 12 runs failed" in err
    code = (
        "import optuna; t = optuna.load_study(study_name='s', storage='sqlite:///study.db').trials;"
        "print(sorted((x.state.name, x.value) for x in t if x.state.name == 'FAIL'))"
    )
    out, _ = finish(start(tmp_path, python, "-W", "ignore", "-c", code))
    assert out.strip() == str([("FAIL", None)] * failed)


def test_several_objectives_give_a_front(python: str, tmp_path: Path):
    """Every run with a finished trial's values; the front holds no run that another one beats."""
    objectives = "objective=[validation_accuracy,multiply_adds]"
    sweeper = ("hydra.sweeper.n_trials=3", "hydra.sweeper.direction=[maximize,minimize]")
    search(python, tmp_path, *sweeper, objectives, "net.channels=choice(2,4)")
    pairs = {
        (r["metrics"]["validation/accuracy"], float(r["multiply_adds"]))
        for r in results(tmp_path).values()
    }
    front = {
        (a, m) for a, m in pairs
        if not any((b >= a and n <= m) and (b, n) != (a, m) for b, n in pairs)
    }  # fmt: skip
    told = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert {tuple(solution["values"]) for solution in told["solutions"]} == front


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["objective=acuracy"], "objective=acuracy must be one, or a list of different ones, of"),
        (["objective=[seconds,parameters]"], "hydra.sweeper.direction=[minimize,minimize]"),
        ([], "needs hydra.sweeper.direction=maximize, "),  # its default is to minimise
    ],
)
def test_an_unknown_objective_is_told_before_the_first_run(
    python: str, tmp_path: Path, arguments: list[str], told: str
):
    _, err = search(python, tmp_path, *arguments, "seed=choice(0,1)", status=2)
    assert told in err and len(err.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()
