"""The programs: from a composed configuration to a finished run folder.

Everything that can be wrong with the input is found before the run folder is made.
"""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.beginning import begin_search
from darts_gdas.cli.closing import end_search, finish_search, finish_train
from darts_gdas.cli.details import cost_details, search_details
from darts_gdas.cli.errors import sweep_goes_on, usage_errors
from darts_gdas.cli.memory import memory_errors
from darts_gdas.cli.start import (
    Start,
    check_fingerprint,
    how_to_go_on,
    open_folder,
    open_terminal,
    prepare,
    take_own_gpu,
)
from darts_gdas.config import SearchConfig, TrainConfig
from darts_gdas.report.artifacts import BestGenotype, write_genotype
from darts_gdas.report.live import ReportFile
from darts_gdas.report.tensorboard import TensorBoard
from darts_gdas.runtime.callbacks import MetricsFile
from darts_gdas.runtime.distributed import Ranks, same_fate
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.launch import joined
from darts_gdas.runtime.loop import Loop
from darts_gdas.runtime.signals import Interrupted
from darts_gdas.runtime.task import Callback, Task
from darts_gdas.runtime.terminal import EpochTable, Terminal
from darts_gdas.runtime.usage import FAULT
from darts_gdas.space import Genotype
from darts_gdas.tasks.retrain import RetrainTask
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.staged import StagedSearchTask, present

SEARCH, TRAIN = "search", "train"


def run_search(cfg: DictConfig) -> int:
    """Search, and leave genotype, drawings, curves and summary in the run folder.

    Returns:
        The exit status, in a sweep of this process; elsewhere a fault ends it.
    """
    # Errors are told before hydra has words for them.
    with sweep_goes_on(), usage_errors(), contextlib.ExitStack() as stack:
        with usage_errors(ValueError, OSError):
            terminal = open_terminal(cfg)
            take_own_gpu()
            ranks = stack.enter_context(joined(cfg.rank_timeout_minutes))
            start = prepare(cfg, SearchConfig, SEARCH, ranks)
            if start is None:
                return 0
            stack.enter_context(memory_errors(start.config))
            with same_fate(ranks, ValueError, OSError):
                task = start.config.build(ranks)
                fingerprint = configuration.fingerprint(start.config, data=task.data_digest)
                _check_resumed(start, fingerprint)
            folder = _enter(stack, start, ranks)
            columns = {
                "train": "train/accuracy",
                "arch": "arch/accuracy",
                "validation": "validation/accuracy",
                "loss": "train/loss",
            }
            callbacks: list[Callback] = [
                EpochTable(terminal, columns),
                MetricsFile(folder.metrics, lambda: search_details(task)),
                TensorBoard(folder.tensorboard, view=task.view),
                ReportFile(folder.path),
            ]
            if present(task).monitor.learns:  # else no epoch's genotype means anything
                best = folder.path / "genotype_best.json"
                callbacks.append(BestGenotype(best, task.genotype))
            loop = _loop(SEARCH, folder, fingerprint, callbacks, task, start)
            _announce(loop, folder, terminal)
        if start.state is None:
            begin_search(present(task), start.config.warm_start, folder, fingerprint, terminal)
        metrics = _run(loop, task, folder)
        metrics = metrics | end_search(present(task), folder, loop, terminal)
        if ranks.is_first:
            print(finish_search(present(task), folder, metrics, loop))
        return 0
    return FAULT


def run_train(cfg: DictConfig) -> int:
    """Retrain a genotype, and leave the model and its test accuracy in the run folder.

    Returns:
        As of `run_search`.
    """
    # Errors are told before hydra has words for them.
    with sweep_goes_on(), usage_errors(), contextlib.ExitStack() as stack:
        with usage_errors(ValueError, OSError):
            terminal = open_terminal(cfg)
            take_own_gpu()
            ranks = stack.enter_context(joined(cfg.rank_timeout_minutes))
            start = prepare(cfg, TrainConfig, TRAIN, ranks)
            if start is None:
                return 0
            stack.enter_context(memory_errors(start.config))
            genotype, source = ranks.from_first(lambda: _find_genotype(start))
            with same_fate(ranks, ValueError, OSError):
                task = start.config.build(genotype, ranks)
                fingerprint = configuration.fingerprint(
                    start.config, data=task.data_digest, genotype_content=genotype.to_json()
                )
                _check_resumed(start, fingerprint)
            folder = _enter(stack, start, ranks)
            columns = {"train": "train/accuracy", "test": "test/accuracy", "loss": "train/loss"}
            callbacks = [
                EpochTable(terminal, columns),
                MetricsFile(folder.metrics, lambda: cost_details(task.compute)),
                TensorBoard(folder.tensorboard),
                ReportFile(folder.path),
            ]
            loop = _loop(TRAIN, folder, fingerprint, callbacks, task, start)
            _announce(loop, folder, terminal)
            if ranks.is_first:
                write_genotype(folder.path, genotype, title=source)
        metrics = _run(loop, task, folder)
        if ranks.is_first:
            print(finish_train(task, folder, metrics, loop, source))
        return 0
    return FAULT


def _check_resumed(start: Start[Any], fingerprint: str) -> None:
    """Raise where a resumed run is not the one that was started."""
    if start.state is not None:
        check_fingerprint(start.state, fingerprint)


def _enter(stack: contextlib.ExitStack, start: Start[Any], ranks: Ranks) -> RunFolder:
    """The run folder, made and locked until the stack closes: the input is right."""
    return ranks.from_first(lambda: stack.enter_context(open_folder(start)))


def _loop(
    kind: str,
    folder: RunFolder,
    fingerprint: str,
    callbacks: Sequence[Callback],
    task: SearchTask | StagedSearchTask | RetrainTask,
    start: Start[Any],
) -> Loop:
    """The loop, ready to run, from the beginning or from a checkpoint."""
    ranks, state = task.compute.ranks, start.state
    loop = Loop(
        folder,
        kind=kind,
        fingerprint=fingerprint,
        callbacks=callbacks if ranks.is_first else [],
        device=task.compute.device,
        ranks=ranks,
        saving=start.config,
    )
    if state is not None:
        loop.load(task, state)
    return loop


def _announce(loop: Loop, folder: RunFolder, terminal: Terminal) -> None:
    if loop.ranks.is_first:
        begins = loop.epoch == loop.step == 0
        terminal.say(f"{'starting' if begins else 'resuming'} {loop.kind} in {folder.path}")


def _run(loop: Loop, task: Task, folder: RunFolder) -> dict[str, float]:
    try:
        return loop.run(task)
    except Interrupted as stop:
        if loop.ranks.is_first:
            print(f"{stop}\n{how_to_go_on(loop.kind, folder)}", file=sys.stderr)
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
