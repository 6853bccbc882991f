"""The program that tunes a search: an Optuna study whose trials are runs of their own."""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import darts_gdas
from darts_gdas.cli.arguments import as_meant
from darts_gdas.cli.closing import how_to_retrain
from darts_gdas.cli.errors import usage_errors
from darts_gdas.cli.plan import OBJECTIVES, Plan, settings_of
from darts_gdas.cli.trials import RUN, ask, counts, ended, run_of, take_up
from darts_gdas.config.objective import values_of
from darts_gdas.reasons import installing, reason
from darts_gdas.report.columns import table_lines
from darts_gdas.report.comparison_page import write_comparison
from darts_gdas.report.numbers import few_digits
from darts_gdas.report.record import find_records, is_run
from darts_gdas.report.run_page import PAGE
from darts_gdas.report.study import SUMMARY, StudySummary, TrialSummary
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.launch import command, setting
from darts_gdas.runtime.signals import StopRequest
from darts_gdas.runtime.terminal import complain
from darts_gdas.runtime.usage import FAULT
from darts_gdas.space import Genotype

if TYPE_CHECKING:
    from optuna.study import Study  # pyright: ignore[reportMissingImports]
    from optuna.trial import Trial  # pyright: ignore[reportMissingImports]

STUDY, OUTPUT = "study.db", "output.txt"
PLAN = "plan"
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
        _check_installed()
        plan = Plan.of(options.program, [as_meant(item) for item in options.settings])
        options.study.mkdir(parents=True, exist_ok=True)
        with RunFolder(options.study).lock():
            study = _open(options, plan)
            mark.blamed = ()
            (options.study / SUMMARY).unlink(missing_ok=True)  # it will not be true any more
            _tune(study, options, plan)
            _finish(study, options.study, plan)


def _check_folder(study: Path) -> None:
    if any("=" in path.name and not path.is_dir() for path in (study, *study.parents)):
        raise ValueError(
            f"there is no folder {str(study)!r}; if it is a setting, the study's folder is missing "
            f"before it: {command('tune', 'outputs/tune/first', str(study))} ..."
        )


def _check_installed() -> None:
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"tune needs optuna: {installing('tune')}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _open(options: argparse.Namespace, plan: Plan) -> "Study":
    """The study in its folder, begun now or before, without trials that were cut off.

    Raises:
        ValueError: If its file is damaged, it was begun with other settings, or a run of it goes
            on without it.
    """
    import optuna  # pyright: ignore[reportMissingImports]

    path = options.study / STUDY
    try:
        study = optuna.create_study(
            study_name=PLAN,
            storage=f"sqlite:///{path.resolve()}",
            directions=plan.directions,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=options.startup),
            load_if_exists=True,
        )
        begun = study.user_attrs.get(PLAN)
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # whatever the database says
        raise ValueError(
            f"{path} cannot be read as a study: {reason(error)}. Move it away to begin anew; "
            "the runs beside it stand"
        ) from None
    _check_same(options.study, begun, plan)
    study.set_user_attr(PLAN, plan.told())
    study.sampler = optuna.samplers.TPESampler(
        seed=derive_seed(options.seed, "tune", len(trials)) % 2**32  # not the same draws again
    )
    cut = [trial for trial in trials if trial.state is optuna.trial.TrialState.RUNNING]
    for run in [run_of(trial) for trial in cut if RUN in trial.user_attrs]:
        RunFolder(options.study / run).check_free()  # its process may live on
    take_up(study, cut)
    return study


def _check_same(folder: Path, begun: list[str] | None, plan: Plan) -> None:
    was, now = begun or plan.told(), plan.told()
    missing, new = [one for one in was if one not in now], [one for one in now if one not in was]
    if missing or new:
        told = [f"with {' '.join(missing)}"] * bool(missing) + [f"without {' '.join(new)}"] * bool(
            new
        )
        raise ValueError(
            f"{folder} was begun {', '.join(told)}; pass the same settings, or another folder"
        )


def _tune(study: "Study", options: argparse.Namespace, plan: Plan) -> None:
    with StopRequest("stopping; the state of the run will be saved") as request:
        done = len(ended(study))
        if done < options.trials:
            places = f"each a run below {options.study}, what it says in its {OUTPUT}"
            print(f"{done} of {options.trials} trials are done; {places}", flush=True)
        while len(ended(study)) < options.trials:
            trial = ask(study, plan.space)
            if trial is None:
                print("all combinations of the ranges have been tried", flush=True)
                return
            _run(study, trial, options, plan, request)
            if request.signum:
                is_kept = is_run(options.study / run_of(trial))
                kept = "which is kept" if is_kept else "of which nothing was begun"
                print(
                    f"stopped in run {run_of(trial)}, {kept}\ngo on with: the same command",
                    file=sys.stderr,
                )
                raise SystemExit(128 + request.signum)


def _run(
    study: "Study", trial: "Trial", options: argparse.Namespace, plan: Plan, request: StopRequest
) -> None:
    """A trial as a process of its own; its state is told to the study, unless it was stopped."""
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
        return
    told = f"run {run_of(trial)} {' '.join(settings_of(trial.params))}: "
    if process.returncode == 0 and folder.result.exists():
        result = json.loads(folder.result.read_text(encoding="utf-8"))
        values = values_of(list(plan.objectives), OBJECTIVES[plan.program], result)
        assert isinstance(values, tuple)
        if all(value == value for value in values):
            study.tell(trial, list(values))
            print(told + ", ".join(f"{value:.6g}" for value in values), flush=True)
            return
    if is_pruned and process.returncode != 0:
        study.tell(trial, state=TrialState.PRUNED)
        print(f"{told}pruned", flush=True)
        return
    study.tell(trial, state=TrialState.FAIL)
    complain(f"{told}failed with status {process.returncode}, see {folder.path / OUTPUT}")


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


def _finish(study: "Study", folder: Path, plan: Plan) -> None:
    """Tables, the page that compares the runs, and how to go on."""
    found = counts(study)
    print(f"\n{folder / STUDY}: {', '.join(f'{n} {state}' for state, n in found.items())}")
    if "complete" not in found:
        complain("no trial has come to its end with a value")
        raise SystemExit(FAULT)
    best = study.best_trials if len(plan.objectives) > 1 else [study.best_trial]
    trials = [
        TrialSummary(run_of(t), t.values, {k: str(v) for k, v in t.params.items()}) for t in best
    ]
    print("\n".join(best_lines(trials, plan.objectives)))
    about = plan.objectives, plan.directions, found, plan.ranges(), plan.fixed, trials
    summary = StudySummary(*about, even=plan.even())
    try:
        records = find_records(folder)
    except ValueError:
        print("no page: the folders of its runs are gone")
        return
    summary.save(folder)
    write_comparison(records, folder / PAGE, summary)
    print(f"page     {folder / PAGE}")
    if plan.program == "search":
        print(*_next(RunFolder(folder / trials[0].run), plan), sep="\n  ")


def _next(run: RunFolder, plan: Plan) -> list[str]:
    """How to train what the best run has found, if that is still there."""
    if not (run.path / "genotype.json").exists():
        return [f"\n{run.path} has no genotype.json any more, so there is no cell to retrain"]
    try:
        return ["\nNext:", *how_to_retrain(run, Genotype.load(run.path), plan.fixed)]
    except ValueError as error:
        return [f"\n{error}"]


def best_lines(trials: Sequence[TrialSummary], objectives: Sequence[str]) -> list[str]:
    """The best trial, or the front, as a table with a column per objective and setting.

    Args:
        trials: Those that no other beats; all have the same settings.
        objectives: The names of their values.
    """
    title = "best trial" if len(objectives) == 1 else "the front: no trial is better in all"
    columns = {name: [f"{t.values[i]:.6g}" for t in trials] for i, name in enumerate(objectives)}
    columns["run"] = [trial.run for trial in trials]
    for name in trials[0].settings:
        typed = [trial.settings[name] for trial in trials]
        told = few_digits(typed)
        columns[name] = [told[value] for value in typed]
    return [title, *table_lines([*columns], [*zip(*columns.values(), strict=True)])]
