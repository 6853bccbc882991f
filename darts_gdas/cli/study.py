"""A study in its folder: Optuna's file, begun now or before, and what it was begun with."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from darts_gdas.cli.plan import Plan
from darts_gdas.cli.trials import RUN, run_of, take_up
from darts_gdas.reasons import installing, reason
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.files import RunFolder

if TYPE_CHECKING:
    from optuna.storages import RDBStorage  # pyright: ignore[reportMissingImports]
    from optuna.study import Study  # pyright: ignore[reportMissingImports]

STUDY = "study.db"
PLAN = "plan"


def check_installed() -> None:
    """Raise a `ValueError` where Optuna is not; else let it say what is wrong, and no more."""
    try:
        import optuna  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"tune needs optuna: {installing('tune')}") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a study.

    Raises:
        ValueError: If one tunes it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(RunFolder(folder).lock())
        except ValueError as error:
            told = str(error).removeprefix("run_dir ")
            raise ValueError(f"the study {told}; it can tune one at a time") from None
        yield


def open_study(folder: Path, plan: Plan, *, seed: int, startup: int) -> "Study":
    """The study in its folder, begun now or before, without trials that were cut off.

    Args:
        folder: Its folder, which is there.
        plan: What its trials have in common.
        seed: Of the sampler.
        startup: Trials before any is pruned.

    Raises:
        ValueError: If its file is damaged, it was begun with other settings, or a run of it goes
            on without it.
    """
    import optuna  # pyright: ignore[reportMissingImports]

    path = folder / STUDY
    try:
        study = optuna.create_study(
            study_name=PLAN,
            storage=_storage(path),
            directions=plan.directions,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup),
            load_if_exists=True,
        )
        begun = study.user_attrs.get(PLAN)
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # whatever the database says
        raise ValueError(
            f"{path} cannot be read as a study: {reason(error)}. Move it away to begin anew; "
            "the runs beside it stand"
        ) from None
    _check_same(folder, begun, plan)
    study.set_user_attr(PLAN, plan.told())
    study.sampler = optuna.samplers.TPESampler(
        seed=derive_seed(seed, "tune", len(trials)) % 2**32  # not the same draws again
    )
    cut = [trial for trial in trials if trial.state is optuna.trial.TrialState.RUNNING]
    for run in [run_of(trial) for trial in cut if RUN in trial.user_attrs]:
        RunFolder(folder / run).check_free()  # its process may live on
    take_up(study, cut)
    return study


def _storage(path: Path) -> "RDBStorage":
    """The file, opened by its name itself: in an address some signs mean something else."""
    from optuna.storages import RDBStorage  # pyright: ignore[reportMissingImports]

    name = str(path.resolve())
    opening = {"creator": lambda: sqlite3.connect(name, check_same_thread=False)}
    return RDBStorage(f"sqlite:///{STUDY}", engine_kwargs=opening)


def _check_same(folder: Path, begun: object, plan: Plan) -> None:
    now = plan.told()
    was = now if begun is None else begun
    if not isinstance(was, list):
        raise ValueError(f"{folder} was begun by an older version; pass another folder")
    missing, new = [one for one in was if one not in now], [one for one in now if one not in was]
    if missing or new:
        told = [f"with {' '.join(missing)}"] * bool(missing) + [f"without {' '.join(new)}"] * bool(
            new
        )
        raise ValueError(
            f"{folder} was begun {', '.join(told)}; pass the same settings, or another folder"
        )
