import os
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets import DerivedNet, Layout, Stem
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.checkpoint import CheckpointError, load, save
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import TrainedModel, load_model, save_model

PIXELS = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)


def model_of(layout: Layout, *, auxiliary: bool) -> TrainedModel:
    net = DerivedNet(Genotype.load("GDAS_V1"), layout, auxiliary=auxiliary)
    normalize = Normalize(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3]))
    net(normalize(PIXELS))  # moves the running statistics
    return TrainedModel(net.eval(), normalize, tuple("abcdefg"), (32, 32))


@pytest.mark.parametrize("auxiliary", [False, True])
@pytest.mark.parametrize(
    "layout",
    [Layout(4, 3, 7), Layout(4, 4, 7, stem=Stem.imagenet), Layout(4, 2, 7, reductions=(1,))],
    ids=["cifar", "imagenet", "one reduction"],
)
def test_a_saved_model_loads_back_with_the_same_logits(
    tmp_path: Path, layout: Layout, auxiliary: bool
):
    model = model_of(layout, auxiliary=auxiliary)
    save_model(tmp_path / "model.pt", model)
    for source in (tmp_path, tmp_path / "model.pt", str(tmp_path)):
        found = load_model(source)
        assert not found.net.training and found.net.layout == layout
        assert (found.classes, found.image_size) == (model.classes, model.image_size)
        assert torch.equal(found.predict(PIXELS), model.predict(PIXELS))


def test_predictions_are_distributions(tmp_path: Path):
    probabilities = model_of(Layout(4, 3, 7), auxiliary=False).predict(PIXELS)
    assert probabilities.shape == (5, 7)
    assert_close(probabilities.sum(1), torch.ones(5))


def test_a_checkpoint_is_not_a_model(tmp_path: Path):
    save(tmp_path / "model.pt", {"kind": "search"})
    with pytest.raises(CheckpointError, match="is not a trained model"):
        load_model(tmp_path / "model.pt")


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"model\.pt.*cannot be read"):
        load_model(tmp_path)


class Evil:
    """Would make a folder when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


def test_code_in_a_model_is_not_run(tmp_path: Path):
    marker = tmp_path / "marker"
    torch.save({"kind": "model", "weights": Evil(marker)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layout", None), ("layout", {"channels": 4}), ("layout", "os.system"),
        ("genotype", "{}"), ("genotype", 3), ("weights", {}), ("weights", [1]),
        ("image_size", [8]), ("mean", "x"), ("auxiliary", True), ("classes", None),
    ],
)  # fmt: skip
def test_a_model_with_foreign_parts_is_one_error(tmp_path: Path, name: str, value: object):
    path = tmp_path / "model.pt"
    save_model(path, model_of(Layout(4, 3, 7), auxiliary=False))
    save(path, load(path) | {name: value})
    with pytest.raises(CheckpointError, match=r"model\.pt' is no model of ours: ") as error:
        load_model(path)
    assert "\n" not in str(error.value)
