"""Sweeps with a launcher: what `hydra/launcher=slurm` and `=local_processes` ask for and do."""

import contextlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from darts_gdas.cli.start import take_own_gpu
from darts_gdas.config import register
from darts_gdas.reasons import installing
from darts_gdas.runtime.compute import Device
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
GPUS = "hydra.launcher.gpus_per_node"
needs_submitit = pytest.mark.skipif(
    not find_spec("submitit") or not find_spec("hydra_plugins.hydra_submitit_launcher"),
    reason="the extra `slurm` is not installed",
)
register()


def launcher(*overrides: str, root: str = "search") -> dict[str, Any]:
    """The launcher's settings, as its constructor gets them."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(root, list(overrides), return_hydra_config=True)
    cfg.hydra.job.name = root
    settings = cfg.hydra.launcher
    return {name: settings[name] for name in settings if name != "submitit_folder"}


@needs_submitit
@pytest.mark.parametrize("root", ["search", "train", "score"])
def test_a_job_on_slurm_has_a_task_for_each_gpu_and_is_requeued(root: str):
    found = launcher("hydra/launcher=slurm", f"{GPUS}=4", root=root)
    assert found["_target_"].endswith("SlurmLauncher")
    assert (found["nodes"], found["gpus_per_node"], found["tasks_per_node"]) == (1, 4, 4)
    assert (found["cpus_per_task"], found["timeout_min"]) == (8, 1440)
    assert (found["signal_delay_s"], found["max_num_timeout"]) == (300, 100)


@needs_submitit
def test_what_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another route: the script that submitit writes, with a `sbatch` of ours."""
    for name, text in (("sbatch", 'cp "$1" "$OUT"; echo Submitted batch job 7'), ("srun", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("OUT", str(tmp_path / "script"))
    submitit = pytest.importorskip("submitit")
    found = launcher("hydra/launcher=slurm", f"{GPUS}=4", "hydra.launcher.partition=long")
    own = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes",
           "name", "stderr_to_stdout"}  # fmt: skip
    parameters = {
        name if name in own else f"slurm_{name}": value
        for name, value in found.items()
        if name not in ("_target_", "max_num_timeout")
    }
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(**parameters)
    executor.map_array(print, [1, 2])
    script = (tmp_path / "script").read_text()
    for option in ("array=0-1%2", "gpus-per-node=4", "ntasks-per-node=4", "cpus-per-task=8",
                   "time=1440", "signal=USR2@300", "partition=long"):  # fmt: skip
        assert f"#SBATCH --{option}\n" in script.replace("'", ""), script


@needs_submitit
def test_local_processes_wait_for_each_other_and_need_the_number_of_gpus():
    found = launcher("hydra/launcher=local_processes", f"{GPUS}=2")
    assert found["_target_"].endswith("LocalLauncher")
    assert (found["gpus_per_node"], found["tasks_per_node"]) == (2, 1)
    assert found["timeout_min"] == 365 * 24 * 60


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "CUDA_"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


def sweep(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "search.py"), "-m", "hydra/launcher=local_processes", *TINY,
         "hydra.sweep.dir=sweep", *arguments],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def said(folder: Path) -> str:
    """What all jobs of a sweep have written."""
    return "\n".join(path.read_text() for path in folder.glob("sweep/.submitit/*/*_log.*"))


def job_processes(folder: Path) -> list[int]:
    """The processes that run jobs of the sweep in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").resolve() == folder.resolve():
                command = (entry / "cmdline").read_text()
                found += [int(entry.name)] if "submitit.core._submit" in command else []
    return found


@needs_submitit
def test_a_job_of_a_sweep_is_requeued_in_its_folder(tmp_path: Path):
    """The signal that launchers send ahead of a time limit: saved, requeued, gone on with."""
    process = sweep(
        tmp_path, "epochs=15", "seed=1,2", f"{GPUS}=2", "hydra.sweeper.max_batch_size=2"
    )
    try:
        deadline = time.monotonic() + 120
        while said(tmp_path).count(" 2/15 ") < 2 and process.poll() is None:
            assert time.monotonic() < deadline, said(tmp_path)
            time.sleep(0.05)
        running = job_processes(tmp_path)
        assert len(running) == 2
        os.kill(running[0], signal.SIGUSR2)
        out, _ = process.communicate(timeout=180)
    finally:
        process.kill()
    text = said(tmp_path)
    assert process.returncode == 0, (out, text)
    assert text.count("the state will be saved") == 1 and text.count("resuming search in") == 1, (
        text
    )
    assert text.count("15/15 ") == 2, text
    for number in (0, 1):
        result = json.loads((tmp_path / "sweep" / str(number) / "result.json").read_text())
        assert result["kind"] == "search"


@needs_submitit
@pytest.mark.parametrize(("number", "gpu"), [(0, "4"), (1, "7"), (2, "4")])
def test_a_job_sees_no_gpu_but_its_own(monkeypatch: pytest.MonkeyPatch, number: int, gpu: str):
    choice = ("hydra/launcher=local_processes", f"{GPUS}=2", "hydra.sweeper.max_batch_size=2")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("search", list(choice), return_hydra_config=True)
    with open_dict(cfg.hydra.job):
        cfg.hydra.job.num = number
    monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    take_own_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu


@needs_submitit
def test_jobs_that_would_share_a_gpu_are_refused(tmp_path: Path):
    process = sweep(tmp_path, "epochs=1", "seed=1", f"{GPUS}=2")
    out, _ = process.communicate(timeout=240)
    assert process.returncode != 0
    assert "pass hydra.sweeper.max_batch_size=2, so that the others wait" in said(tmp_path) + out


@pytest.fixture
def two_hidden_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr("darts_gdas.runtime.launch.DEVICES", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def job_of(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    """What a job with these settings finds in hydra."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("search", list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.job.num = 0
    monkeypatch.setattr(HydraConfig, "get", lambda: cfg.hydra)


@needs_submitit
def test_a_launcher_that_hides_all_gpus_unasked_is_refused(monkeypatch, two_hidden_gpus, caplog):
    job_of(monkeypatch, "hydra/launcher=submitit_local")
    with pytest.raises(ValueError, match=r"pass hydra.launcher.gpus_per_node=N .* or device=cpu"):
        take_own_gpu(Device.auto)
    take_own_gpu(Device.cpu)
    job_of(monkeypatch, "hydra/launcher=local_processes", f"{GPUS}=0")
    take_own_gpu(Device.auto)
    assert not caplog.records


def test_any_other_job_that_sees_no_gpu_though_there_are_some_says_so(
    monkeypatch, two_hidden_gpus, caplog
):
    job_of(monkeypatch)
    take_own_gpu(Device.auto)
    assert "empty, so this machine's 2 GPUs are not used; device=cpu" in caplog.text
    caplog.clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    take_own_gpu(Device.auto)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    take_own_gpu(Device.auto)
    assert not caplog.records


def test_a_missing_extra_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    known = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in ("submitit_local.yaml", "submitit_slurm.yaml"):
        if name in known:
            monkeypatch.delitem(known, name)
    monkeypatch.chdir(tmp_path)
    for choice in ("slurm", "local_processes"):
        arguments = ["search.py", "-m", f"hydra/launcher={choice}", "seed=1"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "search.py"), run_name="__main__")
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert installing("slurm") in line


@pytest.mark.parametrize("root", ["search", "train", "score"])
def test_without_a_launcher_nothing_of_it_is_needed(root: str):
    assert launcher(root=root)["_target_"].endswith("BasicLauncher")


DOCUMENTED = (ROOT / "docs" / "cluster.md").read_text()


@needs_submitit
@pytest.mark.parametrize("command", re.findall(r"^python search\.py -m (.*)$", DOCUMENTED, re.M))
def test_documented_sweeps_compose(command: str):
    chosen = [
        f"{key}={values.split(',')[0]}" for key, values in re.findall(r"(\S+)=(\S+)", command)
    ]
    assert "submitit" in launcher(*chosen)["_target_"]


def test_the_documented_defaults_are_those_of_the_file():
    text = (ROOT / "conf" / "hydra" / "launcher" / "slurm.yaml").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", DOCUMENTED, re.M))
    for name in (
        "gpus_per_node",
        "cpus_per_task",
        "timeout_min",
        "signal_delay_s",
        "max_num_timeout",
    ):
        assert re.search(rf"^{name}: {table[name]}\b", text, re.M), name


def test_the_batch_script_holds_what_the_documentation_explains():
    script = (ROOT / "docs" / "slurm_job.sh").read_text()
    for part in (
        "#SBATCH --requeue\n",
        "#SBATCH --signal=B:USR2@300\n",
        "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2",
        "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1\n",
        'run_dir="$run_dir" resume=auto',
    ):
        assert part in script
    subprocess.run(["bash", "-n", ROOT / "docs" / "slurm_job.sh"], check=True)
