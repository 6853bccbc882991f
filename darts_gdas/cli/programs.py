"""The programs: from a composed configuration to a finished run folder.

Everything that can be wrong with the input is found before the run folder is made.
"""

import logging
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.closing import finish_search, finish_train
from darts_gdas.cli.errors import usage_errors
from darts_gdas.cli.start import Start, check_fingerprint, prepare, record
from darts_gdas.config import SearchConfig, TrainConfig
from darts_gdas.report.artifacts import BestGenotype, write_genotype
from darts_gdas.report.tensorboard import TensorBoard
from darts_gdas.runtime.callbacks import Console, MetricsFile
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.loop import Callback, Loop, Task
from darts_gdas.runtime.signals import Interrupted
from darts_gdas.space import Genotype
from darts_gdas.tasks.retrain import RetrainTask
from darts_gdas.tasks.search import SearchTask

SEARCH, TRAIN = "search", "train"


def run_search(cfg: DictConfig) -> None:
    """Search, and leave genotype, drawings, curves and summary in the run folder."""
    _set_up_logging()
    with usage_errors(ValueError, OSError):
        start = prepare(cfg, SearchConfig, SEARCH)
        if start is None:
            return
        fingerprint = configuration.fingerprint(start.config)
        task = start.config.build()
        columns = {
            "train": "train/accuracy",
            "arch": "arch/accuracy",
            "validation": "validation/accuracy",
            "loss": "train/loss",
        }
        callbacks: list[Callback] = [
            TensorBoard(start.folder.tensorboard, view=task.view),
            BestGenotype(start.folder.path / "genotype_best.json", task.genotype),
        ]
        loop = _loop(start, SEARCH, fingerprint, task, columns, callbacks)
    metrics = _run(loop, task, start)
    print(finish_search(task, start.folder, metrics, loop))


def run_train(cfg: DictConfig) -> None:
    """Retrain a genotype, and leave the model and its test accuracy in the run folder."""
    _set_up_logging()
    with usage_errors(ValueError, OSError):
        start = prepare(cfg, TrainConfig, TRAIN)
        if start is None:
            return
        genotype, source = _find_genotype(start)
        fingerprint = configuration.fingerprint(start.config, genotype_content=genotype.to_json())
        task = start.config.build(genotype)
        columns = {"train": "train/accuracy", "test": "test/accuracy", "loss": "train/loss"}
        callbacks: list[Callback] = [TensorBoard(start.folder.tensorboard)]
        loop = _loop(start, TRAIN, fingerprint, task, columns, callbacks)
        write_genotype(start.folder.path, genotype, title=source)
    metrics = _run(loop, task, start)
    print(finish_train(task, start.folder, metrics, loop, source))


def _set_up_logging() -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


def _loop(
    start: Start[Any],
    name: str,
    fingerprint: str,
    task: SearchTask | RetrainTask,
    columns: dict[str, str],
    callbacks: list[Callback],
) -> Loop:
    """The loop, ready to run: resumed if asked, its folder made; the last thing that can fail."""
    folder = start.folder
    loop = Loop(
        folder,
        kind=name,
        fingerprint=fingerprint,
        callbacks=[Console(columns), MetricsFile(folder.metrics), *callbacks],
        device=task.compute.device,
    )
    if start.state is not None:
        check_fingerprint(start.state, fingerprint)
        loop.load(task, start.state)
    record(start)
    return loop


def _run(loop: Loop, task: Task, start: Start[Any]) -> dict[str, float]:
    verb = "resuming" if start.state is not None else "starting"
    print(f"{verb} {loop.kind} in {start.folder.path}", file=sys.stderr)
    try:
        return loop.run(task)
    except Interrupted as stop:
        print(
            f"{stop}\ngo on with: python {loop.kind}.py resume={start.folder.path}",
            file=sys.stderr,
        )
        raise SystemExit(stop.exit_status) from None
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _find_genotype(start: Start[TrainConfig]) -> tuple[Genotype, str]:
    """The genotype to retrain and where it is from."""
    config, source = start.config, start.config.genotype
    if start.state is not None and source is None:
        source = str(start.folder.path / "genotype.json")
    if source is None:
        newest = RunFolder.newest(Path(config.outputs) / SEARCH, finished=True)
        if newest is None:
            raise ValueError(
                f"no finished search under {config.outputs}/{SEARCH}; run search.py first, or "
                "pass genotype=DARTS_V2 (or another name or path)"
            )
        source = str(newest.path / "genotype.json")
    return Genotype.load(source), source
