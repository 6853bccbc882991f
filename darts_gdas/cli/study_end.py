"""What a study has found: the file that its page is written from, its tables, how to go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from darts_gdas.cli.closing import how_to_retrain
from darts_gdas.cli.plan import Plan
from darts_gdas.cli.study import STUDY
from darts_gdas.cli.trials import counts, run_of
from darts_gdas.report.columns import table_lines
from darts_gdas.report.comparison_page import write_comparison
from darts_gdas.report.numbers import few_digits
from darts_gdas.report.record import find_records
from darts_gdas.report.run_page import PAGE
from darts_gdas.report.study import SUMMARY, StudySummary, TrialSummary
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.terminal import complain
from darts_gdas.runtime.usage import FAULT, put_result
from darts_gdas.space import Genotype

if TYPE_CHECKING:
    from optuna.study import Study  # pyright: ignore[reportMissingImports]


def save_summary(study: "Study", folder: Path, plan: Plan) -> StudySummary | None:
    """Write what `report STUDY` says beside the runs, as it is now.

    Returns:
        What was written; None where no trial has a value yet, and no file is left.
    """
    found = counts(study)
    if "complete" not in found:
        (folder / SUMMARY).unlink(missing_ok=True)
        return None
    best = study.best_trials if len(plan.objectives) > 1 else [study.best_trial]
    trials = [
        TrialSummary(run_of(t), t.values, {k: str(v) for k, v in t.params.items()}) for t in best
    ]
    about = plan.objectives, plan.directions, found, plan.ranges(), plan.fixed, trials
    summary = StudySummary(*about, even=plan.even())
    summary.save(folder)
    return summary


def finish(study: "Study", folder: Path, plan: Plan) -> None:
    """Tables, the page that compares the runs, and how to go on.

    Raises:
        SystemExit: If no trial has a value.
    """
    told = [
        f"\n{folder / STUDY}: {', '.join(f'{n} {state}' for state, n in counts(study).items())}"
    ]
    summary = save_summary(study, folder, plan)
    if summary is None:
        put_result(told[0])
        complain("no trial has come to its end with a value")
        raise SystemExit(FAULT)
    told += best_lines(summary.best, plan.objectives)
    try:
        records = find_records(folder)
    except ValueError:
        told.append("no page: the folders of its runs are gone")
    else:
        write_comparison(records, folder / PAGE, summary)
        told.append(f"page     {folder / PAGE}")
        if plan.program == "search":
            told.append("\n  ".join(_next(RunFolder(folder / summary.best[0].run), plan)))
    put_result("\n".join(told))


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
