"""Search steps of this build against those of another commit, in turns, a process for each."""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.pair import NETWORKS

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "benchmarks" / "step_server.py"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("commit", help="the build before")
    parser.add_argument("--network", choices=NETWORKS, default="gdas")
    parser.add_argument("--layers", type=int, default=8, help="in the DARTS space")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)


def run(arguments: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # removes the checkout
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(_checkout(arguments.commit))
        trees = {"plain": (ROOT, "plain"), "before": (before, "own"), "now": (ROOT, "own")}
        servers = {
            name: stack.enter_context(_server(tree, kind, arguments))
            for name, (tree, kind) in trees.items()
        }
        rounds = [{name: _round(s) for name, s in servers.items()} for _ in range(arguments.rounds)]
    print(f"{arguments.network}, batch {arguments.batch}, threads {arguments.threads}, ", end="")
    print(f"medians of {arguments.rounds} rounds\n")
    print("| build | W, ms | A, ms | W + A, ms | plain / it, W | A | W + A | it / before, W + A |")
    print("|---|---|---|---|---|---|---|---|")
    for name in servers:
        seconds = [statistics.median(r[name][i] for r in rounds) for i in range(3)]
        faster = [statistics.median(r["plain"][i] / r[name][i] for r in rounds) for i in range(3)]
        slower = statistics.median(r[name][2] / r["before"][2] for r in rounds)
        cells = [f"{1e3 * s:.0f}" for s in seconds] + [f"{f:.2f}" for f in (*faster, slower)]
        print(f"| {name} | {' | '.join(cells)} |")


@contextlib.contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    """The files of a commit, for as long as they are needed."""
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "before"
        if subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit]).returncode:
            raise SystemExit(f"commit {commit!r} cannot be checked out: see above")
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


@contextlib.contextmanager
def _server(
    tree: Path, kind: str, arguments: argparse.Namespace
) -> Iterator["subprocess.Popen[str]"]:
    """A process with this tree's modules; commits without this benchmark have `pair` at least."""
    words = [arguments.network, arguments.layers, arguments.batch, arguments.threads, kind]
    command = [sys.executable, "-c", SERVER.read_text(), *map(str, words)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "OMP_NUM_THREADS": str(arguments.threads),
    }
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        while (line := process.stdout.readline()) and "ready" not in line:
            pass
        if not line:
            raise SystemExit(f"the build in {tree} takes no steps; its error stands above")
        yield process
        process.stdin.close()


def _round(server: "subprocess.Popen[str]") -> tuple[float, float, float]:
    """Seconds of a weight step, of an arch step, and of both."""
    assert server.stdout is not None and server.stdin is not None
    server.stdin.write("\n")
    server.stdin.flush()
    told = server.stdout.readline().split()
    if not told:
        raise SystemExit("a build has ended; its error stands above")
    weights, arch = map(float, told)
    return weights, arch, weights + arch
