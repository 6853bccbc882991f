"""The example pages of the site: a search that is well, one that collapsed, and one per method.

python docs/examples.py
python docs/examples.py healthy gdas

searches anew, on digits, and keeps what the pages need in docs/examples: half a minute each.
Building the site makes the pages of that, as a hook of mkdocs.
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
METHODS = Path(__file__).parents[1] / "conf" / "method"
KEPT = ("genotype.json", "metrics.jsonl", "result.json", "config.yaml", "overrides.yaml")
SETTINGS = (
    "space=nasbench201",
    "net.channels=4",
    "dataset.test_fraction=0.8",
    "batch_size=60",
)
FAST = ("arch_optimizer.lr=0.05",)  # a few steps are all there are
STAGED = ("drnas_progressive", "pdarts")  # their stages have epochs of their own
WITHOUT_ALPHAS = ("evolution", "random", "random_ws", "reinforce", "te_nas")


def _settings(method: str) -> tuple[str, ...]:
    moving = () if method in WITHOUT_ALPHAS else FAST
    length = () if method in (*STAGED, "random", "te_nas") else ("epochs=20",)
    wider = ("net.channels=8",) if method == "pc_darts" else ()  # a quarter of them is two
    return (f"method={method}", *moving, *length, *wider)


SEARCHES = {
    "healthy": ("method=darts", *FAST, "epochs=60", "arch_warmup_epochs=20", "seed=1"),
    # the alphas race while the weights still know nothing
    "collapsed": ("method=darts", *FAST, "epochs=30"),
    **{path.stem: _settings(path.stem) for path in sorted(METHODS.glob("*.yaml"))},
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
        for file in filter(lambda name: (run / name).exists(), KEPT):
            text = _without_classes(run / file).replace(str(run), f"outputs/{name}")
            (FOLDER / name / file).write_text(text)


def _without_classes(path: Path) -> str:
    """A file of a run without how each class does in each epoch: most of it, and not shown."""
    text = path.read_text(encoding="utf-8")
    if path.name != "metrics.jsonl":
        return text
    lines = map(json.loads, text.splitlines())
    kept = [{key: value for key, value in line.items() if key != "classes"} for line in lines]
    return "".join(f"{json.dumps(line)}\n" for line in kept)


if __name__ == "__main__":
    for each in sys.argv[1:] or SEARCHES:
        search(each)
