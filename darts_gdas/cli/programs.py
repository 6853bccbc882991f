"""The programs that train: a search, and the training of a found or a published cell."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.beginning import begin_search
from darts_gdas.cli.closing import (
    class_details,
    cost_details,
    end_search,
    finish_search,
    finish_train,
)
from darts_gdas.cli.errors import program
from darts_gdas.cli.objectives import Returned, objectives
from darts_gdas.cli.prologue import Opened, opened
from darts_gdas.cli.start import Start
from darts_gdas.config import SearchConfig, TrainConfig
from darts_gdas.config.objective import OF_SEARCH, OF_TRAINING, Objective
from darts_gdas.config.rules import check, of_network
from darts_gdas.config.unused import left_out, of_judge, of_limit, without_effect
from darts_gdas.report.alphas import alphas_line
from darts_gdas.report.artifacts import BestGenotype, write_genotype
from darts_gdas.report.live import ReportFile
from darts_gdas.report.loggers import Loggers
from darts_gdas.report.origin import origin_of, origin_told
from darts_gdas.report.source import source_name
from darts_gdas.report.tensorboard import TensorBoard
from darts_gdas.runtime.callbacks import MetricsFile
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.loop import Loop
from darts_gdas.runtime.task import Callback, Task
from darts_gdas.runtime.terminal import EpochTable
from darts_gdas.runtime.usage import put_result
from darts_gdas.space import Genotype
from darts_gdas.tasks.retrain import RetrainTask
from darts_gdas.tasks.search import SearchTask

logger = logging.getLogger(__name__)

SEARCH, TRAIN = "search", "train"


def run_search(cfg: DictConfig) -> Returned:
    """Search, and leave genotype, drawings, curves and summary in the run folder.

    Returns:
        As `objectives` of the finished run; None after a fault in a sweep of this process, where
        it has been told. Elsewhere a fault ends the process.
    """
    return _whole(cfg, SearchConfig, SEARCH, _build_search, _search, OF_SEARCH)


def _whole(
    cfg: DictConfig,
    kind: type[Any],
    name: str,
    build: Callable[[Start[Any], Ranks], tuple[Any, dict[str, str]]],
    work: Callable[[Opened[Any, Any], Loggers], None],
    known: Mapping[str, Objective],
) -> Returned:
    """A run from its configuration to its objectives; `work` is what it does between."""
    has_ended = False
    with program() as mark, opened(mark, cfg, kind, name, build) as run:
        if run is not None:
            with _loggers(run) as loggers:
                work(run, loggers)
        has_ended = True
    return objectives(cfg, known) if has_ended else None


def _build_search(start: Start[SearchConfig], ranks: Ranks) -> tuple[SearchTask, dict[str, str]]:
    said = configuration.said_values(start.overrides)
    check(chain(of_judge(start.config, said), of_limit(said)))
    task = start.config.build(ranks)
    return task, {"data": task.data_digest}


def _loggers(run: Opened[Any, Any]) -> Loggers:
    """The loggers of others that were chosen, closed; of them every failure is a warning."""
    config = run.start.config
    settings = configuration.to_values(run.start.cfg)
    return Loggers(config.logger, run.folder.path, Path(config.outputs), run.name, settings)


def _search(run: Opened[SearchConfig, SearchTask], loggers: Loggers) -> None:
    task, folder = run.built, run.folder
    columns = {
        "train": "train/accuracy",
        "arch": "arch/accuracy",
        "validation": "validation/accuracy",
        "loss": "train/loss",
    }
    callbacks: list[Callback] = [
        loggers,  # first: what takes long to open is no part of the table's time
        EpochTable(run.terminal, columns),
        MetricsFile(folder.metrics, lambda: search_details(task)),
        TensorBoard(folder.tensorboard, view=task.view),
        ReportFile(folder.path),
    ]
    if task.current.monitor.learns:  # else no epoch's genotype means anything
        callbacks.append(BestGenotype(folder.path / "genotype_best.json", task.genotype))
    loop = _begin(run, task, callbacks)
    data = task.current.data
    halves = {"the weights": data.weight_batches.images, "the alphas": data.validation}
    _tell_images(run, halves, task.current.supernet.layout.num_classes)
    if run.ranks.is_first:
        config, said = run.start.config, configuration.said_values(run.start.overrides)
        for text in (*without_effect(config, said), *left_out(config, said)):
            task.current.monitor.warn(text, text)
    if run.start.state is None:
        begin = time.monotonic()
        begin_search(task.current, run)
        loop.seconds += time.monotonic() - begin
    metrics = _run(loop, task, run)
    metrics = metrics | end_search(task, run, loop)
    if run.ranks.is_first:
        said = finish_search(task, folder, metrics, loop, run.start.overrides)
        loggers.conclude()
        put_result(said)


def search_details(task: SearchTask) -> dict[str, Any]:
    """What a line of `metrics.jsonl` holds besides metrics: cost, alphas, genotype, warnings."""
    warnings = list(task.current.monitor.warnings.values())
    return {
        **cost_details(task.compute),
        **class_details(task.current.confusion),
        **alphas_line(task.view()),
        "collapsed": task.current.monitor.collapsed(task.genotype()),
        **({"warnings": warnings} if warnings else {}),
    }


def run_train(cfg: DictConfig) -> Returned:
    """Retrain a genotype, and leave the model and its test accuracy in the run folder.

    Returns:
        As `run_search`.
    """
    return _whole(cfg, TrainConfig, TRAIN, _build_training, _train, OF_TRAINING)


def _build_training(
    start: Start[TrainConfig], ranks: Ranks
) -> tuple[tuple[RetrainTask, str], dict[str, str]]:
    """The task, and where its genotype is from."""
    genotype, source = ranks.from_first(lambda: _find_genotype(start))
    task = start.config.build(genotype, ranks)
    config, said = start.config, configuration.said_values(start.overrides)
    values = {
        "net.layers": config.net.layers,
        "regularization.drop_path": config.regularization.drop_path,
    }
    check(of_network(task.net, {name: value for name, value in values.items() if name in said}))
    return (task, source), {"data": task.data_digest, "genotype_content": genotype.to_json()}


def _train(run: Opened[TrainConfig, tuple[RetrainTask, str]], loggers: Loggers) -> None:
    task, source = run.built
    columns = {"train": "train/accuracy", "test": "test/accuracy", "loss": "train/loss"}
    cfg = configuration.to_values(run.start.cfg)
    said = configuration.said_values(run.start.overrides)
    told = {}  # the first rank alone reads, tells and writes it
    if run.ranks.is_first:
        sources = (source, run.start.config.genotype)
        told = origin_told(sources, task.net.genotype, cfg, said)
    callbacks = [
        loggers,
        EpochTable(run.terminal, columns),
        MetricsFile(
            run.folder.metrics,
            lambda: {**cost_details(task.compute), **class_details(task.confusion), **told},
        ),
        TensorBoard(run.folder.tensorboard),
        ReportFile(run.folder.path),
    ]
    loop = _begin(run, task, callbacks)
    parts = {"training": task.stream.images, "testing": task.test}
    _tell_images(run, parts, task.net.layout.num_classes)
    if run.ranks.is_first:
        run.terminal.say(origin_of(source, cfg, said))
        for text in told.get("warnings", ()):
            logger.warning("the run that this cell comes from warned: %s", text)
        write_genotype(run.folder.path, task.net.genotype, title=source_name(source))
    metrics = _run(loop, task, run)
    if run.ranks.is_first:
        said = finish_train(task, run.folder, metrics, loop, source, told)
        loggers.conclude()
        put_result(said)


def _tell_images(run: Opened[Any, Any], parts: Mapping[str, Images], num_classes: int) -> None:
    """What was read, in one line: files may not be what they seem."""
    if run.ranks.is_first:
        first = next(iter(parts.values()))
        size = " x ".join(map(str, first.shape))
        counts = ", ".join(f"{len(images):,} for {what}" for what, images in parts.items())
        run.terminal.say(f"images of {size} in {num_classes} classes: {counts}")
        asked = run.start.config.batch_size
        if len(first) < asked:
            text = "batch_size=%d is more than there are: each step takes all %d images"
            logger.warning(text, asked, len(first))


def _begin(
    run: Opened[Any, Any],
    task: SearchTask | RetrainTask,
    callbacks: Sequence[Callback],
) -> Loop:
    """The loop, at its beginning or where a checkpoint was written; the run has begun."""
    loop = Loop(
        run.folder,
        kind=run.name,
        fingerprint=run.fingerprint,
        callbacks=callbacks if run.ranks.is_first else [],
        device=task.compute.device,
        ranks=run.ranks,
        saving=run.start.config,
    )
    if run.start.state is not None:
        loop.load(task, run.start.state)
    begins = loop.epoch == loop.step == 0
    why = "" if run.start.state is not None else _why_new(run.start)
    run.begin(f"{'starting' if begins else 'resuming'} {run.name} in {run.folder.path}{why}")
    return loop


def _why_new(start: Start[Any]) -> str:
    """Why `resume=auto` goes on from no checkpoint, where it was to look for one."""
    config = start.config
    if config.resume != "auto" or config.run_dir is not None or configuration.sweep_folder():
        return ""
    if start.folder is None:
        return f"; below {start.root} there is none that this command goes on with"
    return ", which ended before its first checkpoint"


def _run(loop: Loop, task: Task, run: Opened[Any, Any]) -> dict[str, float]:
    with run.stoppable():
        metrics = loop.run(task)
    return metrics


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
        later = RunFolder.newest(root, finished=False)
        if later and later.checkpoints.stat().st_mtime > newest.result.stat().st_mtime:
            logger.warning("a newer search, %s, is not finished; its cell is not taken", later.path)
        source = str(newest.path / "genotype.json")
    return Genotype.load(source), source
