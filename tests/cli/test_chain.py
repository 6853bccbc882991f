"""A chain of blocks from the search to the export, as a user starts the programs."""

import json
from pathlib import Path

import pytest
import torch

from darts_gdas.cli.show import main as show
from darts_gdas.nets import DerivedNet, count_parameters
from darts_gdas.portable.bundle import Format, make
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import load_model
from tests.cli.test_runs import finish, start

TINY = ("epochs=1", "net.channels=2", "dataset.test_fraction=0.9", "verbosity=quiet")
BLOCKS = "space.candidates=[skip_connect,mbconv3_3x3,mbconv6_3x3]"


@pytest.mark.parametrize(
    "more",
    [
        ("method=darts", "penalties=[cost]", "penalties.cost.target=1500"),
        ("method=gdas", "warm_start=ntk"),
    ],
    ids=["darts", "gdas"],
)
def test_a_chain_is_found_trained_shown_and_taken_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
):
    search = ("space=chain", BLOCKS, *TINY, *more, "run_dir=found")
    finish(start(tmp_path, "search.py", *search))
    genotype = Genotype.load(tmp_path / "found")
    assert list(genotype.cells) == [f"block{i}" for i in range(6)]
    finish(start(tmp_path, "train.py", "genotype=found", *TINY, "run_dir=trained"))

    model = load_model(tmp_path / "trained")
    assert model.net.genotype == genotype and model.net.layout.layers == 6
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(DerivedNet.from_run(tmp_path / "trained")(images), model.net(images))
    result = json.loads((tmp_path / "found" / "result.json").read_text())
    assert result["parameters"] == count_parameters(DerivedNet(genotype, model.net.layout))

    show([str(tmp_path / "trained"), "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    parts = lines[next(i for i, line in enumerate(lines) if line.startswith("part,")) + 2 :]
    rows = [line for line in parts if line.startswith(("stem", "cell ", "head", "total"))]
    assert len(rows) == 9
    for column in (-5, -4):  # parameters and multiply-adds
        numbers = [int(row.split()[column].replace(",", "")) for row in rows]
        assert sum(numbers[:-1]) == numbers[-1]
    assert int(rows[-1].split()[1].replace(",", "")) == count_parameters(model.net)

    contents = make(model, Format.python)
    assert "MBConv(4, 2, kernel=3, expansion=" in contents["network.py"].decode()
