"""`python -m darts_gdas.export` on a finished retraining and on wrong input."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from darts_gdas.cli.export import main
from darts_gdas.cli.run_data import data_of, some_of
from darts_gdas.nets import Layout
from darts_gdas.portable.bundle import ExportFailed, Format
from darts_gdas.reasons import installing
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import load_model, save_model
from tests.nets.test_stored import saved
from tests.portable.test_bundle import same_process  # noqa: F401
from tests.portable.test_source import model_of


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    saved(tmp_path / "run")
    return tmp_path / "run"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    """What the program says where it does not do it: one line."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert stop.value.code == status and line.startswith("error: ") and not captured.out
    return line


def test_a_run_is_exported_with_its_card(run_folder: Path, capsys: pytest.CaptureFixture[str]):
    main([str(run_folder), "--format", "python"])
    out = run_folder / "export" / "python"
    first, *paths = capsys.readouterr().out.splitlines()
    assert first.startswith("largest difference of logits in a fresh process: ")
    assert float(first.split()[-1]) < 1e-5
    names = ["network.py", "network.pt", "model_card.json", "model_card.md"]
    assert paths == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    card = json.loads((out / "model_card.json").read_text())
    assert card["classes"] == [*"abcdefg"] and card["export"]["format"] == "python"
    found = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in names[:2]}
    assert card["export"]["sha256"] == found


@pytest.mark.parametrize(
    ("form", "extra", "needed"),
    [
        ("onnx", "export", "onnx and onnxscript"),
        ("onnx_int8", "export", "onnx and onnxscript and onnxruntime"),
        ("openvino", "openvino", "openvino"),
        ("executorch", "executorch", "executorch"),
        ("hub", "hub", "huggingface_hub and safetensors"),
    ],
)
def test_a_missing_extra_is_named(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    extra: str,
    needed: str,
):
    monkeypatch.setattr("darts_gdas.portable.extras.find_spec", lambda name: None)
    line = refused(capsys, str(run_folder), "--format", form)
    assert line.endswith(f"--format {form} needs {needed}: {installing(extra)}")
    assert not (run_folder / "export").exists()


def test_images_of_a_run_are_those_that_its_settings_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"overrides\.yaml' cannot be read"):
        data_of(tmp_path)
    (tmp_path / "overrides.yaml").write_text("[dataset=digits, dataset.test_fraction=0.5]\n")
    train, _ = data_of(tmp_path)
    found, labels = some_of(train, 5)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:5]
    assert torch.equal(found, train.sample.images[order]) and found.dtype == torch.uint8
    assert torch.equal(labels, train.labels[order]) and len(train) == 899
    (tmp_path / "overrides.yaml").write_text("[dataset=stars]\n")
    with pytest.raises(ValueError, match=r"overrides\.yaml' says no known data: "):
        data_of(tmp_path)


@pytest.fixture
def of_digits(tmp_path: Path) -> Path:
    """A run on the digits, of which 359 are test images; it says that its accuracy is 84.12 %."""
    model = model_of(Genotype.load("DARTS_V2"), Layout(4, 1, 10, 1, reductions=()), (8, 8))
    model.net.float()
    (tmp_path / "overrides.yaml").write_text("[dataset=digits]\n")
    _, test = data_of(tmp_path)
    save_model(tmp_path / "model.pt", replace(model, classes=test.classes))
    (tmp_path / "result.json").write_text(json.dumps({"test": {"accuracy": 0.8412}}))
    return tmp_path


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("most", [359, 100])
def test_files_of_fewer_bits_have_an_accuracy_of_their_own(
    of_digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch, most: int
):
    """Those of Python stand for them here, as they are written within a second."""
    monkeypatch.setattr(Format, "is_coarse", True)
    monkeypatch.setattr("darts_gdas.cli.export.TESTED", most)
    main([str(of_digits), "--format", "python"])
    images, labels = some_of(data_of(of_digits)[1], most)
    said = load_model(of_digits).predict(images).argmax(1)
    accuracy = float((said == labels).double().mean())
    folder = of_digits / "export" / "python"
    card = json.loads((folder / "model_card.json").read_text())
    assert card["accuracy"] == {"accuracy": accuracy, "images": most, "of": 359}
    assert card["accuracy_in_float32"] == {"accuracy": 0.8412}
    on = "all 359" if most == 359 else "100 of 359"
    told = f"{100 * accuracy:.2f} % of {on} test images, by these files; the network in float32: "
    assert f"test accuracy: {told}84.12 % of all" in capsys.readouterr().out.splitlines()
    assert f"| test accuracy | {told}84.12 % of all |" in (folder / "model_card.md").read_text()


@pytest.mark.parametrize("lacks", ["settings", "classes"])
def test_files_that_cannot_be_tested_say_whose_accuracy_theirs_is(
    of_digits: Path, capsys: pytest.CaptureFixture[str], monkeypatch, lacks: str
):
    monkeypatch.setattr(Format, "check_packages", lambda self: None)
    monkeypatch.setattr("darts_gdas.cli.export.make", lambda *_: {"network.onnx": b""})
    monkeypatch.setattr("darts_gdas.cli.export.largest_difference", lambda *_: 0.0)
    if lacks == "settings":
        (of_digits / "overrides.yaml").write_text("[dataset=stars]\n")
    else:
        save_model(of_digits / "model.pt", replace(load_model(of_digits), classes=(*"abcdefghij",)))
    main([str(of_digits), "--format", "onnx_fp16"])
    told = capsys.readouterr()
    assert told.err.startswith("the files are not tested: ")
    line = "84.12 %, of the network in float32: these files were not tested"
    assert f"test accuracy: {line}" in told.out.splitlines()
    assert line in (of_digits / "export" / "onnx_fp16" / "model_card.md").read_text()


def test_wrong_input_is_one_line(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert f"there is no '{tmp_path / 'nowhere'}'; pass the folder of a" in refused(
        capsys, str(tmp_path / "nowhere")
    )
    search = tmp_path / "search"
    search.mkdir()
    (search / "genotype.json").write_text(Genotype.load("DARTS_V2").to_json())
    line = refused(capsys, str(search))
    assert "holds no trained network" in line and f"python train.py genotype={search}" in line
    (run_folder / "result.json").write_text("{")
    assert "result.json' cannot be read" in refused(capsys, str(run_folder))
    (run_folder / "model.pt").write_bytes(b"no model")
    assert "is damaged: its sha256 does not match" in refused(capsys, str(run_folder))
    assert not (run_folder / "export").exists()
    (tmp_path / "file").touch()
    line = refused(capsys, str(run_folder), "--out", str(tmp_path / "file"))
    assert f"--out must be a folder, '{tmp_path / 'file'}' is a file" in line  # before all else


def test_what_does_not_run_by_itself_is_not_put_in_place(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def failed(*_: object) -> float:
        raise ExportFailed("the exported network computes something else")

    monkeypatch.setattr("darts_gdas.cli.export.largest_difference", failed)
    line = refused(capsys, str(run_folder), "--format", "python", status=1)
    assert "the exported network computes something else" in line
    assert not (run_folder / "export").exists()
