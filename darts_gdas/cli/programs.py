"""The programs: from a composed configuration to a finished run folder.

Everything that can be wrong with the input is found before the run folder is made.
"""

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.beginning import begin_search
from darts_gdas.cli.closing import end_search, finish_search, finish_train
from darts_gdas.cli.errors import usage_errors
from darts_gdas.cli.start import Start, check_fingerprint, open_folder, prepare
from darts_gdas.config import SearchConfig, TrainConfig
from darts_gdas.report.artifacts import BestGenotype, write_genotype
from darts_gdas.report.tensorboard import TensorBoard
from darts_gdas.runtime.callbacks import Console, MetricsFile
from darts_gdas.runtime.checkpoint import State
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.loop import Callback, Loop, Task
from darts_gdas.runtime.signals import Interrupted
from darts_gdas.space import Genotype
from darts_gdas.tasks.retrain import RetrainTask
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.staged import StagedSearchTask, present

SEARCH, TRAIN = "search", "train"


def run_search(cfg: DictConfig) -> None:
    """Search, and leave genotype, drawings, curves and summary in the run folder."""
    with contextlib.ExitStack() as stack:
        with _input_errors():
            start = prepare(cfg, SearchConfig, SEARCH)
            if start is None:
                return
            task = start.config.build()
            fingerprint = configuration.fingerprint(start.config, data=task.data_digest)
            folder = _enter(stack, start, fingerprint)
            columns = {
                "train": "train/accuracy",
                "arch": "arch/accuracy",
                "validation": "validation/accuracy",
                "loss": "train/loss",
            }
            callbacks: list[Callback] = [
                Console(columns),
                MetricsFile(folder.metrics),
                TensorBoard(folder.tensorboard, view=task.view),
            ]
            if present(task).monitor.learns:  # else no epoch's genotype means anything
                best = folder.path / "genotype_best.json"
                callbacks.append(BestGenotype(best, task.genotype))
            loop = _loop(SEARCH, folder, fingerprint, callbacks, task, start.state)
        if start.state is None:
            begin_search(present(task), start.config.warm_start, folder, fingerprint)
        metrics = _run(loop, task, folder)
        metrics = metrics | end_search(present(task), folder, loop)
        print(finish_search(present(task), folder, metrics, loop))


def run_train(cfg: DictConfig) -> None:
    """Retrain a genotype, and leave the model and its test accuracy in the run folder."""
    with contextlib.ExitStack() as stack:
        with _input_errors():
            start = prepare(cfg, TrainConfig, TRAIN)
            if start is None:
                return
            genotype, source = _find_genotype(start)
            task = start.config.build(genotype)
            fingerprint = configuration.fingerprint(
                start.config, data=task.data_digest, genotype_content=genotype.to_json()
            )
            folder = _enter(stack, start, fingerprint)
            columns = {"train": "train/accuracy", "test": "test/accuracy", "loss": "train/loss"}
            callbacks = [
                Console(columns),
                MetricsFile(folder.metrics),
                TensorBoard(folder.tensorboard),
            ]
            loop = _loop(TRAIN, folder, fingerprint, callbacks, task, start.state)
            write_genotype(folder.path, genotype, title=source)
        metrics = _run(loop, task, folder)
        print(finish_train(task, folder, metrics, loop, source))


def _input_errors() -> contextlib.AbstractContextManager[None]:
    """Around all that can be wrong with the input."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    return usage_errors(ValueError, OSError)


def _enter(stack: contextlib.ExitStack, start: Start[Any], fingerprint: str) -> RunFolder:
    """The run folder, made and locked until the stack closes: the input is right."""
    if start.state is not None:
        check_fingerprint(start.state, fingerprint)
    return stack.enter_context(open_folder(start))


def _loop(
    kind: str,
    folder: RunFolder,
    fingerprint: str,
    callbacks: Sequence[Callback],
    task: SearchTask | StagedSearchTask | RetrainTask,
    state: State | None,
) -> Loop:
    """The loop, ready to run, from the beginning or from a checkpoint."""
    loop = Loop(
        folder,
        kind=kind,
        fingerprint=fingerprint,
        callbacks=callbacks,
        device=task.compute.device,
    )
    if state is not None:
        loop.load(task, state)
    verb = "starting" if state is None else "resuming"
    print(f"{verb} {kind} in {folder.path}", file=sys.stderr)
    return loop


def _run(loop: Loop, task: Task, folder: RunFolder) -> dict[str, float]:
    try:
        return loop.run(task)
    except Interrupted as stop:
        print(f"{stop}\ngo on with: python {loop.kind}.py resume={folder.path}", file=sys.stderr)
        raise SystemExit(stop.exit_status) from None


def _find_genotype(start: Start[TrainConfig]) -> tuple[Genotype, str]:
    """The genotype to retrain and where it is from; a resumed run keeps its own."""
    source = start.config.genotype
    is_named_now = any(item.startswith("genotype=") for item in configuration.task_overrides())
    if start.state is not None and start.folder is not None and not is_named_now:
        source = str(start.folder.path / "genotype.json")
    if source is None:
        root = start.root.with_name(SEARCH)
        newest = RunFolder.newest(root, finished=True)
        if newest is None:
            raise ValueError(
                f"no finished search under {root}; run search.py first, or pass "
                "genotype=DARTS_V2 (or another name or path)"
            )
        source = str(newest.path / "genotype.json")
    return Genotype.load(source), source
