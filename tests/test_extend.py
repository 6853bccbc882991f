"""Parts from outside: what is registered can be chosen, what cannot be a part is refused."""

import json
import os
import re
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import MISSING, DictConfig

from darts_gdas.config import GROUPS, SearchConfig, conf_folder, known_keys, register, typed
from darts_gdas.extend import BASES, register_method, register_part
from darts_gdas.scoring.warm_start import NoWarmStart
from darts_gdas.search import Relaxation, Softmax
from tests.registries import parts_put_back
from tests.test_add_a_part import FILES, ROOT, blocks, check, source

REFUSED = "cannot be made from its defaults"
LIKE_DARTS = {"defaults": ["darts"]}


@pytest.fixture(autouse=True)
def _parts() -> Iterator[None]:
    with parts_put_back():
        register()
        yield


@dataclass
class Scaled(Relaxation):
    """A softmax of scaled logits."""

    scale: float = 2.0
    steps: list[int] = field(default_factory=lambda: [1, 2])

    def relax(self, logits, *, progress, rng):
        return (self.scale * logits).softmax(-1), None

    def expectation(self, logits):
        return logits.softmax(-1)


@dataclass
class Unwritten(Relaxation):
    scale: float = 2.0


@dataclass
class Demanding(Scaled):
    must: int = MISSING


@dataclass
class Tensors(Scaled):
    value: torch.Tensor = field(default_factory=lambda: torch.zeros(1))


@dataclass
class Paths(Scaled):
    file: Path = Path("somewhere")


class Undecorated(Scaled):
    other: float = 1.0


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("search", list(overrides))


def test_every_group_of_parts_has_its_base():
    assert BASES.keys() == GROUPS.keys()


def test_a_part_is_chosen_and_its_settings_are_known():
    register_part("relaxation", "scaled", Scaled)
    cfg = composed("relaxation=scaled", "relaxation.scale=3", "relaxation.steps=[5]")
    config = typed(cfg, SearchConfig)
    assert config.relaxation == Scaled(3.0, [5])
    assert {"relaxation.scale", "relaxation.steps"} <= set(known_keys())


def test_what_the_user_must_choose_may_have_no_default():
    register_part("relaxation", "demanding", Demanding)
    assert typed(composed("relaxation=demanding", "relaxation.must=4"), SearchConfig)


@pytest.mark.parametrize(
    ("group", "name", "part", "message"),
    [
        ("relaxations", "mine", Scaled, "no group 'relaxations' of parts; choose one of space,"),
        (
            "relaxation",
            "My-Part",
            Scaled,
            "your relaxation part's name is lower-case letters, digits and unders",
        ),
        ("relaxation", "softmax", Scaled, "'softmax' is taken; choose another for your relax"),
        ("dataset", "digits", Scaled, "the name 'digits' is taken"),  # a file of conf/
        ("optimizer/schedule", "cosine", Scaled, "the name 'cosine' is taken"),
        ("relaxation", "mine", NoWarmStart, "must be a @dataclass derived from Relaxation, got"),
        ("relaxation", "mine", Undecorated, "must be a @dataclass derived from Relaxation, got"),
        ("relaxation", "mine", Softmax(), "must be a @dataclass derived from Relaxation, got"),
        ("relaxation", "mine", Unwritten, f"{REFUSED} \\(Can't instantiate abstract class"),
        ("relaxation", "mine", Tensors, REFUSED),
        ("relaxation", "mine", Paths, f"{REFUSED}.*give every field a default: a number, a text"),
    ],
)
def test_what_is_no_part_is_refused(group: str, name: str, part: type, message: str):
    known = {group: dict(parts) for group, parts in GROUPS.items()}
    with pytest.raises(ValueError, match=message) as caught:
        register_part(group, name, part)
    assert "\n" not in str(caught.value)
    assert known == GROUPS


def test_a_name_is_given_once():
    register_part("relaxation", "scaled", Scaled)
    with pytest.raises(ValueError, match="the name 'scaled' is taken"):
        register_part("relaxation", "scaled", Scaled)


def test_a_method_is_a_composition():
    register_part("relaxation", "scaled", Scaled)
    parts = {"defaults": ["darts", {"override /relaxation": "scaled"}]}
    register_method("mine", {**parts, "relaxation": {"scale": 4.0}, "weights_fraction": 0.4})
    mine, darts = (typed(composed(f"method={m}"), SearchConfig) for m in ("mine", "darts"))
    assert mine.relaxation == Scaled(4.0) and mine.weights_fraction == 0.4
    assert mine.arch_optimizer == darts.arch_optimizer and mine.order is darts.order


def test_the_same_method_may_be_told_again_but_no_other_by_its_name():
    """A job that a launcher starts is given what was registered, and registers it once more."""
    for _ in range(2):
        register_method("mine", LIKE_DARTS)
    with pytest.raises(ValueError, match="the name 'mine' is taken; choose another for your m"):
        register_method("mine", {**LIKE_DARTS, "batch_size": 8})
    with pytest.raises(ValueError, match="the name 'gdas' is taken"):
        register_method("gdas", LIKE_DARTS)
    with pytest.raises(ValueError, match="lower-case letters"):
        register_method("Mine", LIKE_DARTS)


# A package, as a reader would make and install it


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package of docs/extend.md is installed: built from its own pyproject.toml."""
    root = tmp_path_factory.mktemp("package") / "my-parts"
    (root / "my_parts").mkdir(parents=True)
    (root / "pyproject.toml").write_text(blocks("extend", "toml")[0])
    (root / "my_parts" / "__init__.py").write_text(blocks("extend", "python")[1])
    for name in FILES:
        (root / "my_parts" / f"{name}.py").write_text(source(name))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (wheel,) = root.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(root / "site")
    return root / "site"


@pytest.fixture
def start(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Starts a program in this process, which finds the package; gives its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(site))

    def start(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with parts_put_back():
            try:
                runpy.run_path(str(ROOT / script), run_name="__main__")
            except SystemExit as stop:
                assert not stop.code
        for name in [name for name in sys.modules if name.startswith("my_parts")]:
            del sys.modules[name]
        captured = capsys.readouterr()
        return captured.out + captured.err

    return start


def test_every_program_knows_the_parts_of_an_installed_package(
    start: Callable[..., str], site: Path, tmp_path: Path
):
    check("add_a_data_set", 0)
    _, told = blocks("extend", "bash")[0].splitlines()
    arguments = told.removeprefix("python search.py ").split()
    tiny = ("epochs=2", "net.channels=4", "net.layers=3", "run_dir=found")
    small = ("--channels", "4", "--layers", "3", "--image-size", "12")
    candidates = "space.candidates=[skip_connect,gated_conv]"
    environment = {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT))), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "search.py", *arguments, candidates, *tiny]
    subprocess.run(command, env=os.environ | environment, check=True, capture_output=True)
    found = (tmp_path / "found" / "genotype.json").read_text()
    (tmp_path / "found" / "result.json").unlink()  # as if it had been killed in the second epoch
    max((tmp_path / "found" / "checkpoints").glob("*.pt")).unlink()
    assert "resuming search in found" in start("search.py", "resume=found")
    assert (tmp_path / "found" / "genotype.json").read_text() == found
    config = yaml.safe_load((tmp_path / "found" / "config.yaml").read_text())
    assert config["relaxation"]["tau"] == {"start": 1.0, "end": 0.1}
    assert "gated_conv" in found and "gated_conv" in start("darts_gdas/show.py", "found", *small)
    scores = ("scores=[spread,params]", "count=3", "dataset=arrays", "space=nasbench201")
    out = start("darts_gdas/score.py", *scores, "run_dir=ranked")
    assert "ranked by spread + params" in out
    assert json.loads((tmp_path / "ranked" / "result.json").read_text())["scores"][0] == "spread"


def test_the_page_names_every_file_of_the_package():
    told = re.findall(r"-- (\w+)\.py  ", (ROOT / "docs" / "extend.md").read_text())
    assert sorted(told) == sorted(FILES)
    (install, _) = blocks("extend", "bash")[0].splitlines()
    assert install == "pip install ./my-parts"


def test_the_last_lines_of_a_script_are_those_of_every_page():
    ending = blocks("extend", "python")[0]
    importing, *last = [line for line in ending.splitlines() if line]
    for name in FILES:
        lines = source(name).splitlines()
        assert importing in lines and lines[-2:] == last
