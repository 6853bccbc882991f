import os
import shlex
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import darts_gdas
from darts_gdas.runtime.launch import (
    command,
    first_host,
    is_follower,
    joined,
    own_door,
    retraining,
    setting,
    shell_quoted,
    take_gpu,
)

AWKWARD = (
    *("photos", "photos (new)", "\u65e5\u672c", "it's", "a b", "a,b", "a=b", "~/x", "C:\\new\\"),
    *("1_000", "null", "True", "[x]", "{a: 1}", "$HOME", "`x`", "a\\'b", "007"),
    *("say \"x\"", "", "a#b;c&d"),
)  # fmt: skip
"""Names that people give to folders, and names that would be something else."""


@pytest.mark.parametrize("text", AWKWARD)
def test_a_setting_survives_the_shell_and_hydra(text: str):
    """Pasted into a shell, and read by hydra, it is the text again."""
    line = shell_quoted(setting("dataset.root", text))
    shown = ["sh", "-c", f"printf %s {line}"]
    pasted = subprocess.run(shown, check=True, capture_output=True).stdout.decode()
    assert shlex.split(line) == [pasted]
    read = OverridesParser.create().parse_override(pasted)
    assert read.value() == text and read.is_sweep_override() is False
    assert isinstance(read.value(), str)


def test_settings_that_are_no_texts_stand_as_they_are():
    values = {"a": None, "b": True, "c": 3, "d": 1e-3}
    assert [setting(*pair) for pair in values.items()] == ["a=null", "b=true", "c=3", "d=0.001"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("search.py", "python train.py"),
        ("/opt/nas here/search.py", "python '/opt/nas here/train.py'"),
        ("/usr/bin/darts-gdas", "darts-gdas train"),
        ("/site/darts_gdas/score.py", f"python {Path(darts_gdas.__file__).parents[1]}/train.py"),
        ("arrays.py", "python arrays.py train"),
        ("/site/darts_gdas/__main__.py", "python -m darts_gdas train"),
        ("/site/mine/__main__.py", "python -m mine train"),
        ("/site/folder/__main__.py", "python /site/folder/__main__.py train"),
    ],
)
def test_a_command_is_in_the_words_of_the_start(
    script: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """`arrays.py` is a user's own, which has called the command of all programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script])
    package = Path(script).parent.name
    spec = ModuleSpec(f"{package}.__main__", None) if package in ("darts_gdas", "mine") else None
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    token = own_door.set(script if script.endswith("__main__.py") else "arrays.py")
    try:
        assert command("train") == expected
    finally:
        own_door.reset(token)


def test_another_interpreter_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(sys, "argv", ["search.py"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command("train") == f"{sys.executable} train.py"
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert command("train") == ".venv/bin/python train.py"


def test_retraining_names_the_data_of_the_search(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["search.py"])
    said = ["method=gdas", "dataset=image_folder", "dataset.root='a (b)'", "datasets=1", "seed=1"]
    line = retraining(Path("out/1"), said)
    assert line == "python train.py genotype=out/1 dataset=image_folder \"dataset.root='a (b)'\""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody has started several processes."""
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    for name in {*names, *(name for name in os.environ if name.startswith("SLURM_"))}:
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a number from 1 on, got 'two'"),
        ({"WORLD_SIZE": "2"}, "MASTER_ADDR is not set; start with torchrun"),
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}, "RANK must be a number"),
        (
            {"WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1", "RANK": "2"},
            "RANK must be less than WORLD_SIZE=2, got 2",
        ),
    ],
)
def test_variables_that_make_no_sense_are_named(
    bare: pytest.MonkeyPatch, variables: dict[str, str], message: str
):
    for name, value in variables.items():
        bare.setenv(name, value)
    with pytest.raises(ValueError, match=message), joined(1.0):
        pass


def test_a_timeout_that_is_none_is_refused(bare: pytest.MonkeyPatch):
    bare.setenv("WORLD_SIZE", "2")
    message = "rank_timeout_minutes must be positive, got 0"
    with pytest.raises(ValueError, match=message), joined(0.0):
        pass


def test_tasks_of_srun_are_ranks_and_a_batch_script_is_none(bare: pytest.MonkeyPatch):
    bare.setenv("SLURM_NTASKS", "3")
    bare.setenv("SLURM_JOB_ID", "17")
    assert not is_follower() and "WORLD_SIZE" not in os.environ
    for name, value in (("PROCID", "2"), ("LOCALID", "1"), ("STEP_ID", "0")):
        bare.setenv(f"SLURM_{name}", value)
    bare.setenv("SLURM_STEP_NODELIST", "gpu[03-07,12]")
    assert is_follower()
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR")
    assert [os.environ[name] for name in names] == ["3", "2", "1", "gpu03"]
    assert 20000 <= int(os.environ["MASTER_PORT"]) < 40000


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("localhost", "localhost"),
        ("a,b", "a"),
        ("gpu[03-07,12],x1", "gpu03"),
        ("n[5]", "n5"),
        ("rack[1-2]-ib,x", "rack1-ib"),
    ],
)
def test_the_first_host_of_a_list(hosts: str, first: str):
    assert first_host(hosts) == first


def test_no_hosts_are_an_error():
    with pytest.raises(ValueError, match="this is no list of hosts: ''"):
        first_host("")


@pytest.mark.parametrize(
    ("visible", "number", "left"),
    [("0,1,2", 0, "0"), ("0,1,2", 5, "2"), ("GPU-a,GPU-b", 1, "GPU-b"), ("", 3, "")],
)
def test_processes_of_one_machine_go_round_its_gpus(
    monkeypatch: pytest.MonkeyPatch, visible: str, number: int, left: str
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    take_gpu(number)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
