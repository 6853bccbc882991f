"""Folders of the hub's form: what is written is read back, by us and by the hub's own package."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from darts_gdas.cli.export import main
from darts_gdas.nets import count_parameters
from darts_gdas.portable.bundle import ExportFailed
from darts_gdas.portable.card import Card
from darts_gdas.portable.hub import EXTRA, from_pretrained, net_of, save_pretrained, settings_of
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.checkpoint import CheckpointError
from darts_gdas.tasks.model import TrainedModel
from tests.nets.test_stored import PIXELS, saved

ROOT = Path(__file__).parents[2]
portable = pytest.mark.portable
needs_hub = pytest.mark.skipif(
    any(find_spec(name) is None for name in EXTRA),
    reason="huggingface_hub and safetensors are not installed: pip install -e '.[hub]'",
)


@pytest.fixture
def model(tmp_path: Path) -> TrainedModel:
    (tmp_path / "run").mkdir()
    return saved(tmp_path / "run", name="DARTS_V2")


def test_the_settings_describe_the_network(model: TrainedModel):
    settings = json.loads(json.dumps(settings_of(model)))
    net = net_of(settings["model_args"], 7, 3)
    assert (net.genotype, net.layout) == (model.net.genotype, model.net.layout)
    assert settings["pretrained_cfg"]["first_conv"] == "stem.conv"
    mean = torch.tensor(settings["pretrained_cfg"]["mean"])
    assert torch.equal(mean, model.normalize.mean)


def test_a_published_name_has_the_papers_numbers():
    net = net_of({"genotype": "DARTS_V2"}, 0, 3)
    assert (net.layout.channels, net.layout.layers, net.num_classes) == (36, 20, 0)
    assert net_of({"genotype": "DARTS_V2", "layout": {"layers": 3}}, 4, 1).layout.layers == 3


def test_packages_of_others_wait_until_they_are_asked_for():
    """In a process of its own: neither the package nor a module of exports loads one."""
    code = (
        "import sys, darts_gdas, darts_gdas.cli.export, darts_gdas.portable.timm_models\n"
        "names = 'timm safetensors huggingface_hub onnx onnxruntime openvino executorch'\n"
        "print(*{*names.split()} & {*sys.modules})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.split() == []


@portable
@needs_hub
def test_outputs_are_the_classes_that_are_named(tmp_path: Path, model: TrainedModel):
    save_pretrained(tmp_path / "hub", model)
    settings = json.loads((tmp_path / "hub" / "config.json").read_text())
    settings["label_names"].append("one more")
    (tmp_path / "hub" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="label_names for"):
        from_pretrained(tmp_path / "hub")
    other = copy.deepcopy(model)
    for outputs in (0, len(model.classes) + 1):
        other.net.reset_classifier(outputs)
        with pytest.raises(ValueError, match=f"classes, the network has {outputs};"):
            save_pretrained(tmp_path / "new", other)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="what is written must be a folder"):
        save_pretrained(tmp_path / "hub" / "config.json", model)


@portable
@needs_hub
def test_what_is_written_is_read_back(tmp_path: Path, model: TrainedModel):
    from huggingface_hub import ModelCard
    from safetensors.torch import load_file

    save_pretrained(tmp_path / "hub", model)
    again = from_pretrained(str(tmp_path / "hub"))
    assert torch.equal(again.predict(PIXELS), model.predict(PIXELS))
    assert (again.classes, again.image_size) == (model.classes, model.image_size)
    assert again.net.auxiliary is None
    weights = load_file(tmp_path / "hub" / "model.safetensors")
    assert weights.keys() == again.net.state_dict().keys()
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    assert f" {count_parameters(model.net):,} parameters" in card.text  # no auxiliary head
    assert card.data.pipeline_tag == "image-classification" and "timm" in card.data.tags


@portable
@needs_hub
def test_a_run_is_exported_with_its_accuracy(
    tmp_path: Path, model: TrainedModel, capsys: pytest.CaptureFixture[str]
):
    from huggingface_hub import ModelCard

    (tmp_path / "run" / "result.json").write_text(json.dumps({"test": {"accuracy": 0.75}}))
    settings = {"root": "/my/birds", "skip_corrupt": False}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"dataset": settings}))
    main([str(tmp_path / "run"), "--format", "hub"])
    out = tmp_path / "run" / "export" / "hub"
    names = ["model.safetensors", "config.json", "README.md"]
    first, *paths = capsys.readouterr().out.splitlines()
    assert first == "largest difference of logits when read back: 0"
    assert paths == [str(out / name) for name in names]
    (result,) = ModelCard.load(out / "README.md").data.eval_results
    assert (result.metric_value, result.dataset_name) == (0.75, "images of birds")


@portable
@needs_hub
def test_the_card_stays_with_its_network(tmp_path: Path, model: TrainedModel):
    from huggingface_hub import ModelCard

    card: Card = {"data": {"name": "images of birds"}, "accuracy": {"accuracy": 0.75}}
    save_pretrained(tmp_path / "hub", model, card)
    path = tmp_path / "hub" / "README.md"
    path.write_text(path.read_text() + "\nPhotographs of a garden.\n")  # of who published it
    again = from_pretrained(tmp_path / "hub")
    save_pretrained(tmp_path / "same", again)
    assert (tmp_path / "same" / "README.md").read_text() == path.read_text()
    (result,) = ModelCard.load(tmp_path / "same" / "README.md").data.eval_results
    assert (result.metric_value, result.dataset_name) == (0.75, "images of birds")
    moved = replace(again, net=copy.deepcopy(again.net))
    with torch.no_grad():
        moved.net.classifier.bias.add_(1)
    scaled = replace(again, normalize=Normalize(torch.zeros(3), torch.ones(3)))
    for other in (moved, scaled):  # another network, which nobody has tested
        save_pretrained(tmp_path / "tuned", other)
        about = ModelCard.load(tmp_path / "tuned" / "README.md").data
        assert about.eval_results is None and about.model_name == "darts_gdas of images"
    path.write_bytes("Photographs of a Vogelh\u00e4uschen".encode("latin-1"))
    assert from_pretrained(tmp_path / "hub").readme is None


@portable
@needs_hub
def test_what_reads_back_as_another_network_is_not_put_in_place(
    tmp_path: Path, model: TrainedModel, monkeypatch: pytest.MonkeyPatch
):
    other = replace(model, normalize=Normalize(torch.zeros(3), torch.ones(3)))
    monkeypatch.setattr("darts_gdas.portable.hub.from_pretrained", lambda _: other)
    with pytest.raises(ExportFailed, match="computes something else: logits differ by"):
        save_pretrained(tmp_path / "hub", model)
    assert not (tmp_path / "hub").exists()


@portable
@needs_hub
@pytest.mark.parametrize("keep", [0, 7, 2000, -1])
def test_cut_weights_are_one_line(tmp_path: Path, model: TrainedModel, keep: int):
    save_pretrained(tmp_path, model)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is no network of the hub's form: ") as told:
        from_pretrained(tmp_path)
    assert len(str(told.value).splitlines()) == 1


@portable
@needs_hub
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pretrained_cfg": {"input_size": [1]}}'])
def test_damaged_settings_are_one_line(tmp_path: Path, model: TrainedModel, text: str):
    save_pretrained(tmp_path, model)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="is no network of the hub's form: "):
        from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="No such file"):
        from_pretrained(tmp_path / "nowhere")
