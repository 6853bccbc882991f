"""The model card says what the run says, and its example runs."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from darts_gdas.nets import Layout, count_multiply_adds
from darts_gdas.portable.bundle import Accuracy, Format, make, put
from darts_gdas.portable.card import USES, about, describe, markdown, told_accuracy, with_files
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import TrainedModel
from tests.portable.test_source import model_of, pixels


@pytest.fixture
def model() -> TrainedModel:
    found = model_of(Genotype.load("DARTS_V2"), Layout(4, 3, 10), (8, 8))
    found.net.float()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of a retraining that a card is made from."""
    config = {"dataset": {"root": "data", "download": False}, "epochs": 600, "seed": 3}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = {"test": {"accuracy": 0.9731}, "genotype_source": "a|b", "torch": "2.14", "seconds": 5}
    result["preparation"] = ["cut to 8x8", "grey"]
    (tmp_path / "result.json").write_text(json.dumps(result))
    return tmp_path


def test_the_card_says_what_the_run_says(folder: Path, model: TrainedModel):
    card = describe(model, folder)
    assert card["data"] == {"name": "cifar10", "root": "data", "download": False}
    assert card["accuracy"] == {"accuracy": 0.9731}
    assert (card["training"]["epochs"], card["training"]["seed"]) == (600, 3)
    assert card["versions"]["trained"] == {"python": None, "torch": "2.14", "darts_gdas": None}
    assert card["versions"]["exported"]["torch"] == torch.__version__
    assert card["normalization"]["mean"] == model.normalize.mean.tolist()
    assert card["preprocessing"] == ["cut to 8x8", "grey"]
    whole = with_files(card, Format.torch, {"network.pt2": b""}, 1e-7)
    assert "| preprocessing before it | cut to 8x8; grey |" in markdown(whole, model)
    assert card["multiply_adds"] == count_multiply_adds(model.net, (3, 8, 8))
    assert Genotype.from_json(json.dumps(card["genotype"])) == model.net.genotype
    assert json.loads(json.dumps(card)) == card | {"classes": list(model.classes)}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"test_fraction": 0.2}, "digits"),
        ({"root": "/my/birds", "skip_corrupt": False}, "images of birds"),
        ({"download": True}, "cifar10"),
        ({}, None),
    ],
)
def test_the_data_set_is_told_by_its_settings(
    tmp_path: Path, model: TrainedModel, settings: dict, name: str | None
):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"dataset": settings}))
    assert describe(model, tmp_path)["data"]["name"] == name


def test_the_data_set_has_the_name_by_which_the_user_chose_it(folder: Path, model: TrainedModel):
    """A data set of somebody else may have the settings of one of ours."""
    (folder / "config.yaml").write_text(yaml.safe_dump({"dataset": {"test_fraction": 0.2}}))
    (folder / "overrides.yaml").write_text("[dataset=digits, epochs=2, dataset=birds]\n")
    assert describe(model, folder)["data"]["name"] == "birds"
    (folder / "overrides.yaml").write_text("[epochs=2]\n")
    assert describe(model, folder)["data"]["name"] == "digits"


def test_a_model_without_its_run_has_a_card_with_gaps(tmp_path: Path, model: TrainedModel):
    card = with_files(describe(model, tmp_path), Format.torch, {"network.pt2": b""}, 1e-7)
    text = markdown(card, model)
    assert "| test accuracy | not known |" in text and "| trained with | not known |" in text
    assert "| data | not known |" in text and "None" not in text
    assert card["export"]["sha256"] == {  # of no bytes
        "network.pt2": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    }


def test_only_files_of_fewer_bits_may_have_another_accuracy(folder: Path, model: TrainedModel):
    assert [form.name for form in Format if form.is_coarse] == ["onnx_fp16", "onnx_int8"]
    card = describe(model, folder)
    exact, coarse = (with_files(card, f, {}, 0.0) for f in (Format.onnx, Format.onnx_int8))
    assert told_accuracy(exact) == "97.31 %"
    assert (
        told_accuracy(coarse) == "97.31 %, of the network in float32: these files were not tested"
    )
    found = Accuracy(0.5, 1000, 2000)
    told = told_accuracy(with_files(card, Format.onnx_int8, {}, 0.0, found))
    files = "50.00 % of 1,000 of 2,000 test images, by these files"
    assert told == f"{files}; the network in float32: 97.31 % of all"
    unknown = with_files(card | {"accuracy": None}, Format.onnx_int8, {}, 0.0, found)
    assert told_accuracy(unknown) == files


def test_a_table_stays_a_table(folder: Path, model: TrainedModel):
    text = markdown(with_files(describe(model, folder), Format.torch, {}, 0.0), model)
    assert "| test accuracy | 97.31 % |" in text and "| genotype from | a\\|b |" in text
    assert "largest difference of logits 0 |" in text


def test_the_example_of_the_card_runs(
    folder: Path, model: TrainedModel, monkeypatch: pytest.MonkeyPatch
):
    put(folder / "here", make(model, Format.python, about(describe(model, folder))))
    monkeypatch.chdir(folder / "here")
    monkeypatch.syspath_prepend(folder / "here")
    names: dict = {"torch": torch, "images": pixels(model)}
    exec(compile(USES[Format.python], "model_card.md", "exec"), names)
    monkeypatch.delitem(__import__("sys").modules, "network")
    assert torch.allclose(names["logits"], model.net(model.normalize(names["images"])), atol=1e-5)


def test_the_docstring_cannot_be_broken_by_names(tmp_path: Path, model: TrainedModel):
    settings = {"root": '/a/"""\\\n\u00e9', "skip_corrupt": False}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"dataset": settings}))
    lines = about(describe(model, tmp_path))
    assert "images of ______" in lines[0]
    assert all(line.isascii() and len(line) <= 100 for line in lines)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_file_is_named(folder: Path, model: TrainedModel, text: str):
    (folder / "result.json").write_text(text)
    with pytest.raises(ValueError, match=r"result\.json' (cannot be read|is damaged)"):
        describe(model, folder)
