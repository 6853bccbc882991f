"""Every example command of the README runs: on digits, with tiny settings."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from darts_gdas.runtime.files import RunFolder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = ["dataset=digits", "dataset.test_fraction=0.9", "epochs=1", "net.channels=2", "net.layers=3"]
SCORED = ["dataset=digits", "dataset.test_fraction=0.9", "count=3", "channels=2"]
SMALL = ["--channels=2", "--layers=3", "--image-size=8"]
REPLACED = ("count=", "dataset=", "dataset.", "epochs=", "net.channels=", "net.layers=", "device=")


def commands() -> list[str]:
    """The lines `python search.py ...` and of the other programs, in blocks and in the text."""
    programs = r"(?:search\.py|train\.py|-m darts_gdas\.(?:score|compare|report|export|show))"
    found = re.findall(rf"python {programs}[^`\n#]*", README)
    return list(dict.fromkeys(command.strip() for command in found))


def test_there_are_examples_of_both_programs():
    assert sum("search.py" in command for command in commands()) >= 6
    assert sum("train.py" in command for command in commands()) >= 4


def newest_retraining(folder: Path) -> str:
    """What a reader puts in place of RUN, once there is one."""
    found = RunFolder.newest(folder / "outputs" / "train", finished=True)
    return str(found.path) if found else "RUN"


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All commands run in one folder, in the README's order, as a reader would."""
    threads = torch.get_num_threads()
    yield tmp_path_factory.mktemp("readme")
    torch.set_num_threads(threads)


LONG = ("method=darts_2nd", "warm_start=ntk", "penalties.cost.target")
"""Of these there are shorter tests elsewhere."""


def marked(command: str):
    is_long = any(part in command for part in LONG) and " -m darts_gdas" not in command
    return pytest.param(command, marks=[pytest.mark.slow] if is_long else [])


@pytest.mark.parametrize("command", [marked(command) for command in commands()])
def test_the_command_runs(command: str, working_folder: Path, monkeypatch: pytest.MonkeyPatch):
    _, script, *arguments = shlex.split(command.replace("RUN", newest_retraining(working_folder)))
    is_module = script == "-m"
    if is_module:
        script, *arguments = arguments
    unconfigured = [f"darts_gdas.{name}" for name in ("compare", "export", "report")]
    if script == "darts_gdas.show":
        arguments += SMALL
    elif "--cfg" not in arguments and script not in unconfigured:
        kept = [argument for argument in arguments if not argument.startswith(REPLACED)]
        arguments = kept + (SCORED if script == "darts_gdas.score" else TINY)
    if script == "search.py" and not any(a.startswith("method=") for a in arguments):
        arguments.append("method=gdas")  # the default scores 100 cells first
    if "space=nasbench201" in arguments:
        arguments = [a for a in arguments if not a.startswith("net.layers=")]
    if "warm_start=ntk" in arguments:
        arguments.append("warm_start.samples=10")
    monkeypatch.chdir(working_folder)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    try:
        if is_module:
            for name in (script, f"{script}.__main__"):  # others may have imported them
                monkeypatch.delitem(sys.modules, name, raising=False)
            runpy.run_module(script, run_name="__main__")
        else:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:  # of help
        assert "--help" in arguments and not end.code


def test_the_searches_left_their_alphas_in_tensorboard(working_folder: Path):
    folders = [
        p.parent / "tensorboard" for p in working_folder.glob("outputs/search/**/result.json")
    ]
    assert folders
    for folder in folders:
        events = EventAccumulator(str(folder))
        events.Reload()
        curves = [tag for tag in events.Tags()["scalars"] if tag.startswith("probability_")]
        is_bench = "space=nasbench201" in (folder.parent / "overrides.yaml").read_text()
        assert len(curves) == (6 * 5 if is_bench else 2 * 14 * 8)


@pytest.mark.parametrize(
    ("target", "program"),
    [
        ("search", "search.py"),
        ("train", "train.py"),
        ("test", "-m pytest -n auto --dist loadfile --no-loadscope-reorder"),
        ("bench", "-m benchmarks"),
        ("tensorboard", "tensorboard --logdir outputs"),
        ("docs", "mkdocs build --strict"),
    ],
)
def test_make_has_the_target_and_passes_arguments_on(target: str, program: str):
    shown = subprocess.run(
        ["make", "--dry-run", target, "ARGS=key=value"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert any(line.endswith(f"{program} key=value") for line in shown.stdout.splitlines())


def test_the_library_examples_run_and_say_the_truth():
    nets, kernels = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(nets, "README.md", "exec"), names)
    assert names["logits"].shape == (2, 10)
    parameters = sum(
        p.numel() for n, p in names["net"].named_parameters() if not n.startswith("auxiliary")
    )
    assert f"# {parameters:,} parameters" in nets
    exec(compile(kernels, "README.md", "exec"), names)
    assert names["kernel"].shape == (20, 20, 3, 3) and "# [20, 20, 3, 3]" in kernels
    assert names["after"].shape == (20, 3) and "# [20, 3]" in kernels


def test_links_to_files_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
