"""docs/fine_tune.md is true: its program learns other images, and what it saves is exported."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from darts_gdas.cli.export import main as export
from darts_gdas.nets import DerivedNet, Layout
from darts_gdas.runtime.augment import Normalize
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import TrainedModel, load_model, save_model

PAGE = (Path(__file__).parents[1] / "docs" / "fine_tune.md").read_text(encoding="utf-8")
CLASSES = ("across", "down", "plain")


def block(number: int) -> str:
    return re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[number]


def stripes(name: str, rng: torch.Generator) -> Tensor:
    """A noisy picture of 12x10 pixels with stripes in one direction, or none."""
    wave = 100 * (torch.arange(12) // 2 % 2).float()
    pattern = {"across": wave[:, None], "down": wave[None, :10], "plain": torch.full((1, 1), 50.0)}
    return (pattern[name] + 60 * torch.rand(12, 10, generator=rng)).to(torch.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A retraining's folder `run` of grey 8x8 images, and pictures of another kind."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = DerivedNet(Genotype.load("DARTS_V2"), Layout(4, 3, 10, 1), auxiliary=True)
    normalize = Normalize(torch.tensor([0.3]), torch.tensor([0.4]))
    (tmp_path / "run").mkdir()
    model = TrainedModel(net.eval(), normalize, tuple("0123456789"), (8, 8))
    save_model(tmp_path / "run" / "model.pt", model)
    for part, count in (("train", 32), ("test", 12)):
        for name in CLASSES:
            place = tmp_path / "images" / part / name
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(stripes(name, rng).numpy()).save(place / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_program_learns_other_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    program = block(1)
    assert len(program.splitlines()) <= 40
    (folder / "fine_tune.py").write_text(program)
    monkeypatch.setattr(sys, "argv", ["fine_tune.py", "run", "images"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        runpy.run_path("fine_tune.py", run_name="__main__")
    accuracy = float(capsys.readouterr().out.split()[2])
    assert accuracy > 90  # 33 by chance
    model = load_model("fine_tuned.pt")
    assert model.classes == CLASSES and model.net.auxiliary is None
    command = re.findall(r"```bash\npython -m darts_gdas.export (.*)\n```", PAGE)[0]
    monkeypatch.setattr("darts_gdas.cli.export.largest_difference", lambda *_: 0.0)  # takes seconds
    export(command.split())
    assert (folder / "export" / "python" / "network.py").exists()


def test_the_names_are_true(folder: Path):
    names: dict = {"images": torch.randn(2, 1, 8, 8)}
    exec(compile(block(0), "fine_tune.md", "exec"), names)
    net = names["net"]
    assert names["features"].shape == (2, net.num_features, 2, 2)
    assert torch.equal(names["logits"], net(names["images"]))
    assert (net.get_classifier().in_features, net.num_classes) == (net.num_features, 3)
