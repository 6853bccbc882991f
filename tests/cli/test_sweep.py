"""What a sweep leaves at its end; `test_compare.py` has a real one."""

import re
from enum import Enum
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from darts_gdas.cli.sweep import Comparison
from tests.report.test_runs import make_run


def config(folder: Path, name: str = "search") -> DictConfig:
    return OmegaConf.create(
        {"hydra": {"sweep": {"dir": str(folder)}, "job": {"config_name": name}}}
    )


def test_the_runs_are_compared_in_the_sweeps_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, method in enumerate(("darts", "gdas")):
        make_run(tmp_path / str(name), f"method={method}")
    Comparison().on_multirun_end(config(tmp_path))
    said = capsys.readouterr()
    assert "darts " in said.out and "gdas " in said.out and said.err == ""
    made = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert made == {"compare.csv", "compare_runs.csv", "report.html"}
    assert said.out.count(str(tmp_path / "report.html")) == 1


def test_rankings_get_a_page_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    make_run(tmp_path / "0", result={"kind": "score", "cells": [], "scores": []})
    Comparison().on_multirun_end(config(tmp_path, "score"))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("is_there", [True, False])
def test_a_sweep_without_finished_runs_ends_as_it_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_there: bool
):
    if is_there:
        (make_run(tmp_path / "0") / "result.json").unlink()
    Comparison().on_multirun_end(config(tmp_path))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("warning: the runs are not compared: ") and "no" in last


@pytest.mark.parametrize("objective", ["validation_accuracy", "luck"])
def test_hydra_1_4_has_its_node_read_only_and_ends_refused_sweeps_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], objective: str
):
    wished, sweep = tmp_path / "sweep", Comparison()
    found = config(wished)
    found.objective = objective
    found.hydra.sweeper, found.hydra.overrides = {"_target_": "Optuna"}, {"hydra": [], "task": []}
    OmegaConf.set_readonly(found.hydra, True)
    if objective == "luck":
        with pytest.raises(SystemExit):
            sweep.on_multirun_start(found)
        sweep.on_multirun_end(found)
        (line,) = capsys.readouterr().err.splitlines()
        assert "luck" in line and not wished.exists()
    else:
        sweep.on_multirun_start(found)
        assert wished.is_dir()
        assert found.hydra.overrides.hydra == [f'hydra.sweep.dir="{wished}"']


def sweep(folder: Path, sweeper: dict, *task: str, objective: object = "validation_accuracy"):
    found = config(folder / "sweep")
    found.objective = objective
    found.hydra.sweeper, found.hydra.overrides = sweeper, {"hydra": [], "task": list(task)}
    Comparison().on_multirun_start(found)


class Direction(Enum):
    """As Optuna's sweeper has it, by default `minimize`."""

    minimize = 1
    maximize = 2


BOTH = ["validation_accuracy", "seconds"]


@pytest.mark.parametrize(
    ("right", "wrong", "objective", "told"),
    [
        (
            {"direction": Direction.maximize},
            {"direction": Direction.minimize},
            "validation_accuracy",
            "objective=validation_accuracy needs hydra.sweeper.direction=maximize, .*got minimize",
        ),
        ({"direction": "minimize"}, {"direction": "maximize"}, "seconds", "direction=minimize,"),
        (
            {"direction": ["maximize", "minimize"]},
            {"direction": ["minimize", "maximize"]},
            BOTH,
            r"hydra.sweeper.direction=\[maximize,minimize\], .*got minimize,maximize",
        ),
        ({"direction": ["maximize", "minimize"]}, {"direction": "maximize"}, BOTH, "got maximize$"),
        (
            {"optim": {"maximize": True}},
            {"optim": {"maximize": False}},
            "validation_accuracy",
            "hydra.sweeper.optim.maximize=true, .*got false",
        ),
        (
            {"ax_config": {"experiment": {"minimize": True}}},
            {"ax_config": {"experiment": {"minimize": False}}},
            "multiply_adds",
            "hydra.sweeper.ax_config.experiment.minimize=true, .*got false",
        ),
    ],
    ids=str,
)
def test_a_sweeper_that_would_take_the_worst_for_the_best_is_refused(
    right, wrong, objective, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        sweep(tmp_path, {"_target_": "Own"} | wrong, objective=objective)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and re.search(told, line) and not (tmp_path / "sweep").exists()
    sweep(tmp_path, {"_target_": "Own"} | right, objective=objective)
    assert (tmp_path / "sweep").is_dir()


def test_what_a_sweeper_optimises_cannot_vary(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        sweep(tmp_path, {"_target_": "Own"}, "seed=1,2", "objective=choice(seconds,parameters)")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("several objectives at once are a list: objective=[seconds,parameters]")
