"""`python -m darts_gdas.show`: tables that add up, drawings on request, one-line errors."""

import re
from pathlib import Path

import pytest
import torch

from darts_gdas.cli.show import main
from darts_gdas.nets import DerivedNet, Layout, count_multiply_adds, count_parameters
from darts_gdas.nets import costs as costing
from darts_gdas.space import CellGenotype, Edge, Genotype
from tests.nets.test_stored import saved
from tests.space.test_peer_strings import DARTS_V2

TINY = ("--channels", "4", "--layers", "3", "--image-size", "8", "--device", "cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    """One pass per measurement, small batches, and the number of threads as it was."""
    monkeypatch.setattr(costing, "WARM_UP", 0)
    monkeypatch.setattr(costing, "MOST", 1)
    monkeypatch.setattr("darts_gdas.cli.show.BATCHES", (1, 2))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def numbers(text: str, start: str) -> list[float]:
    """What stands in the columns of the line that begins so."""
    (line,) = (line for line in text.splitlines() if line.startswith(start))
    return [float(item.replace(",", "")) for item in re.split(r" {2,}", line)[1:]]


def test_the_tables_add_up_to_the_network(capsys: pytest.CaptureFixture[str]):
    main([DARTS_V2, *TINY, "--classes", "7"])
    text = capsys.readouterr().out
    net = DerivedNet(Genotype.load("DARTS_V2"), Layout(4, 3, 7))
    parameters, adds, *_ = numbers(text, "total")
    assert (parameters, adds) == (count_parameters(net), count_multiply_adds(net, (3, 8, 8)))
    parts = ("stem", "normal cell", "reduce cell", "head")
    assert sum(numbers(text, part)[0] for part in parts) == parameters
    cells = ("stem", "cell 0 normal", "cell 1 reduce", "cell 2 reduce", "head")
    assert sum(numbers(text, part)[1] for part in cells) == adds
    assert "|   |-- sep_conv_3x3(c_k-2)" in text
    assert text.startswith("3 cells, 4 channels, 7 classes, images 3 x 8 x 8\n")
    assert "on CPU" in text


def test_the_threads_are_the_users(capsys: pytest.CaptureFixture[str]):
    main([DARTS_V2, *TINY, "--threads", "1"])
    assert "on CPU, 1 thread, " in capsys.readouterr().out and torch.get_num_threads() == 1


def test_a_retraining_is_shown_as_it_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved(tmp_path)
    for source, given, size in (("", (), 32), ("model.pt", ("--image-size", "8"), 8)):
        main([str(tmp_path / source), *given])
        text = capsys.readouterr().out
        assert text.startswith(f"3 cells, 4 channels, 7 classes, images 3 x {size} x {size}\n")


def test_a_cell_of_nasbench201_stands_in_its_network(capsys: pytest.CaptureFixture[str]):
    arch = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    main([arch, "--image-size", "4", "--layers", "5"])
    text = capsys.readouterr().out
    assert text.startswith("5 cells, 16 channels") and "cell 1 residual, 32 x 4 x 4" in text


def test_two_cells_stand_side_by_side(capsys: pytest.CaptureFixture[str]):
    main(["--compare", "DARTS_V2", "GDAS_V1", *TINY])
    text = capsys.readouterr().out
    nets = [DerivedNet(Genotype.load(n), Layout(4, 3, 10)) for n in ("DARTS_V2", "GDAS_V1")]
    first, second = map(count_parameters, nets)
    assert numbers(text, "parameters") == [first, second, round(second / first, 2)]
    edges = [net.genotype.to_json().count('"skip_connect"') for net in nets]
    assert numbers(text, "skip_connect") == edges


def test_drawings_are_written_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cell = CellGenotype(((Edge("max_pool_3x3", 0),),), (2,))
    path = tmp_path / "small.json"
    path.write_text(Genotype({"normal": cell, "reduce": cell}).to_json())
    main([str(path), *TINY, "--out", str(tmp_path / "new")])
    names = {file.name for file in (tmp_path / "new").iterdir()}
    assert names == {"cells.svg", "cells.png", "cells.dot"}
    assert f"graph    {tmp_path / 'new' / 'cells.dot'}" in capsys.readouterr().out
    main(["--compare", str(path), str(path), *TINY, "--out", str(tmp_path / "two")])
    assert len([*(tmp_path / "two").glob("cells_[12].*")]) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("DARTS_V9",), "is neither a published name"),
        (("DARTS_V2", "--layers", "2"), "net.layers must be at least 3, got 2"),
        (("DARTS_V2", "--image-size", "2"), "images of 2x2 pixels are too small"),
        (("nowhere.pt",), "cannot be read"),
        (("DARTS_V2", "--threads", "-1"), "--threads must be at least 0, all cores, got -1"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    assert stop.value.code == 2 and not captured.out
    assert captured.err.startswith("error: ") and message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("DARTS_V2", "--compare", "DARTS_V1", "GDAS_V1")])
def test_one_cell_or_two(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "name one GENOTYPE or RUN, or two with --compare A B" in capsys.readouterr().err
