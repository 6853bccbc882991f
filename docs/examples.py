"""The example pages of the site: a search that is well, and one that collapsed.

python docs/examples.py

searches anew, on digits, in a minute, and keeps what the pages need in docs/examples. Building
the site makes the pages of that, as a hook of mkdocs.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from darts_gdas.report.run_page import write_report

FOLDER = Path(__file__).parent / "examples"
KEPT = ("metrics.jsonl", "result.json", "config.yaml", "overrides.yaml")
SETTINGS = (
    "method=darts",
    "space=nasbench201",
    "net.channels=4",
    "dataset.test_fraction=0.8",
    "batch_size=60",
    "arch_optimizer.lr=0.05",
)
SEARCHES = {
    "healthy": ("epochs=60", "arch_warmup_epochs=20", "seed=1"),
    "collapsed": ("epochs=30",),  # the alphas race while the weights still know nothing
}


def on_post_build(config: Any) -> None:
    """What mkdocs calls when the site is written."""
    write_pages(Path(config["site_dir"]) / "examples")


def write_pages(folder: Path) -> None:
    """The page of each recorded search."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SEARCHES:
        record = Path(os.path.relpath(FOLDER / name))  # as it stands in the page's commands
        write_report(record, out=folder / f"{name}.html")


def search(name: str) -> None:
    """Search anew, and keep what a page needs."""
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / name
        words = (*SETTINGS, *SEARCHES[name], f"run_dir={run}")
        subprocess.run([sys.executable, FOLDER.parents[1] / "search.py", *words], check=True)
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        (FOLDER / name).mkdir(parents=True)
        for file in KEPT:
            text = _without_classes(run / file).replace(str(run), f"outputs/{name}")
            (FOLDER / name / file).write_text(text)


def _without_classes(path: Path) -> str:
    """A file of a run; how each class does in each epoch is most of it, and not shown."""
    text = path.read_text(encoding="utf-8")
    if path.name != "metrics.jsonl":
        return text
    lines = map(json.loads, text.splitlines())
    kept = [{key: value for key, value in line.items() if key != "classes"} for line in lines]
    return "".join(f"{json.dumps(line)}\n" for line in kept)


if __name__ == "__main__":
    for each in SEARCHES:
        search(each)
