"""What is measured outside the epochs is kept: warm starts, TE-NAS and selections, ended half way.

Each is stopped by a signal or killed while it measures, and started again by the same command.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from tests import tiny
from tests.cli.test_runs import ROOT, assert_same, finish, newest_state, start

TINY = (
    *tiny.TINY,
    "space.candidates=[skip_connect,avg_pool_3x3,sep_conv_3x3]", "batch_size=32", "resume=auto",
)  # fmt: skip
TE_NAS = (
    "method=te_nas", "epochs=0", "warm_start.repeats=1", "warm_start.batch_size=4",
    "warm_start.region_samples=40",
)  # fmt: skip
RUNS = {
    # What is asked for, a line to wait for, what is kept, and where it was stopped.
    "te_nas": (TE_NAS, "edges: 2 of 11", "warm_start.jsonl", "in the warm start"),
    "warm_start": (
        ("warm_start=ntk", "warm_start.samples=12", "warm_start.channels=2", "epochs=1"),
        "scoring cells: 6 of 12", "warm_start.jsonl", "in the warm start",
    ),
    "darts_pt": (
        ("method=darts_pt", "epochs=1", "discretizer.tune_epochs=1"),
        "selecting: 20 of", "selection.jsonl", "while selecting",
    ),
    "random_ws": (
        ("method=random_ws", "epochs=1", "discretizer.count=24"),
        "selecting: 12 of 24", "selection.jsonl", "while selecting",
    ),
}  # fmt: skip


def until(process, text: str) -> list[str]:
    """Read what a process says until a line has a text."""
    lines = [""]
    while text not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    return lines


def figures(folder: Path) -> dict:
    """The result, less what differs from one run to the next."""
    result = json.loads((folder / "result.json").read_text())
    return {k: v for k, v in result.items() if k in ("genotype", "metrics", "best", "remarks")}


@pytest.mark.parametrize(
    ("name", "signum"),
    [
        ("warm_start", signal.SIGUSR2),
        ("darts_pt", signal.SIGTERM),
        pytest.param("te_nas", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("te_nas", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("darts_pt", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("random_ws", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("random_ws", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_started_again_it_goes_on_and_ends_as_undisturbed(
    run, tmp_path: Path, name: str, signum: signal.Signals
):
    settings, line, journal, where = RUNS[name]
    command = (*TINY, *settings)
    assert run("search.py", *command, "run_dir=whole")[0] == 0
    process = start(tmp_path, "search.py", *command, "run_dir=cut")
    until(process, line)
    os.kill(process.pid, signum)
    killed = signum == signal.SIGKILL
    _, err = finish(process, status=-signum if killed else 128 + signum)
    if not killed:
        assert err.splitlines()[-2:] == [
            f"stopped {where}; what is measured is kept",
            f"go on with: python {ROOT / 'search.py'} resume=cut",
        ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    kept = (cut / journal).read_bytes()
    count = kept.count(b"\n") - 1
    assert count >= 5
    _, err = finish(start(tmp_path, "search.py", *command, "run_dir=cut"))
    assert f"going on with {count} measurements of cut/{journal}" in err
    assert (whole / journal).read_bytes() == (cut / journal).read_bytes()
    assert (cut / journal).read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
    assert figures(whole) == figures(cut)
    assert not list(cut.glob("selection.pt*"))
    if name != "te_nas":
        assert_same(newest_state(whole)["task"], newest_state(cut)["task"])
    else:
        names = ("warm_start.csv", "genotype.json")
        assert all((whole / n).read_bytes() == (cut / n).read_bytes() for n in names)
