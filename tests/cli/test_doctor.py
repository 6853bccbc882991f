"""What the doctor sees is what is there."""

import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from darts_gdas import __version__
from darts_gdas.cli import doctor
from darts_gdas.cli.doctor import Finding, disc, main, packages, self_test
from darts_gdas.reasons import installing


def test_the_doctor_names_versions_and_ends_well(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "self_test", lambda: Finding("a small search", "ran"))
    main(["--folder", str(tmp_path)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    told = {line[0]: line[1] for line in lines[:-1]}
    assert told["darts-gdas"] == __version__
    for name in ("torch", "hydra-core", "numpy", "tensorboard"):
        assert told[name] == metadata.version(name)
    assert " ".join(lines[-1]) == "everything needed is here"
    assert not list(tmp_path.iterdir())


def test_a_missing_and_a_wrong_version_are_faults(monkeypatch, capsys):
    asked = [
        "numpy>=1.26",
        "no-such-package>=2",
        "torch>=99",
        "pillow",
        "other-one>=1; extra == 'x'",
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: asked)
    about = metadata.metadata("darts-gdas")
    monkeypatch.setattr(about.__class__, "get_all", lambda *_: ["x"])
    found = {finding.about: finding for finding in packages()}
    assert [name for name, finding in found.items() if finding.is_fault] == [
        "no-such-package",
        "torch",
    ]
    assert found["no-such-package"].told == "missing: pip install 'no-such-package>=2'"
    assert found["torch"].told == f"{metadata.version('torch')}, but >=99 is needed"
    assert found["extra 'x'"].told.endswith(
        f"other-one not here. If you want it: {installing('x')}"
    )


def test_each_optional_package_says_what_it_is_for(monkeypatch):
    asked = ["medmnist>=3.0; extra == 'x'", "datasets>=4.0; extra == 'x'", "numpy; extra == 'x'"]
    versions = {"datasets": "3.6.0", "numpy": "2.0"}
    monkeypatch.setattr(metadata, "requires", lambda _: asked)
    monkeypatch.setattr(doctor, "_version", versions.get)
    about = metadata.metadata("darts-gdas")
    monkeypatch.setattr(about.__class__, "get_all", lambda *_: ["x"])
    (found,) = packages()
    assert not found.is_fault and found.told == (
        "medmnist not here (for dataset=medmnist), datasets 3.6.0, but >=4.0 is needed (for "
        f"dataset=huggingface). If you want it: {installing('x')}"
    )


def test_every_package_of_an_extra_for_users_has_a_purpose():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 does not have it")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {
        canonicalize_name(Requirement(text).name)
        for extra in extras.keys() - {"dev"}
        for text in extras[extra]
    }
    assert names == doctor.PURPOSES.keys()


def test_a_search_without_an_end_is_a_fault(monkeypatch):
    def hang(call: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(call, timeout)

    monkeypatch.setattr(doctor.subprocess, "run", hang)
    assert self_test() == Finding("a small search", "has no end within 300 s", True)


def test_a_pre_release_is_named(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda _: ["hydra-core>=1.3"])
    monkeypatch.setattr(metadata, "version", lambda _: "1.4.0rc3")
    first = next(iter(packages()))
    assert first.told.startswith("1.4.0rc3, a pre-release") and not first.is_fault


def test_a_checkout_that_is_not_installed_is_told(monkeypatch):
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    (found,) = packages()
    root = Path(doctor.__file__).parents[2]
    assert not found.is_fault and found.told.startswith(
        "not looked at: darts-gdas is not installed"
    )
    assert found.told.endswith(f"(pip install -e {root})")


def test_gpus_and_hidden_gpus(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    told = {finding.about: finding.told for finding in doctor.devices()}
    assert told["CUDA"].endswith("sees no GPU; CUDA_VISIBLE_DEVICES is ''")


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    (found,) = disc(tmp_path)
    assert found.is_fault and found.told == "cannot be written: Permission denied"


@pytest.mark.parametrize("arguments", [["--folder", "nowhere"]])
def test_a_folder_that_is_not_there(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "got 'nowhere'" in capsys.readouterr().err


def test_the_small_search_runs():
    found = self_test()
    assert not found.is_fault and found.told.startswith("ran in "), found.told


def test_a_search_that_fails_is_a_fault(monkeypatch, capsys, tmp_path):
    failed = subprocess.CompletedProcess([], 2, "", "note\nerror: no such setting\n")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit) as stop:
        main(["--folder", str(tmp_path)])
    out = capsys.readouterr().out
    assert stop.value.code == 1 and out.endswith("\n1 faults\n")
    assert "FAULT a small search          ended in status 2: error: no such setting" in out
