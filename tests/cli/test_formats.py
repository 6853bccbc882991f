"""Data sets of others' formats through the programs: many channels, names, and damage."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from darts_gdas.cli.export import main as export
from darts_gdas.portable.fresh import load_python
from darts_gdas.reasons import installing
from tests import tiny

SMALL = tuple(part for part in tiny.TINY if not part.startswith("dataset."))
CHANNELS = 13


def satellite(path: Path, kind: type = np.uint16) -> np.ndarray:
    """Two classes of 13 bands, that differ in the ninth; returns what is tested on."""
    rng, parts = np.random.default_rng(0), {}
    for name, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 1000, (count, 8, 8, CHANNELS)) * np.arange(1, CHANNELS + 1)
        images[labels == 1, ..., 8] += 9000
        parts |= {f"x_{name}": images.astype(kind), f"y_{name}": labels}
    np.savez(path, **parts)
    return parts["x_test"]


def test_thirteen_channels_are_searched_retrained_and_taken_away(run, tmp_path: Path):
    raw = satellite(tmp_path / "bands.npz")
    data = ("dataset=npz", "dataset.root=bands.npz", "dataset.augment.crop_padding=1")
    status, _, told = run("search.py", *SMALL, *data, "epochs=1", "run_dir=found", "batch_size=8")
    assert status == 0, told
    network = ("net.channels=4", "net.layers=3", "epochs=4", "batch_size=8")
    more = ("dataset.augment.flip=true", "genotype=found", "run_dir=trained")
    status, _, told = run("train.py", *data, *network, *more)
    assert status == 0, told
    result = json.loads(Path("trained/result.json").read_text())
    assert result["test"]["accuracy"] >= 0.9  # a coin would do 0.5
    export(["trained", "--format", "python"])
    card = json.loads(Path("trained/export/python/model_card.json").read_text())
    assert card["input"]["shape"] == ["batch", CHANNELS, 8, 8]
    assert card["input"]["pixels"] == "0 to 255, 13 channels"
    assert len(card["normalization"]["mean"]) == CHANNELS
    (said,) = card["preprocessing"]
    assert said.startswith("values of each channel become 0 to 255: ") and said.count(" to ") == 14
    ends = [[float(x) for x in part.split(" to ")] for part in said.split(": ")[1].split(", ")]
    low, high = np.array(ends).T  # what the card says is enough to use the network
    pixels = (255 * (raw - low) / (high - low)).clip(0, 255).round().astype(np.uint8)
    net = load_python(Path("trained/export/python"))
    found = net(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    right = (found.argmax(1) == torch.arange(20) % 2).float().mean()
    assert float(right) == pytest.approx(result["test"]["accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["dataset=npz", "dataset.root=bad.npz"], "'bad.npz' cannot be read (BadZipFile: "),
        (["dataset=npz"], "dataset.root must say where the images are, but none is given"),
        (["dataset=torchvision", "dataset.name=SVNH"], "sets with a class for each"),
        (
            ["dataset=torchvision", "dataset.name=SVHN"],
            "SVHN is not in dataset.root='data', or damaged; pass dataset.download=true",
        ),
        *(
            (
                ["dataset=torchvision", "dataset.name=EMNIST", typed],
                "(ValueError: Unknown value 'letterz' for argument split. Valid values are ",
            )
            for typed in (
                "dataset.options={split: letterz}",
                "dataset.options.split=letterz",
                "+dataset.options.split=letterz",
            )
        ),
        (
            ["dataset=imagenet16", "dataset.root=."],
            "'train_data_batch_1' is missing and 10",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run, settings: list[str], told: str):
    Path("bad.npz").write_bytes(b"PK\x03\x04 and no more")
    before = sorted(Path().iterdir())
    status, out, line = run("search.py", *SMALL, *settings)
    assert (status, out) == (2, "") and line.startswith("error: ") and line.count("\n") == 1
    assert told in line
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("name", "package"),
    [("medmnist", "medmnist"), ("huggingface", "datasets"), ("webdataset", "webdataset")],
)
def test_a_missing_package_is_named_with_its_command(run, monkeypatch, name: str, package: str):
    monkeypatch.setitem(sys.modules, package, None)
    status, _, line = run("search.py", *SMALL, f"dataset={name}", "dataset.root=.")
    assert status == 2 and line.startswith(
        f"error: this data set needs the package {package}: {installing('datasets')} ("
    )
    assert not Path("outputs").exists()
