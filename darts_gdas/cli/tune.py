"""The program that tunes a search: an Optuna study whose trials are runs of their own."""

import argparse
import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import darts_gdas
from darts_gdas.cli.arguments import as_meant
from darts_gdas.cli.errors import usage_errors
from darts_gdas.cli.plan import OBJECTIVES, Plan, settings_of
from darts_gdas.cli.ranges import CALLS
from darts_gdas.cli.study import STUDY, check_installed, locked, open_study
from darts_gdas.cli.study_end import finish, save_summary
from darts_gdas.cli.trials import ask, ended, run_of
from darts_gdas.config.objective import values_of
from darts_gdas.report.record import is_run
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.launch import command, setting
from darts_gdas.runtime.signals import StopRequest
from darts_gdas.runtime.terminal import complain, put
from darts_gdas.runtime.usage import FAULT

if TYPE_CHECKING:
    from optuna.study import Study  # pyright: ignore[reportMissingImports]
    from optuna.trial import Trial  # pyright: ignore[reportMissingImports]

OUTPUT = "output.txt"
_RANGE = re.compile(rf"({'|'.join(CALLS)})\(")
LOOKS = 0.2
"""Seconds between two looks at a run."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog=command("tune"), description="Tune settings: a study of runs, below one folder."
    )
    parser.add_argument("study", type=Path, metavar="STUDY", help="a folder; goes on if it is one")
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="fixed, or a range")
    parser.add_argument("--program", choices=OBJECTIVES, default="search")
    parser.add_argument("--trials", type=int, default=20, help="of the study in all; default: 20")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler; default: 0")
    parser.add_argument("--no-prune", action="store_true", help="let every run come to its end")
    parser.add_argument(
        "--startup", type=int, default=5, help="trials before any is pruned; default: 5"
    )
    options = parser.parse_intermixed_args(arguments)
    with usage_errors() as mark:
        _check_folder(options.study)
        if options.trials < 1:
            raise ValueError(f"--trials must be at least 1, got {options.trials}")
        if options.startup < 0:
            raise ValueError(f"--startup must be at least 0, got {options.startup}")
        check_installed()
        plan = Plan.of(options.program, [_meant(item) for item in options.settings])
        options.study.mkdir(parents=True, exist_ok=True)
        with locked(options.study):
            kept = f"what was tried is kept in {options.study / STUDY}"
            mark.kept = f"{kept}; go on with: the same command"
            study = open_study(options.study, plan, seed=options.seed, startup=options.startup)
            mark.blamed = ()
            save_summary(study, options.study, plan)
            _tune(study, options, plan)
            finish(study, options.study, plan)


def _meant(item: str) -> str:
    """A setting as hydra can read it; what begins as a range stays, to be refused if it is none."""
    return item if _RANGE.match(item.partition("=")[2]) else as_meant(item)


def _check_folder(study: Path) -> None:
    if study.exists() and not study.is_dir():
        raise ValueError(f"{study} is a file; a study needs a folder")
    if any("=" in path.name and not path.is_dir() for path in (study, *study.parents)):
        raise ValueError(
            f"there is no folder {str(study)!r}; if it is a setting, the study's folder is missing "
            f"before it: {command('tune', 'outputs/tune/first', str(study))} ..."
        )


def _tune(study: "Study", options: argparse.Namespace, plan: Plan) -> None:
    with StopRequest("stopping; the state of the run will be saved") as request:
        done = len(ended(study))
        if done < options.trials:
            places = f"each a run below {options.study}, what it says in its {OUTPUT}"
            put(f"{done} of {options.trials} trials are done; {places}", sys.stdout)
        while len(ended(study)) < options.trials:
            trial = ask(study, plan.space, folder=options.study, seed=options.seed)
            if trial is None:
                put("all combinations of the ranges have been tried", sys.stdout)
                return
            missing = _run(study, trial, options, plan, request)
            save_summary(study, options.study, plan)
            if request.signum:
                is_kept = is_run(options.study / run_of(trial))
                kept = "which is kept" if is_kept else "of which nothing was begun"
                told = f"stopped in run {run_of(trial)}, {kept}\ngo on with: the same command"
                put(told, sys.stderr)
                raise SystemExit(128 + request.signum)
            if missing:  # nor will the other runs have it
                others = [name for name in OBJECTIVES[plan.program] if name not in missing]
                complain(f"the study ends here; choose objective=NAME, one of {', '.join(others)}")
                raise SystemExit(FAULT)


def _run(
    study: "Study", trial: "Trial", options: argparse.Namespace, plan: Plan, request: StopRequest
) -> list[str]:
    """A trial as a process of its own; its state is told to the study, unless it was stopped.

    Returns:
        The objectives that a run has not measured, though it has ended well.
    """
    from optuna.trial import TrialState  # pyright: ignore[reportMissingImports]

    folder = RunFolder(options.study / run_of(trial))
    folder.path.mkdir(exist_ok=True)
    places = [setting("run_dir", folder.path), "resume=auto"]
    overrides = [*plan.fixed, *settings_of(trial.params), *places]
    with open(folder.path / OUTPUT, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "darts_gdas", plan.program, *overrides],
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(_path())},
            start_new_session=True,  # one signal, from here
        )
        is_pruned = _follow(process, trial, folder, plan, request, prunes=not options.no_prune)
    if request.signum:
        return []
    told = f"run {run_of(trial)} {' '.join(settings_of(trial.params))}: "
    if process.returncode == 0 and folder.result.exists():
        result = json.loads(folder.result.read_text(encoding="utf-8"))
        values = values_of(list(plan.objectives), OBJECTIVES[plan.program], result)
        assert isinstance(values, tuple)
        pairs = zip(plan.objectives, values, strict=True)
        if missing := [name for name, value in pairs if math.isnan(value)]:
            study.tell(trial, state=TrialState.FAIL)
            complain(f"{told}has no {', '.join(missing)}")
            return missing
        study.tell(trial, list(values))
        put(told + ", ".join(f"{value:.6g}" for value in values), sys.stdout)
    elif is_pruned and process.returncode != 0:
        study.tell(trial, state=TrialState.PRUNED)
        put(f"{told}pruned", sys.stdout)
    else:
        study.tell(trial, state=TrialState.FAIL)
        complain(f"{told}failed with status {process.returncode}, see {folder.path / OUTPUT}")
    return []


def _follow(
    process: subprocess.Popen[bytes],
    trial: "Trial",
    folder: RunFolder,
    plan: Plan,
    request: StopRequest,
    *,
    prunes: bool,
) -> bool:
    """Wait for a run; whether it was ended because its running value is below the median."""
    seen, is_pruned, is_asked, runs = 0, False, False, True
    num_epochs = plan.num_epochs(trial.params)
    while runs:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOKS)
        runs = process.poll() is None  # afterwards the last epochs are read
        if request.signum and not is_asked:
            process.send_signal(request.signum)
            is_asked = True
        if plan.curve is None or is_asked or is_pruned:
            continue
        for line in _lines(folder)[seen:]:
            trial.report(line[plan.curve], line["epoch"])
            seen += 1
            is_last = not runs or line["epoch"] + 1 >= num_epochs
            if prunes and not is_last and not is_pruned and trial.should_prune():
                process.send_signal(signal.SIGTERM)
                is_pruned = True
    return is_pruned


def _lines(folder: RunFolder) -> list[dict[str, Any]]:
    """What has been measured so far, epoch by epoch; a line that is being written is left out."""
    text = folder.metrics.read_text(encoding="utf-8") if folder.metrics.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _path() -> Iterator[str]:
    """Where the run's process finds this package."""
    yield str(Path(darts_gdas.__file__).parents[1])
    yield from filter(None, [os.environ.get("PYTHONPATH")])
