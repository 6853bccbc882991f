"""Runs from Python: the same folder, cell and figures as from the command line."""

import contextlib
import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from darts_gdas.api import Result, _overrides, search, train
from darts_gdas.runtime.task import Progress
from darts_gdas.space import Genotype
from darts_gdas.tasks.search import SearchTask
from tests.tiny import TINY

ROOT = Path(__file__).parents[1]
SMALL = dict(item.split("=") for item in TINY) | {"epochs": 1}


@contextlib.contextmanager
def as_before() -> Iterator[None]:
    """The block leaves the process as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    before = shared()
    yield
    after = shared()
    torch.set_num_threads(threads)
    assert {name: found for name, found in after.items() if found != before[name]} == {}


def shared() -> dict[str, Any]:
    """All that a run in this process could leave changed for whoever has called it."""
    loggers = [
        logging.getLogger(),
        logging.getLogger("darts_gdas"),
        logging.getLogger("matplotlib"),
    ]
    signals = [item for item in signal.Signals if item not in (signal.SIGKILL, signal.SIGSTOP)]
    hydra = GlobalHydra.instance()
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "NumPy's generator": str(np.random.get_state()),
        "Python's generator": random.getstate(),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "arguments, path": (list(sys.argv), list(sys.path)),
        "streams, hooks": (sys.stdout, sys.stderr, sys.excepthook, threading.excepthook),
        "loggers": [(x.level, list(x.handlers), x.propagate, x.disabled) for x in loggers],
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signals": {item: signal.getsignal(item) for item in signals},
        "torch": (
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
        ),
        "hydra": (hydra.is_initialized(), HydraConfig.instance().cfg, version.getbase()),
        "threads": {item.name for item in threading.enumerate()},
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("api")
    with as_before():
        return search({**SMALL, "run_dir": folder / "run", "seed": 5})


def test_a_search_finds_what_the_command_finds(found: Result):
    place = found.folder.parent
    command = [sys.executable, ROOT / "search.py", *TINY, "epochs=1", "seed=5", "run_dir=other"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)
    result = json.loads((place / "other" / "result.json").read_text())
    assert found.genotype == Genotype.load(place / "other")
    same = [name for name in result["metrics"] if "seconds" not in name and "memory" not in name]
    assert {n: found.metrics[n] for n in same} == {n: result["metrics"][n] for n in same}
    assert Result.of(found.folder) == found


def test_the_page_is_shown_inside_and_shut_off(found: Result):
    opening = r'<iframe sandbox="allow-scripts" style="[^"]*"'
    frame = re.fullmatch(rf'{opening} srcdoc="([^"]*)"></iframe>', found._repr_html_())
    assert frame is not None
    page = unescape(frame[1])
    assert page.lstrip().lower().startswith("<!doctype html>") and "Search" in page


def test_what_was_found_is_trained_and_a_finished_run_is_given_again(found: Result, capsys):
    small = {"epochs": 1, "net": {"channels": 2, "layers": 3}, "dataset.test_fraction": 0.9}
    settings = {**small, "genotype": found.genotype, "run_dir": found.folder.parent / "trained"}
    settings["regularization.auxiliary_weight"] = 0
    trained = train(settings)
    assert trained.genotype == found.genotype and 0 <= trained.metrics["test/accuracy"] <= 1
    assert train({**settings, "resume": "auto"}) == trained
    assert "has finished already" in capsys.readouterr().out


def test_a_folder_with_the_signs_of_a_reference_is_a_folder(tmp_path: Path, capsys):
    settings = {**SMALL, "run_dir": tmp_path / "${x}"}
    assert search(settings).folder == tmp_path / "${x}"
    assert search({**settings, "resume": "auto"}).folder == tmp_path / "${x}"
    assert "has finished already" in capsys.readouterr().out


def test_a_folder_is_chosen_where_none_is_said_and_lists_are_choices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {**SMALL, "penalties": ["cost"], "penalties.cost.target": 3000}
    assert search(settings).folder.parent == tmp_path / "outputs" / "search"
    (config,) = tmp_path.glob("outputs/search/*/config.yaml")
    assert "target: 3000" in config.read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methd": "gdas"}, "there is no setting 'methd'; did you mean method"),
        (
            {"dataset": "mnist"},
            r"dataset=mnist is not known; did you mean medmnist\? choose one of",
        ),
        ({"batch_size": 0}, "batch_size"),
        ({"method": ["gdas", "darts"]}, r"'method' takes one name, no list, got \[gdas,darts\]"),
        ({"resume": "outputs/x"}, "resume must be auto or none here"),
        ({"hydra.mode": "MULTIRUN"}, "'hydra.mode' is for the command line"),
        ({"net": {"chanels": 2}}, "there is no setting 'net.chanels'; did you mean net.channels"),
        (OmegaConf.create({"net": {"channels": 0}}), "net.channels"),
        ({"optimizer": None}, "what is chosen for a part must be a name"),
        ({"run_dir": "/tmp/${x}"}, "Interpolation key 'x' not found"),
        (
            {"optimizer": {"lr": 0.1}, "optimizer.lr": 0.2},
            r"optimizer\.lr is set twice, optimizer\.lr=0\.1 and optimizer\.lr=0\.2; leave one of",
        ),
        ({"hydra": {"mode": "MULTIRUN"}}, "'hydra' is for the command line"),
        ({"optimizer.lr": np.float32(-0.5)}, "optimizer.lr must be positive, got -0.5"),
        (
            {"dataset": "torchvision", "dataset.name": "EMNIST", "dataset.root": "."}
            | {"dataset.options": {"split": "no letters=", "train": None}},
            "dataset.options of EMNIST may have split, got 'train'",
        ),
    ],
)
def test_bad_input_is_a_value_error_and_leaves_no_folder(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        search({"run_dir": tmp_path / "run", **settings})
    assert not list(tmp_path.iterdir())


def test_a_new_folder_goes_where_nothing_was_begun(tmp_path):
    with pytest.raises(ValueError, match=r"net\.layers"):
        search({"outputs": tmp_path, "method": "gdas", "net.layers": 1})
    assert not [path for path in tmp_path.rglob("*") if path.name not in ("search",)]


def test_settings_may_be_nested():
    """Read by hydra, each is the value again."""
    stages = [{"epochs": 1, "layers": 3, "drop": []}, {"epochs": 2}]
    settings = {"net": {"channels": 2}, "stages": stages, "dataset.augment": {"flip": True}}
    read = OverridesParser.create().parse_overrides(list(_overrides(settings)))
    assert {item.key_or_group: item.value() for item in read} == {
        "net.channels": 2, "stages": stages, "dataset.augment.flip": True,
    }  # fmt: skip


def test_values_of_other_packages_are_numbers_and_a_genotype_is_its_text():
    genotype = Genotype.load("DARTS_V2")
    settings = {"epochs": torch.tensor(3), "seed": np.int64(4), "class_weights": np.ones(2)}
    settings |= {"a": torch.tensor([0.5, 2.0]), "b": OmegaConf.create([1, [2]])}
    settings |= {"c": [torch.ones(1)], "genotype": genotype}
    *values, cell = OverridesParser.create().parse_overrides(list(_overrides(settings)))
    assert [item.value() for item in values] == [3, 4, [1.0, 1.0], [0.5, 2.0], [1, [2]], [[1.0]]]
    assert Genotype.load(str(cell.value())) == genotype


def test_what_can_be_a_list_is_one_and_a_set_has_an_order():
    settings = {"a": {10, 9}, "b": range(3), "c": (name for name in "xy"), "d": [{"e": {1}}]}
    read = OverridesParser.create().parse_overrides(list(_overrides(settings)))
    assert [item.value() for item in read] == [[9, 10], [0, 1, 2], ["x", "y"], [{"e": [1]}]]


@pytest.mark.parametrize("name", ["${x}", "a\\${x}", "\\\\${x}", "$x {}"])
def test_a_path_refers_to_no_other_setting(name: str):
    (typed,) = _overrides({"run_dir": Path("/tmp", name)})
    read = OverridesParser.create().parse_override(typed).value()
    assert OmegaConf.create({"run_dir": read}).run_dir == f"/tmp/{name}"


@pytest.mark.parametrize("settings", ["method=gdas", ["method=gdas"]], ids=repr)
def test_settings_are_a_mapping(settings: Any):
    with pytest.raises(ValueError, match="settings must be a mapping of names to values, got"):
        search(settings)


def test_the_main_thread_is_asked_for():
    caught = []

    def work() -> None:
        try:
            search(SMALL)
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught == ["a run belongs in the main thread, where it can be stopped"]


def test_a_folder_without_a_result_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="holds no result of a run"):
        Result.of(tmp_path)


@pytest.mark.parametrize(
    ("settings", "fault", "end"),
    [
        ({"verbosity": "verbose", "threads": 1}, signal.SIGINT, KeyboardInterrupt),
        ({}, signal.SIGTERM, SystemExit),
        ({"batch_size": 0}, None, ValueError),
        ({}, FloatingPointError("diverged"), RuntimeError),
    ],
    ids=str,
)
def test_however_it_ends_the_process_is_left_as_it_was_found(
    tmp_path, monkeypatch, settings, fault, end
):
    step = SearchTask.train_step

    def disturbed(task: SearchTask, progress: Progress) -> Mapping[str, tuple[torch.Tensor, int]]:
        if isinstance(fault, Exception):
            raise fault
        signal.raise_signal(fault)
        return step(task, progress)

    monkeypatch.setattr(SearchTask, "train_step", disturbed)
    with initialize(version_base="1.2"), as_before(), pytest.raises(end) as caught:
        search({**SMALL, "run_dir": tmp_path / "run", **settings})
    if end is SystemExit:
        assert caught.value.code == 143
