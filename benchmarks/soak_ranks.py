"""A search that goes on among other numbers of ranks, killed or not before each change."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIZES = (1, 2, 3, 1)
BATCH, STEPS = 12, 8
"""Images of a batch, which all sizes divide; steps of an epoch. A change comes within one."""


def course(folder: Path, settings: tuple[str, ...], moments: random.Random, num_kills: int) -> int:
    """Search among 1, 2, 3 and 1 ranks; each number goes on from the same step of the one before.

    Args:
        folder: Of the run.
        settings: Of a search of four epochs.
        moments: Draws when ranks are killed besides.
        num_kills: How often they are; the changes are not counted.

    Returns:
        How often ranks were started.
    """
    kills = [moments.randrange(len(SIZES)) for _ in range(num_kills)]
    starts, first = 0, 0
    for i, size in enumerate(SIZES):
        is_last = i + 1 == len(SIZES)
        last = STEPS * len(SIZES) if is_last else STEPS * i + STEPS // 2 + 2
        resume = _checkpoint(folder, first) if first else "auto"
        more = f"batch_size={BATCH}", "checkpoint_every=1", "keep_checkpoints=1000"
        command = (*settings, *more, f"run_dir={folder}", f"resume={resume}")
        at = sorted(moments.randrange(first + 1, last) for _ in range(kills.count(i)))
        for step in [*at, *([] if is_last else [last])]:
            _kill_after(_start(size, command), _checkpoint(folder, step))
        starts += len(at) + 1
        if is_last:
            process = _start(size, command)
            _, err = process.communicate()
            assert process.returncode == 0, err
        first = last
    return starts


def _checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:09d}.pt"


def _start(size: int, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    return subprocess.Popen(
        [sys.executable, *torchrun, str(ROOT / "search.py"), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def _kill_after(process: subprocess.Popen[str], path: Path) -> None:
    """Kill all ranks, and who started them, once there is a file."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)
    workers = _children(process.pid)
    for pid in [process.pid, *workers]:
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err


def _children(pid: int) -> list[int]:
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in found for child in children]
