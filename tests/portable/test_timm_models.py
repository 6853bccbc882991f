"""Networks of ours as models of the real timm."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from darts_gdas.nets.costs import count_parameters
from darts_gdas.portable import timm_models
from darts_gdas.portable.hub import save_pretrained
from darts_gdas.reasons import installing
from darts_gdas.tasks.model import TrainedModel
from tests.nets.test_stored import PIXELS, saved

portable = pytest.mark.portable
needs_timm = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("timm", "safetensors")),
    reason="timm is not installed: pip install -e '.[timm]'",
)


@pytest.fixture
def model(tmp_path: Path) -> TrainedModel:
    """In `tmp_path`, and as a folder of the hub in `tmp_path / "hub"` where that can be written."""
    return saved(tmp_path, name="DARTS_V2")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("darts_gdas.portable.extras.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=re.escape(f"needs timm and safetensors: {installing('timm')}")
    ):
        timm_models.register()


@portable
@needs_timm
def test_a_folder_is_a_model_with_its_data_config(tmp_path: Path, model: TrainedModel):
    import timm

    save_pretrained(tmp_path / "hub", model)
    timm_models.register()
    timm_models.register()
    net = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    images = model.normalize(PIXELS)
    assert torch.equal(net(images), model.net(images))
    data = timm.data.resolve_model_data_config(net)
    assert data["input_size"] == [3, 32, 32] and data["crop_pct"] == 1.0
    assert data["mean"] == model.normalize.mean.tolist()
    from torchvision.transforms.v2.functional import to_pil_image

    transform = timm.data.create_transform(**data)
    made = torch.stack([transform(to_pil_image(pixels)) for pixels in PIXELS])
    assert_close(made, images)
    assert net.pretrained_cfg["label_names"] == list("abcdefg")


@portable
@needs_timm
def test_classes_and_channels_may_be_others(tmp_path: Path, model: TrainedModel):
    images = model.normalize(PIXELS)
    net = timm_models.from_run(tmp_path, num_classes=3).eval()
    assert net(images).shape == (3, 3) and net.num_classes == 3
    assert torch.equal(net.forward_features(images), model.net.forward_features(images))
    pooled = timm_models.from_run(tmp_path, num_classes=0).eval()(images)
    assert torch.equal(pooled, model.net.forward_features(images).mean((2, 3)))
    grey = timm_models.from_run(tmp_path, in_chans=1).eval()
    assert_close(grey.stem.conv.weight, model.net.stem.conv.weight.sum(1, keepdim=True))
    assert timm_models.from_run(tmp_path, drop_path_rate=0.1).drop_path_probability == 0.1


@portable
@needs_timm
def test_features_are_the_last_cells_outputs_of_each_resolution(
    tmp_path: Path, model: TrainedModel
):
    net = timm_models.from_run(tmp_path, features_only=True).eval()
    images = model.normalize(PIXELS)
    features = net(images)
    assert net.feature_info.channels() == [x.shape[1] for x in features]
    assert net.feature_info.reduction() == [32 // x.shape[2] for x in features] == [1, 2, 4]
    assert torch.equal(features[-1], model.net.forward_features(images))


@portable
@needs_timm
def test_timm_saves_it_and_loads_it_again(tmp_path: Path, model: TrainedModel):
    import timm
    from timm.models._hub import save_for_hf

    net = timm_models.from_run(tmp_path, num_classes=4).eval()
    save_for_hf(net, str(tmp_path / "theirs"), safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path / 'theirs'}", pretrained=True).eval()
    images = model.normalize(PIXELS)
    assert torch.equal(again(images), net(images)) and again.num_classes == 4


@portable
@needs_timm
def test_an_untrained_network_by_its_numbers():
    import timm

    timm_models.register()
    net = timm.create_model("darts_gdas", genotype="DARTS_V2", num_classes=10)
    assert count_parameters(net) == 3_349_342  # as the authors say
    assert timm.create_model("darts_gdas", genotype="GDAS_V1", layout={"layers": 3}).training
    with pytest.raises(ValueError, match="needs genotype="):
        timm.create_model("darts_gdas")


@portable
@needs_timm
def test_what_training_scripts_pass_is_taken_where_it_is_true():
    import timm

    timm_models.register()
    small = {"genotype": "DARTS_V2", "layout": {"channels": 4, "layers": 3}}
    timm.create_model("darts_gdas", **small, drop_rate=0.0, global_pool="avg")
    for wrong, told in (
        ({"drop_rate": 0.1}, "drop_rate must be 0"),
        ({"global_pool": ""}, "global_pool must be 'avg'"),
        ({"layout": {"chanels": 4}}, "layout has no 'chanels'"),
    ):
        with pytest.raises(ValueError, match=told):
            timm.create_model("darts_gdas", **small | wrong)


@portable
@needs_timm
@pytest.mark.parametrize(
    ("layout", "channels", "size"), [({}, 3, 32), ({"stem": "imagenet"}, 3, 224), ({}, 1, 32)]
)
def test_an_untrained_network_takes_images_for_its_stem(
    caplog: pytest.LogCaptureFixture, layout: dict, channels: int, size: int
):
    import timm

    timm_models.register()
    net = timm.create_model(
        "darts_gdas",
        genotype="DARTS_V2",
        layout={"layers": 3, "channels": 4, **layout},
        num_classes=100,
        in_chans=channels,
    )
    data = timm.data.resolve_model_data_config(net)
    assert tuple(data["input_size"]) == (channels, size, size)
    assert len(data["mean"]) == len(data["std"]) == channels
    assert net.pretrained_cfg["num_classes"] == net.num_classes == 100
    assert not caplog.records  # nothing of a default
    assert net(torch.zeros(2, *data["input_size"])).shape == (2, 100)
