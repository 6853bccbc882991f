"""The entry points: from a composed configuration to a finished run folder.

Everything that can be wrong with the input is found before the run folder is made, and said in
one line with exit status 2.
"""

import contextlib
import difflib
import json
import logging
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import darts_gdas
from darts_gdas import config as configuration
from darts_gdas.config import RunConfig, SearchConfig, TrainConfig
from darts_gdas.nets import DerivedNet, count_multiply_adds, count_parameters
from darts_gdas.report.artifacts import BestGenotype, write_genotype
from darts_gdas.report.summary import count, duration, genotype_lines, summary
from darts_gdas.report.tensorboard import TensorBoard
from darts_gdas.runtime import checkpoint
from darts_gdas.runtime.callbacks import Console, MetricsFile
from darts_gdas.runtime.checkpoint import CheckpointError, CheckpointFolder, State
from darts_gdas.runtime.files import RunFolder, write_text
from darts_gdas.runtime.loop import Callback, Loop, Task, check_state
from darts_gdas.runtime.signals import Interrupted
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import load_model, save_model
from darts_gdas.tasks.retrain import RetrainTask, evaluate_net
from darts_gdas.tasks.search import SearchTask

USAGE_ERROR = 2
SEARCH, TRAIN = "search", "train"


# ---- errors


@contextlib.contextmanager
def usage_errors(*more: type[Exception]) -> Iterator[None]:
    """Turn an error of composition (and of `more` types) into one line and exit status 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let hydra raise instead of printing
    try:
        yield
    except (HydraException, OmegaConfBaseException, *more) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR) from None


def one_line(error: Exception) -> str:
    """An error in one line, with what is allowed in place of what was given."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        options = ", ".join(
            option for option in error.options or [] if not option.endswith("_schema")
        )
        return f"{group}={choice} is not known; choose one of {options}"
    told = f"{error}\n{error.__cause__ or ''}"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    misspelt = re.match(r"Could not override '([^']+)'", lines[0]) if lines else None
    if misspelt:
        key = misspelt[1]
        close = difflib.get_close_matches(key, configuration.known_keys(), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"there is no setting {key!r}{hint}"
    internal = re.compile(r"(full_key|reference_type|object_type)\b")
    return "; ".join(line for line in lines if not internal.match(line)) or type(error).__name__


# ---- where a run goes, and from where it goes on


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        config: Typed and checked.
        cfg: The same as composed, to be written down.
        folder: The run's folder.
        overrides: What the user asked for, now and when the run was first started.
        state: The checkpoint to go on from, or None.
    """

    config: Any
    cfg: DictConfig
    folder: RunFolder
    overrides: list[str]
    state: State | None


def prepare(cfg: DictConfig, kind: type[RunConfig], name: str) -> Start | None:
    """Find the run folder and the checkpoint; None if `resume=auto` meets a finished run.

    A resumed run repeats the overrides it was started with, then this command's.

    Raises:
        ValueError: If a value has no meaning, or there is nothing (valid) to resume.
    """
    overrides = configuration.task_overrides()
    config = configuration.typed(cfg, kind)
    folder, state = _locate(config, name)
    if state is None and folder.result.exists():
        print(f"{folder.path} has finished already; nothing to resume")
        return None
    if state is not None:
        check_state(state, name)
        recorded = folder.path / "overrides.yaml"
        if recorded.exists():
            overrides = [*yaml.safe_load(recorded.read_text()), *overrides]
            cfg = configuration.recompose(overrides)
            config = configuration.typed(cfg, kind)
    return Start(config, cfg, folder, overrides, state)


def _locate(config: RunConfig, name: str) -> tuple[RunFolder, State | None]:
    given = config.run_dir or configuration.sweep_folder()
    root = Path(config.outputs) / name
    if config.resume == "none":
        folder = RunFolder(Path(given)) if given else RunFolder.new(root)
        if folder.result.exists() or any(folder.checkpoints.glob("*.pt")):
            raise ValueError(
                f"run_dir {str(folder.path)!r} holds a run already; pass resume=auto to go on "
                "with it, or another run_dir"
            )
        return folder, None
    if config.resume == "auto":
        folder = RunFolder(Path(given)) if given else RunFolder.newest(root, finished=False)
        if folder is None:
            return RunFolder.new(root), None
        found = None if folder.result.exists() else CheckpointFolder(folder.checkpoints).newest()
        return folder, found and found[1]
    return _locate_path(Path(config.resume))


def _locate_path(path: Path) -> tuple[RunFolder, State]:
    """A run folder, or a checkpoint inside one."""
    if path.is_dir():
        folder = RunFolder(path)
        found = CheckpointFolder(folder.checkpoints).newest()
        if found is None:
            raise ValueError(f"resume={path} is a folder without checkpoints")
        state = found[1]
    elif path.is_file():
        folder, state = RunFolder(path.resolve().parent.parent), checkpoint.load(path)
    else:
        raise ValueError(
            f"resume={path} does not exist; pass none, auto, a run folder or a checkpoint"
        )
    if folder.result.exists():
        raise ValueError(f"resume={path}: this run has finished already")
    return folder, state


def check_fingerprint(state: State, fingerprint: str) -> None:
    """Raise a `CheckpointError` that names the settings in which a resumed run differs."""
    was, now = json.loads(state["fingerprint"]), json.loads(fingerprint)
    if was == now:
        return
    changes = [
        f"{key}: {was.get(key)} -> {now.get(key)}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    ]
    raise CheckpointError(
        f"the checkpoint was made with other settings ({'; '.join(changes[:5])}); "
        "resume with the same, or start a new run"
    )


# ---- running


def run_search(cfg: DictConfig) -> None:
    """Search, and leave genotype, drawings, curves and summary in the run folder."""
    _set_up_logging()
    with usage_errors(ValueError, OSError):
        start = prepare(cfg, SearchConfig, SEARCH)
        if start is None:
            return
        config: SearchConfig = start.config
        fingerprint = configuration.fingerprint(config)
        task = config.build()
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
    print(_finish_search(task, start, metrics, loop))


def run_train(cfg: DictConfig) -> None:
    """Retrain a genotype, and leave the model and its test accuracy in the run folder."""
    _set_up_logging()
    with usage_errors(ValueError, OSError):
        start = prepare(cfg, TrainConfig, TRAIN)
        if start is None:
            return
        config: TrainConfig = start.config
        genotype, source = _find_genotype(config, start)
        fingerprint = configuration.fingerprint(config, genotype_content=genotype.to_json())
        task = config.build(genotype)
        columns = {"train": "train/accuracy", "test": "test/accuracy", "loss": "train/loss"}
        callbacks: list[Callback] = [TensorBoard(start.folder.tensorboard)]
        loop = _loop(start, TRAIN, fingerprint, task, columns, callbacks)
        write_genotype(start.folder.path, genotype, title=source)
    metrics = _run(loop, task, start)
    print(_finish_train(task, start, metrics, loop, source))


def _set_up_logging() -> None:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)


def _loop(
    start: Start,
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
    folder.create()
    write_text(folder.path / "config.yaml", configuration.to_yaml(start.cfg))
    kept = [item for item in start.overrides if not item.startswith(("resume=", "run_dir="))]
    write_text(folder.path / "overrides.yaml", yaml.safe_dump(kept))
    return loop


def _run(loop: Loop, task: Task, start: Start) -> dict[str, float]:
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


def _find_genotype(config: TrainConfig, start: Start) -> tuple[Genotype, str]:
    """The genotype to retrain and where it is from."""
    source = config.genotype
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


# ---- closing


def _finish_search(task: SearchTask, start: Start, metrics: dict[str, float], loop: Loop) -> str:
    folder, genotype = start.folder, task.genotype()
    shape = (task.data.validation.in_channels, *task.data.validation.image_size)
    layout = replace(task.supernet.layout)
    net = DerivedNet(genotype, layout)
    parameters, multiply_adds = count_parameters(net), count_multiply_adds(net, shape)
    write_genotype(folder.path, genotype, title=f"searched in {folder.path.name}")
    folder.write_json(
        folder.result.name,
        {
            "kind": SEARCH,
            "genotype": json.loads(genotype.to_json()),
            "metrics": metrics,
            "best": {key: loop.best[key] for key in ("epoch", "value")},
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "seconds": loop.seconds,
            **_versions(task.compute.describe()),
        },
    )
    facts = {
        "validation": f"{100 * metrics['validation/accuracy']:.2f} % under shared weights",
        "parameters": f"{count(parameters)} as a network of the search's size "
        f"(C={layout.channels}, L={layout.layers})",
        "multiply-adds": count(multiply_adds),
        "time": f"{duration(loop.seconds)} on {task.compute.describe()}",
        "genotype": str(folder.path / "genotype.json"),
        "picture": str(folder.path / "cells.svg"),
        "curves": f"tensorboard --logdir {folder.tensorboard}",
    }
    return summary(
        "Search finished",
        facts,
        genotype_lines(genotype),
        f"python train.py genotype={folder.path}",
    )


def _finish_train(
    task: RetrainTask, start: Start, metrics: dict[str, float], loop: Loop, source: str
) -> str:
    folder, layout = start.folder, task.net.layout
    path = folder.path / "model.pt"
    save_model(path, task.model())
    saved = load_model(path)  # the figures below are those of the file
    test = evaluate_net(task.compute.place(saved.net), task.test, task.normalize, task.compute)
    shape = (layout.in_channels, *task.test.image_size)
    parameters, multiply_adds = count_parameters(task.net), count_multiply_adds(task.net, shape)
    folder.write_json(
        folder.result.name,
        {
            "kind": TRAIN,
            "genotype": json.loads(task.net.genotype.to_json()),
            "genotype_source": source,
            "test": test,
            "metrics": metrics,
            "best": {key: loop.best[key] for key in ("epoch", "value")},
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "seconds": loop.seconds,
            **_versions(task.compute.describe()),
        },
    )
    facts = {
        "test accuracy": f"{100 * test['accuracy']:.2f} % (top 5: "
        f"{100 * test['accuracy_top5']:.2f} %) on {len(task.test)} held-out images",
        "genotype": source,
        "parameters": f"{count(parameters)} (C={layout.channels}, L={layout.layers})",
        "multiply-adds": count(multiply_adds),
        "time": f"{duration(loop.seconds)} on {task.compute.describe()}",
        "model": str(path),
        "result": str(folder.result),
    }
    return summary("Retraining finished", facts, [], f"tensorboard --logdir {folder.tensorboard}")


def _versions(device: str) -> dict[str, str]:
    return {
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "darts_gdas": darts_gdas.__version__,
    }
