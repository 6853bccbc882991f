"""A trained model's file as a network, and what is no such file."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, DerivedNet, Layout, Stem
from darts_gdas.nets.stored import layout_from_dict, layout_to_dict
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.checkpoint import CheckpointError, save
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import TrainedModel, load_model, save_model

PIXELS = torch.randint(
    256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def saved(folder: Path, *, auxiliary: bool = True, name: str = "GDAS_V1") -> TrainedModel:
    """A model in `folder`, whose statistics have moved."""
    net = DerivedNet(Genotype.load(name), Layout(4, 3, 7), auxiliary=auxiliary)
    normalize = Normalize(torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3]))
    net(normalize(PIXELS))
    model = TrainedModel(net.eval(), normalize, tuple("abcdefg"), (32, 32))
    save_model(folder / "model.pt", model)
    return model


@pytest.mark.parametrize("auxiliary", [False, True])
def test_a_run_becomes_a_network_without_an_auxiliary_head(tmp_path: Path, auxiliary: bool):
    model = saved(tmp_path, auxiliary=auxiliary)
    images = model.normalize(PIXELS)
    for source in (tmp_path, str(tmp_path), tmp_path / "model.pt"):
        net = DerivedNet.from_run(source)
        assert not net.training and net.auxiliary is None
        assert_close(net(images), model.net(images))  # plain layers are summed in another order
    assert isinstance(net.train()(images), torch.Tensor)


@pytest.mark.parametrize(
    "layout",
    [
        Layout(4, 3, 7),
        Layout(4, 4, 7, 1, Stem.imagenet, reductions=(1,)),
        Layout(4, 5, 7, skeleton=NASBENCH201),
    ],
)
def test_a_layout_survives_as_plain_values(layout: Layout):
    settings = layout_to_dict(layout)
    assert layout_from_dict(settings) == layout
    assert {type(value) for value in settings.values()} <= {int, str, tuple, type(None)}


def test_a_layout_from_before_there_were_skeletons_is_of_darts():
    settings = layout_to_dict(Layout(4, 3, 7))
    del settings["skeleton"]
    assert layout_from_dict(settings) == Layout(4, 3, 7)


def test_a_search_is_told_from_a_retraining(tmp_path: Path):
    (tmp_path / "genotype.json").write_text(Genotype.load("DARTS_V2").to_json())
    with pytest.raises(
        CheckpointError, match=r"holds no trained network \(model\.pt\): it is a se"
    ):
        DerivedNet.from_run(tmp_path)


def test_a_checkpoint_of_a_run_is_no_model(tmp_path: Path):
    save(tmp_path / "step-000000001.pt", {"kind": "train"})
    with pytest.raises(
        CheckpointError, match=r"is not a trained model; name the model\.pt of a fin"
    ):
        DerivedNet.from_run(tmp_path / "step-000000001.pt")


def test_a_missing_and_a_damaged_file_are_errors(tmp_path: Path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        DerivedNet.from_run(tmp_path / "nowhere")
    saved(tmp_path)
    content = bytearray((tmp_path / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged: its sha256 does not match"):
        DerivedNet.from_run(tmp_path)


def test_a_network_with_other_classes_is_saved_with_them(tmp_path: Path):
    model = saved(tmp_path)
    net = DerivedNet.from_run(tmp_path)
    net.reset_classifier(2)
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match="its 7 classes, the network has 2; give it as many by"):
        save_model(
            tmp_path / "new" / "model.pt",
            TrainedModel(net, model.normalize, model.classes, (32, 32)),
        )
    again = TrainedModel(net, model.normalize, ("yes", "no"), (32, 32))
    save_model(tmp_path / "new" / "model.pt", again)
    assert torch.equal(load_model(tmp_path / "new").predict(PIXELS), again.predict(PIXELS))
    net.reset_classifier(0)
    assert isinstance(net.get_classifier(), nn.Identity)
    with pytest.raises(ValueError, match="its 2 classes, the network has 0"):
        save_model(tmp_path / "new" / "model.pt", again)
