"""The trials of a study, by their runs: which go on, what is asked next, how many ended how."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_gdas.cli.ranges import combinations, untried
from darts_gdas.runtime.data import derive_seed

if TYPE_CHECKING:
    from optuna.study import Study  # pyright: ignore[reportMissingImports]
    from optuna.trial import FrozenTrial, Trial  # pyright: ignore[reportMissingImports]

RUN = "run"
"""What a trial knows its run by; one without it never had a run, and counts nowhere."""

STATES = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "cut off",
    "WAITING": "cut off",
}
"""Optuna's states in words."""


def run_of(trial: "FrozenTrial | Trial") -> str:
    """The name of a trial's run; one that was cut off and its successor have one."""
    return trial.user_attrs[RUN]


def by_run(study: "Study") -> "dict[str, FrozenTrial]":
    """The last trial of each run: one that was cut off went on in a trial of its own."""
    return {run_of(t): t for t in study.get_trials(deepcopy=False) if RUN in t.user_attrs}


def ended(study: "Study") -> list[str]:
    """The runs that need no more work."""
    return [run for run, trial in by_run(study).items() if trial.state.is_finished()]


def counts(study: "Study") -> dict[str, int]:
    """How many runs ended how, in words."""
    return dict(Counter(STATES[trial.state.name] for trial in by_run(study).values()))


def take_up(study: "Study", trials: "Sequence[FrozenTrial]") -> None:
    """Let the runs of trials that were cut off go on, each in a new trial, asked next."""
    from optuna.trial import TrialState  # pyright: ignore[reportMissingImports]

    for trial in trials:
        study.tell(trial.number, state=TrialState.FAIL)
        if RUN in trial.user_attrs:
            study.enqueue_trial(trial.params, user_attrs={RUN: run_of(trial)})


def ask(study: "Study", space: Mapping[str, Any], *, folder: Path, seed: int = 0) -> "Trial | None":
    """The next trial, which has a run's name; None where all combinations have been tried.

    None is tried twice: a run with the same settings, of which the seed is one, ends in the same
    numbers. Where the sampler proposes one that is known, one by chance takes its place.

    Args:
        study: The study.
        space: What is varied, by the names of settings.
        folder: Where its runs lie; a name that is taken there, by runs of a study that was moved
            away, is not given again.
        seed: Of the chance.
    """
    from optuna.trial import TrialState  # pyright: ignore[reportMissingImports]

    values = combinations(space)
    while True:
        trial = study.ask(dict(space))
        if RUN in trial.user_attrs:
            return trial
        known = by_run(study)
        tried = [other.params for other in known.values()]
        if values is None or trial.params not in tried:
            first = 1 + max(map(int, known), default=-1)
            names = (f"{number:04d}" for number in itertools.count(first))
            trial.set_user_attr(RUN, next(n for n in names if not (folder / n).exists()))
            return trial
        study.tell(trial, state=TrialState.FAIL)  # samplers take no notice of it
        other = untried(values, tried, derive_seed(seed, "untried", trial.number))
        if other is None:
            return None
        study.enqueue_trial(other)
