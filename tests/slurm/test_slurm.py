"""Jobs on a real Slurm of one machine: requeued in the middle, they end as if undisturbed."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from darts_gdas.space import Genotype
from tests.tiny import TINY

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
EPOCHS = 500
"""Of a run that does not end within the limit of two minutes."""

REVOKED = 3
"""Seconds for which the node refuses a job that it has just ended."""

MISSING = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(MISSING), reason=f"no Slurm on this machine: {MISSING} missing"),
    pytest.mark.skipif(os.getuid() != 0, reason="starting a Slurm of one's own needs root"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A running Slurm; the environment in which its commands find it."""
    folder = tmp_path_factory.mktemp("slurm")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | {
        "S": str(folder),
        "SLURM_CONF": str(folder / "slurm.conf"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    with open(Path(tempfile.gettempdir()) / "darts_gdas_slurm.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its ports are the same for all
        up = subprocess.run([HERE / "up.sh"], env=environment, capture_output=True, text=True)
        try:
            assert up.returncode == 0, up.stderr
            yield environment
        finally:
            subprocess.run([HERE / "down.sh"], env=environment, check=True, timeout=60)


def ask(cluster: dict[str, str], *command: str, cwd: Path | None = None) -> str:
    """What a command of Slurm prints."""
    done = subprocess.run(command, env=cluster, cwd=cwd, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def until(condition: Callable[[], object], what: Callable[[], str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


class Job:
    """A run on two ranks, started with the script of the documentation."""

    def __init__(self, cluster: dict[str, str], folder: Path, run_dir: str) -> None:
        self.cluster, self.folder = cluster, folder
        options = ("--parsable", "--gpus-per-node=2", "--cpus-per-task=2", "--time=20")
        script = ("docs/slurm_job.sh", "search.py")
        sbatch = ("sbatch", *options, *(str(ROOT / name) for name in script))
        self.number = ask(cluster, *sbatch, *TINY, "epochs=12", f"run_dir={run_dir}", cwd=folder)
        self.run = folder / run_dir

    @property
    def log(self) -> str:
        path = self.folder / f"slurm_{self.number}.log"
        return path.read_text() if path.exists() else ""

    @property
    def state(self) -> str:
        shown = ask(self.cluster, "scontrol", "show", "job", self.number)
        return re.findall(r"JobState=(\w+)", shown)[0]

    def until_logged(self, pattern: str) -> None:
        until(lambda: re.search(pattern, self.log), lambda: f"no {pattern!r} in: {self.log}")

    def until_state(self, *states: str) -> None:
        until(lambda: self.state in states, lambda: f"{self.state}: {self.log}")

    def start_again_at_once(self) -> None:
        """A requeued job waits for two minutes by itself; it says so when it has ended."""

        self.until_state("PENDING")
        time.sleep(REVOKED)

        def has_started() -> bool:
            start = ("scontrol", "update", f"JobId={self.number}", "StartTime=now")
            if self.state == "PENDING":
                subprocess.run(start, env=self.cluster, capture_output=True)
            return "start 1" in self.log

        until(has_started, lambda: f"{self.state}: {self.log}")


def alphas(run: Path) -> dict[str, torch.Tensor]:
    path = max((run / "checkpoints").glob("*.pt"))
    return torch.load(path, weights_only=True)["task"]["arch"]


@pytest.fixture(scope="module")
def whole(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    job = Job(cluster, tmp_path_factory.mktemp("whole"), "whole")
    job.until_state("COMPLETED", "FAILED", "CANCELLED")
    assert job.state == "COMPLETED", job.log
    assert "nothing to resume" not in job.log and "start 0" in job.log
    return job.run


REQUEUES = {
    "by an administrator or by preemption": ("scontrol", "requeue"),
    "by the script, ahead of the time limit": ("scancel", "--signal=USR2", "--batch"),
}


@pytest.mark.parametrize("how", REQUEUES.values(), ids=REQUEUES)
def test_a_requeued_job_goes_on_where_it_stopped_and_ends_the_same(
    cluster: dict[str, str], whole: Path, tmp_path: Path, how: tuple[str, ...]
):
    job = Job(cluster, tmp_path, "parts")
    job.until_logged("(?m)^ *3/12 ")
    ask(cluster, *how, job.number)
    job.until_logged("the state is saved")
    job.start_again_at_once()
    job.until_state("COMPLETED", "FAILED", "CANCELLED")
    assert job.state == "COMPLETED", job.log

    stopped = re.findall(r"stopped in epoch (\d+) after step (\d+) of (\d+)", job.log)
    assert len(stopped) == 1 and 3 <= int(stopped[0][0]) <= 11, job.log
    assert job.log.count("resuming search in parts") == 1
    lines = [int(number) for number in re.findall(r"(?m)^ *(\d+)/12 ", job.log)]
    assert lines == list(range(1, 13)), "an epoch was lost or trained twice"
    mine, theirs = alphas(job.run), alphas(whole)
    assert mine.keys() == theirs.keys()
    assert all(
        torch.equal(mine[name], theirs[name]) for name in mine if torch.is_tensor(mine[name])
    )
    assert Genotype.load(job.run) == Genotype.load(whole)


@pytest.mark.slow
def test_a_sweep_survives_its_time_limit(cluster: dict[str, str], tmp_path: Path):
    """Two jobs of two tasks; Slurm signals them ahead of a limit of two minutes."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="extra slurm is missing")
    options = (
        "hydra/launcher=slurm", "hydra.launcher.gpus_per_node=2", "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=45", "hydra.sweep.dir=sweep",
        "hydra.launcher.array_parallelism=1",
    )  # fmt: skip
    command = (sys.executable, str(ROOT / "search.py"), "-m", *TINY, f"epochs={EPOCHS}", "seed=1,2")
    with open(tmp_path / "log", "w") as log:
        sweep = subprocess.Popen(
            [*command, *options], env=cluster, cwd=tmp_path, stdout=log, stderr=log
        )
        try:
            while sweep.poll() is None:
                for line in ask(cluster, "squeue", "-h", "-r", "-o", "%i %r").splitlines():
                    if line.endswith("BeginTime"):  # requeued: without the wait of two minutes
                        time.sleep(REVOKED)
                        start = ("scontrol", "update", f"JobId={line.split()[0]}", "StartTime=now")
                        subprocess.run(start, env=cluster, capture_output=True)
                time.sleep(1)
        finally:
            sweep.kill()
    logs = {path.name: path.read_text() for path in tmp_path.glob("sweep/.submitit/*/*_0_log.err")}
    assert sweep.returncode == 0, ((tmp_path / "log").read_text(), logs)
    assert len(logs) == 2
    for number, text in enumerate(logs[name] for name in sorted(logs)):
        assert "this job is timed-out" in text and "the state will be saved" in text, text
        assert f"resuming search in {tmp_path}/sweep/{number}" in text or (
            f"resuming search in sweep/{number}" in text
        ), text
        lines = [int(epoch) for epoch in re.findall(rf"(?m)^ *(\d+)/{EPOCHS} ", text)]
        assert lines == list(range(1, EPOCHS + 1)), text
        assert (tmp_path / "sweep" / str(number) / "result.json").exists()
