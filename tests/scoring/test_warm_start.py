"""Warm starts give alphas that stand for what they found."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from darts_gdas.nets import NASBENCH201, Layout
from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring.correlation import NothingTold
from darts_gdas.scoring.scores import register_score
from darts_gdas.scoring.warm_start import NoWarmStart, NtkWarmStart, Setting, TeNasWarmStart
from darts_gdas.search import ArchParameters, ArgMax, Softmax
from darts_gdas.space import SearchSpace
from tests.registries import parts_put_back

SPACE = SearchSpace.nasbench201(candidates=("none", "skip_connect", "nor_conv_3x3"))
DARTS = SearchSpace.darts(num_nodes=2, candidates=("none", "skip_connect", "sep_conv_3x3"))


def setting(space: SearchSpace, path: Path | None = None) -> Setting:
    def batch(count: int) -> Tensor:
        return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))

    def layout(channels: int) -> Layout:
        if space is SPACE:
            return Layout(channels, 5, 3, in_channels=2, skeleton=NASBENCH201)
        return Layout(channels, 3, 3, in_channels=2)

    return Setting(space, layout, batch, 7, Journal(path, "x"), lambda *_: None)


def test_no_warm_start_leaves_the_alphas():
    assert NoWarmStart()(setting(SPACE)) is None


def test_parameters_alone_prefer_convolutions_everywhere():
    """A score whose effects are known: only convolutions have weights."""
    first = NtkWarmStart(samples=16, scores=["params"], channels=2)(setting(SPACE))
    logits = first.logits["normal"]
    assert (logits[:, 2] > logits[:, 1]).all()
    assert (logits[:, 0] == 0).all()  # none is masked
    assert float(logits.abs().max()) <= 2.0
    assert first.effects is not None and first.effects.explained > 0.8


def test_a_score_that_says_nothing_is_named_and_changes_nothing(caplog: pytest.LogCaptureFixture):
    with parts_put_back():
        register_score("broken", lambda candidate: -math.inf)
        alone = NtkWarmStart(samples=10, scores=["params"], channels=2)(setting(SPACE))
        both = NtkWarmStart(samples=10, scores=["broken", "params"], channels=2)(setting(SPACE))
        assert torch.equal(alone.logits["normal"], both.logits["normal"])
        assert "broken is -inf for each of the drawn cells" in caplog.text
        with pytest.raises(NothingTold, match="no score tells the drawn cells apart: broken is"):
            NtkWarmStart(samples=10, scores=["broken"], channels=2)(setting(SPACE))


def test_an_interrupted_warm_start_goes_on(tmp_path: Path):
    warm_start = NtkWarmStart(samples=10, scores=["ntk_condition"], channels=2, batch_size=4)
    whole = warm_start(setting(SPACE, tmp_path / "book"))
    lines = (tmp_path / "book").read_text().splitlines(keepends=True)
    (tmp_path / "book").write_text("".join(lines[:5]) + lines[5][:20])
    again = warm_start(setting(SPACE, tmp_path / "book"))
    assert torch.equal(whole.logits["normal"], again.logits["normal"])
    assert (tmp_path / "book").read_text() == "".join(lines)


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(SPACE, id="nasbench201"),
        pytest.param(DARTS, id="darts", marks=pytest.mark.slow),
    ],
)
def test_te_nas_alphas_are_discretised_to_its_cell(space: SearchSpace):
    warm_start = TeNasWarmStart(repeats=1, batch_size=4, region_samples=20)
    first = warm_start(setting(space))
    arch = ArchParameters(space)
    with torch.no_grad():
        for kind, logits in first.logits.items():
            arch.logits[kind].copy_(logits)
    assert ArgMax()(Softmax().expected(arch), space) == first.genotype


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 9}, "warm_start.samples must be at least 10, got 9"),
        ({"batch_size": 1}, "warm_start.batch_size must be at least 2"),
        ({"ridge": 0.0}, "warm_start.ridge must be positive, got 0.0"),
        ({"temperature": -1.0}, "warm_start.temperature must be positive"),
        ({"scores": ["best"]}, "warm_start.scores must be distinct names"),
    ],
)
def test_ntk_settings_are_checked(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        NtkWarmStart(**changes)


@pytest.mark.parametrize(
    "name", ["repeats", "per_round", "batch_size", "channels", "region_samples"]
)
def test_te_nas_settings_are_checked(name: str):
    with pytest.raises(ValueError, match=rf"warm_start\.{name} must be"):
        TeNasWarmStart(**{name: 0})
