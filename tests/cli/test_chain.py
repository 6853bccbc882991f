"""A chain of blocks from the search to the export, by the programs of a user."""

import csv
import json
import random
from pathlib import Path

import pytest
import torch

from darts_gdas.cli.show import main as show
from darts_gdas.nets import DerivedNet, Layout, count_parameters
from darts_gdas.portable.bundle import Format, make
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.model import load_model

TINY = ("epochs=1", "net.channels=2", "dataset.test_fraction=0.9", "verbosity=quiet")
BLOCKS = "space.candidates=[skip_connect,mbconv3_3x3,mbconv6_3x3]"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(
            ("method=darts", "penalties=[cost]", "penalties.cost.target=1500"),
            marks=pytest.mark.slow,
        ),
        ("method=gdas", "warm_start=ntk", "warm_start.samples=10", "warm_start.batch_size=4"),
    ],
    ids=["darts", "gdas"],
)
def test_a_chain_is_found_trained_shown_and_taken_away(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
):
    places = ("space.reductions=[1]", "space.widths=[1,2,2,3,3,3]")
    search = ("space=chain", BLOCKS, *places, *TINY, *more, "run_dir=found")
    assert run("search.py", *search)[0] == 0
    genotype = Genotype.load(tmp_path / "found")
    assert list(genotype.cells) == [f"block{i}" for i in range(6)]
    retraining = ("train.py", "genotype=found", *TINY, "run_dir=trained")
    status, _, err = run(*retraining, "net.layers=8")
    assert status == 2 and "net.layers=8 has no effect: the genotype is a chain of 6 blocks" in err
    assert run(*retraining, "net.layers=6")[0] == 0

    model, layout = load_model(tmp_path / "trained"), Layout.of(genotype, 2, 20, 10, 1)
    assert model.net.genotype == genotype and model.net.layout == layout
    assert (layout.layers, layout.reductions, layout.widths) == (6, (1,), (1, 2, 2, 3, 3, 3))
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


def test_cells_are_scored_in_the_network_of_their_search(run, tmp_path: Path):
    """A chain of a file has its own reductions and widths; two networks in one file are refused."""
    rng, blocks = random.Random(0), [["mbconv3_3x3", "mbconv3_5x5"]] * 4
    spaces = [SearchSpace.chain(blocks, [0], widths) for widths in ((1, 2, 3, 4), (1, 1, 1, 1))]
    files = [tmp_path / f"{i}.json" for i in range(4)]
    for i, file in enumerate(files):
        file.write_text(spaces[i == 3].sample(rng).to_json())
    small = ("darts_gdas/score.py", "scores=[params]", "channels=2", "dataset.test_fraction=0.9")
    (tmp_path / "three.txt").write_text("\n".join(map(str, files[:3])))
    assert run(*small, "cells=three.txt", "run_dir=ranked")[0] == 0
    genotypes = [Genotype.load(file) for file in files[:3]]
    nets = [DerivedNet(cells, Layout.of(cells, 2, 1, 10, 1)) for cells in genotypes]
    with open(tmp_path / "ranked" / "scores.csv", newline="") as file:
        found = sorted(int(row["params"]) for row in csv.DictReader(file))
    assert found == sorted(count_parameters(net) for net in nets)
    (tmp_path / "four.txt").write_text("\n".join(map(str, files)))
    status, _, err = run(*small, "cells=four.txt")
    assert (
        status == 2
        and "cells=four.txt must hold cells of one network" in err
        and err.count("\n") == 1
    )


def test_a_chain_is_pruned_without_training(run, tmp_path: Path):
    cheap = ("warm_start.repeats=1", "warm_start.region_samples=20", "net.layers=3")
    search = ("search.py", "space=chain", "method=te_nas", BLOCKS, *TINY[1:], *cheap)
    assert run(*search, "run_dir=found")[0] == 0
    genotype = Genotype.load(tmp_path / "found")
    assert genotype.operations <= {"skip_connect", "mbconv3_3x3", "mbconv6_3x3"}
    assert genotype.reductions == (1, 2)
