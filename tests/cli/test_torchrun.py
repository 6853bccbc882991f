"""Data-parallel runs as a user starts them: `torchrun` on this machine, two ranks."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from darts_gdas.tasks.model import load_model
from tests.cli import test_runs
from tests.cli.test_interrupted import until
from tests.cli.test_runs import ROOT
from tests.tiny import TINY

pytestmark = pytest.mark.slow  # minutes; tests/distributed shows the same in seconds


def start(
    folder: Path, script: str, *arguments: str, options: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    torchrun = ("-m", "torch.distributed.run", "--standalone", *options, "--nproc-per-node=2")
    # Else a restarted rank can meet the addresses of the attempt before (docs/cluster.md).
    store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    return test_runs.start(folder, script, *arguments, before=torchrun, **store)


def finish(process: subprocess.Popen[str], *, fails: bool = False) -> tuple[str, str]:
    """Torchrun's own status is 1 whatever its ranks end with."""
    return test_runs.finish(process, int(fails), seconds=200)


def final_state(folder: Path) -> dict:
    state = torch.load(max((folder / "checkpoints").glob("*.pt")), weights_only=True)
    return {name: state[name] for name in ("epoch", "step", "random", "best", "last", "task")}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    out, err = finish(start(folder, "search.py", "epochs=3", *TINY))
    assert out.count("Search finished") == 1 and err.count("starting search in") == 1
    assert "2 ranks, each CPU" in out
    (run,) = (folder / "outputs" / "search").iterdir()  # the ranks agree on one
    return run


def test_a_search_is_written_once(searched: Path):
    lines = (searched / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]
    assert len(list((searched / "tensorboard").glob("events*"))) == 2  # epochs, end
    state = torch.load(max((searched / "checkpoints").glob("*.pt")), weights_only=True)
    assert state["ranks"] == 2 and not torch.equal(*(r["cpu"] for r in state["random"]))


def test_stopped_by_the_scheduler_and_resumed_it_ends_as_undisturbed(
    searched: Path, tmp_path: Path
):
    options = ("--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2",)
    arguments = ("run_dir=run", "resume=auto")
    process = start(tmp_path, "search.py", "epochs=3", *TINY, *arguments, options=options)
    assert process.stderr is not None
    seen = ""
    while "1/3 " not in seen:
        seen += process.stderr.readline()
        assert process.poll() is None, seen
    process.send_signal(signal.SIGUSR2)
    _, err = finish(process, fails=True)  # torchrun's own status is 1 after any signal
    assert err.count("the state is saved") == 1
    finish(start(tmp_path, "search.py", *arguments))
    a, b = final_state(tmp_path / "run"), final_state(searched)
    assert str(a) == str(b)  # enough digits of nested tensors to see most differences,
    for part in ("supernet", "arch"):  # and all of those that count
        for name, value in b["task"][part].items():
            assert torch.equal(a["task"][part][name], value), name


def test_wrong_input_is_said_once(tmp_path: Path):
    out, err = finish(start(tmp_path, "search.py", "batch_size=65", *TINY), fails=True)
    assert err.count("error: batch_size counts the images of all 2 ranks") == 1 and not out
    assert not list(tmp_path.iterdir())


def test_retraining_on_two_ranks_leaves_a_model(searched: Path, tmp_path: Path):
    arguments = (f"genotype={searched}", "epochs=2", "run_dir=run", "sync_batch_norm=true")
    finish(start(tmp_path, "train.py", *arguments, "net.channels=2", "net.layers=3"))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    # Loaded back and tested by one process; tested by two while training.
    assert result["test"]["accuracy"] == pytest.approx(result["metrics"]["test/accuracy"])
    assert load_model(tmp_path / "run").predict(torch.zeros(1, 1, 8, 8).byte()).shape == (1, 10)


def test_a_killed_rank_is_started_again_and_the_end_is_the_same(searched: Path, tmp_path: Path):
    script = tmp_path / "search_and_die.py"
    script.write_text(
        f"""import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from darts_gdas.tasks.search import SearchTask
step = SearchTask.train_step
def train_step(task, progress):
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and os.environ["RANK"] == "1" and progress.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(task, progress)
SearchTask.train_step = train_step
sys.argv[0] = {str(ROOT / "search.py")!r}
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
"""
    )
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    options = ("--max-restarts=1", "--shutdown-timeout=5")
    arguments = ("epochs=3", *TINY, "run_dir=run", "resume=auto")
    finish(start(tmp_path, str(script), *arguments, options=options))
    a, b = final_state(tmp_path / "run"), final_state(searched)
    for part in ("supernet", "arch"):
        for name, value in b["task"][part].items():
            assert torch.equal(a["task"][part][name], value), name


WARM = (*TINY, "epochs=1", "warm_start=ntk", "warm_start.samples=60", "warm_start.channels=2",
        "run_dir=run", "resume=auto")  # fmt: skip


def rank(process: subprocess.Popen[str], number: int) -> int:
    """The process of a rank."""
    for path in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            if f"\0RANK={number}\0" in Path(f"/proc/{child}/environ").read_text():
                return child
    raise AssertionError(number)


def test_a_signal_at_another_rank_ends_the_first_ones_warm_start_at_once(tmp_path: Path):
    process = start(tmp_path, "search.py", *WARM)
    seen = "".join(until(process, "scoring cells: "))
    journal = tmp_path / "run" / "warm_start.jsonl"
    while len(journal.read_text().splitlines()) < 2:  # the first is no measurement
        time.sleep(0.05)
    os.kill(rank(process, 1), signal.SIGTERM)
    _, err = finish(process, fails=True)
    assert err.count("stopped in the warm start; what is measured is kept") == 1, seen + err
    assert err.count(f"exitcode  : {128 + signal.SIGTERM}") + err.count("exitcode: 143") >= 1, err
    kept = len(journal.read_text().splitlines()) - 1
    assert 0 < kept < 60
    _, err = finish(start(tmp_path, "search.py", *WARM))
    assert f"going on with {kept} measurements" in err


SCORE = ("count=60", "channels=2", "batch_size=4", "scores=[naswot,params]", "run_dir=run",
         "resume=auto", "workers=1")  # fmt: skip


def test_two_ranks_rank_cells_and_a_killed_one_ends_them_in_one_line(tmp_path: Path):
    """What is measured stands; a single process goes on, and ends as undisturbed."""
    script = tmp_path / "score.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from darts_gdas.cli.main import run_composed; run_composed('score')"
    )
    process = start(tmp_path, str(script), *SCORE)
    seen = "".join(until(process, " of 60, "))  # some are measured, with some time left
    os.kill(rank(process, 1), signal.SIGKILL)
    _, err = finish(process, fails=True)
    told = [line for line in (seen + err).splitlines() if line.startswith(("error", "stopped"))]
    assert len(told) == 1, seen + err
    kept = len((tmp_path / "run" / "scores.jsonl").read_text().splitlines()) - 1
    assert 1 <= kept < 60
    out, err = finish(start(tmp_path, str(script), *SCORE))
    assert f"going on with {kept} measurements" in err and out.count("Scoring finished") == 1
    alone = test_runs.start(tmp_path, str(script), *SCORE, "run_dir=alone")
    test_runs.finish(alone)
    assert (tmp_path / "run" / "scores.csv").read_text() == (
        tmp_path / "alone" / "scores.csv"
    ).read_text()


def test_a_first_rank_that_hangs_in_a_warm_start_is_lost(tmp_path: Path):
    script = tmp_path / "search_and_hang.py"
    script.write_text(
        f"""import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from darts_gdas.cli import beginning
plain = beginning.set_first_alphas
hangs = lambda *arguments: time.sleep(1000)
beginning.set_first_alphas = plain if os.environ["RANK"] == "1" else hangs
sys.argv[0] = {str(ROOT / "search.py")!r}
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
"""
    )
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    options = ("--shutdown-timeout=2",)
    arguments = (*WARM, "rank_timeout_minutes=0.1")
    _, err = finish(start(tmp_path, str(script), *arguments, options=options), fails=True)
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    assert line.startswith("error: outside the training loop: rank 1 has lost another rank")
    assert line.endswith("rank 1 waited for rank 0, which gave no sign of life for 6 s")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("method", ["darts", "gdas"])
def test_two_gpus_search_together(tmp_path: Path, method: str):
    """Alphas are compared after every epoch, so an end is an agreement."""
    arguments = ("epochs=3", *TINY, f"method={method}", "run_dir=run", "precision=bf16")
    out, _ = finish(start(tmp_path, "search.py", *arguments))
    assert "2 ranks, each" in out and "CPU" not in out
