import json
from pathlib import Path

import pytest

from darts_gdas.report.alphas import alphas_line
from darts_gdas.report.record import read_record
from darts_gdas.report.run_page import run_page, write_report
from darts_gdas.space import Genotype, SearchSpace
from tests.pages import Page, assert_is_safe, chart_values, curves, figures
from tests.report.test_runs import RESULT, make_run
from tests.report.test_tensorboard import SPACE, view_at

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"


def lines(num_epochs: int, space: SearchSpace = SPACE, **more: object) -> list[dict]:
    return [
        {
            "epoch": epoch, "step": 10 * (epoch + 1), "seconds": 2.0 + epoch, "best": False,
            "train/loss": 2.0 / (epoch + 1), "validation/loss": 2.5 / (epoch + 1),
            "train/accuracy": epoch / 10, "validation/accuracy": epoch / 20,
            "entropy/normal": 1 - epoch / 50, "entropy/reduce": 1 - epoch / 60,
            "search/skip_share": 0.25, "search/learning_rate": 0.025, "search/tau": 10.0 - epoch,
            "device": "CPU, 1 thread, fp32", "peak_memory_bytes": 2**20 * (300 + epoch),
            **alphas_line(view_at(epoch, space)), **more,
        }
        for epoch in range(num_epochs)
    ]  # fmt: skip


def make_search(
    folder: Path, *overrides: str, num_epochs: int = 4, finished: bool = True, **more: object
) -> Path:
    """A folder as a search leaves it."""
    make_run(folder, *overrides, result=RESULT | {"device": "GPU X", **more}, epochs=num_epochs)
    if not finished:
        (folder / "result.json").unlink()
    text = "".join(f"{json.dumps(line)}\n" for line in lines(num_epochs))
    (folder / "metrics.jsonl").write_text(text)
    return folder


def page_of(folder: Path) -> tuple[Page, str]:
    html = run_page(read_record(folder))
    page = Page(html)
    assert_is_safe(page)
    return page, html


def test_the_curves_of_a_page_are_the_metrics(tmp_path: Path):
    _, html = page_of(make_search(tmp_path / "a"))
    found, found_values, rows = figures(html), chart_values(html), lines(4)
    expected = {
        "Loss": ["train/loss", "validation/loss"],
        "Entropy of the probabilities, 1 where all are equal": ["entropy/normal", "entropy/reduce"],
        "Accuracy, %": ["train/accuracy", "validation/accuracy"],
        "Skip connections, share of the cell's edges": ["search/skip_share"],
        "Learning rate of the weights": ["search/learning_rate"],
        "Temperature of the softmax": ["search/tau"],
        "Time per epoch, s": ["seconds"],
        "Peak memory, MiB": ["peak_memory_bytes"],
    }
    scales = {"Accuracy, %": 100.0, "Peak memory, MiB": 2.0**-20}
    for title, names in expected.items():
        for name, curve in zip(names, curves(found.pop(title)), strict=True):
            values = [scales.get(title, 1.0) * row[name] for row in rows]
            size = max(map(abs, values))
            assert [x for x, _ in curve] == pytest.approx([1, 2, 3, 4], abs=0.01)
            assert [y for _, y in curve] == pytest.approx(values, abs=0.01 * size), title
            assert found_values[title]["series"][names.index(name)]["y"] == pytest.approx(
                values, rel=1e-4
            )
    assert all("points above or below equal shares" in title for title in found)  # of one edge


def test_the_facts_warnings_and_commands_are_there(tmp_path: Path):
    folder = make_search(
        tmp_path / "a b", "method=darts", "dataset.root=/x y", remarks={"warning": "collapsing"},
        peak_memory_bytes=2**31, torch="2.14", benchmark={"accuracy": 93.5},
        best={"epoch": 2, "value": 0.1},
    )  # fmt: skip
    text = page_of(folder)[0].text
    for part in (
        "finished after 4 epochs", "Warnings collapsing", "parameters 1,000",
        "multiply-adds 5,000", "time 12 s", "peak memory 2,048 MiB", "device GPU X", "torch 2.14",
        "benchmark accuracy 93.50 %", "best epoch 3", "normal cell", "reduce cell", "epochs: 4",
        f"Retrain this cell: python train.py \"genotype='{folder}'\" 'dataset.root=/x y'",
        "Reproduce this run: python search.py method=darts 'dataset.root=/x y'",
        f"Write this page again: python -m darts_gdas.report '{folder}'",
    ):  # fmt: skip
        assert part in text
    assert "Go on with it" not in text


def test_metrics_alone_make_a_page(tmp_path: Path):
    whole = make_search(tmp_path / "whole")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "metrics.jsonl").write_bytes((whole / "metrics.jsonl").read_bytes())
    page, html = page_of(alone)
    assert figures(html).keys() == figures(page_of(whole)[1]).keys()
    for part in ("normal cell", "peak memory 303 MiB", "device CPU", "time 14 s", "15.00 %"):
        assert part in page.text
    assert "Reproduce" not in page.text and "not finished: 4 epochs so far" in page.text


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "result.json", "overrides.yaml"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff{", b'{"epoch": 0, "alphas": {"normal": ['])
def test_a_damaged_file_costs_its_part_of_the_page_alone(tmp_path: Path, name: str, content: bytes):
    folder = make_search(tmp_path / "a")
    (folder / name).write_bytes(content)
    page, html = page_of(folder)
    assert (
        name == "result.json"
        or f"{name} cannot be read" in page.text
        or not content
        or (f"{name}: 1 line cannot be read" in page.text)
    )
    assert ("Loss" in figures(html)) == (name != "metrics.jsonl")
    assert "Commands" in page.text


def test_a_run_that_is_under_way_says_how_far_it_is(tmp_path: Path):
    folder = make_search(tmp_path / "a", "seed=1", num_epochs=1, finished=False)
    (folder / "config.yaml").write_text("epochs: 50")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 1, "tr')
    text = page_of(folder)[0].text
    assert "not finished: 1 of 50 epochs so far" in text
    assert "metrics.jsonl: 1 line cannot be read" in text
    assert f"Go on with it: python search.py resume={folder}" in text
    (folder / "metrics.jsonl").unlink()
    assert "not finished: 0 of 50 epochs" in page_of(folder)[0].text


def test_a_retraining_has_its_test_accuracy_and_its_genotype_in_the_command(tmp_path: Path):
    result = {"kind": "train", "test": {"accuracy": 0.975}, "genotype_source": "DARTS_V2"}
    folder = make_run(tmp_path / "a", "epochs=2", result=result)
    (folder / "genotype.json").write_text(Genotype.load("DARTS_V2").to_json())
    rows = [
        {"epoch": e, "test/accuracy_top5": 1.0, "test/accuracy": 0.5 + e / 10} for e in range(2)
    ]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    page, html = page_of(folder)
    assert "test accuracy 97.50 %" in page.text and "genotype from DARTS_V2" in page.text
    assert f"python train.py epochs=2 genotype={folder}" in page.text
    assert "Retrain" not in page.text.split("Commands")[1] and "Cells" in page.text
    top5, accuracy = curves(figures(html)["Accuracy, %"])
    assert [y for _, y in accuracy] == pytest.approx([50, 60], abs=0.1)
    assert [y for _, y in top5] == pytest.approx([100, 100], abs=0.1)
    assert "test top 5 100 test 60" in page.text


def test_nothing_that_a_run_says_becomes_markup(tmp_path: Path):
    folder = make_search(tmp_path / "<b>run", EVIL, remarks={"w": EVIL, EVIL: EVIL})
    (folder / "config.yaml").write_text(json.dumps({"classes": [EVIL], EVIL: 1, "epochs": EVIL}))
    row = lines(1)[0] | {f"a/{EVIL}": 1.0, "device": EVIL, "warning": EVIL}
    cell = {"edges": [EVIL], "candidates": [EVIL], "probabilities": [[0.5]]}
    row["alphas"] = {EVIL: cell | {"edge_weights": [0.5]}}
    node = [[EVIL, 0]]
    row["genotype"] = {EVIL: {"inputs": 1, "nodes": [node], "output": [1]}}
    (folder / "metrics.jsonl").write_text(json.dumps(row))
    (folder / "result.json").write_text(
        json.dumps({"kind": "search", "genotype_source": EVIL, "not_saved": EVIL, "torch": EVIL})
    )
    page, html = page_of(folder)
    assert page.text.count(EVIL) > 10 and page.count("img") == 0
    for figure in figures(html).values():
        assert all(element.tag not in ("script", "img") for element in figure.iter())


def test_the_file_is_written_where_it_is_wanted(tmp_path: Path):
    folder = make_search(tmp_path / "a")
    assert write_report(folder) == folder / "report.html"
    other = write_report(folder, out=tmp_path / "x.html")
    assert other.read_text() == (folder / "report.html").read_text()
    ended = write_report(folder, result={"kind": "search", "parameters": 77})
    assert "77" in Page(ended.read_text()).text
    with pytest.raises(ValueError, match="no run folder"):
        write_report(tmp_path)
