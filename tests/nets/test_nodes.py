"""What nodes add up, against the modules one after another."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas import native
from darts_gdas.native import Kernels
from darts_gdas.nets import weighted
from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.nodes import Summand, total
from darts_gdas.nets.statistics import StatisticsUpdate
from darts_gdas.nets.weighted import weighted_sums

EXACT = {"rtol": 1e-9, "atol": 1e-9}
KINDS = ("plain", "weighted", "normed", "weighted and normed")


def drawn(kinds: tuple[str, ...]) -> list[Summand]:
    torch.manual_seed(0)
    made = []
    for kind in kinds:
        images = channels_last(torch.randn(3, 4, 5, 5, dtype=torch.float64)).requires_grad_()
        weight = torch.randn((), dtype=torch.float64).requires_grad_()
        norm = nn.BatchNorm2d(4, affine=False).double()
        made.append(
            Summand(
                images, weight if "weighted" in kind else None, norm if "normed" in kind else None
            )
        )
    return made


def leaves(summands: list[Summand]) -> list[Tensor]:
    return [t for s in summands for t in (s.images, s.weight) if t is not None]


@pytest.mark.parametrize("kernels", [Kernels.auto, Kernels.library], ids=lambda k: k.name)
@pytest.mark.parametrize(
    "kinds",
    [c for n in (1, 2, 3) for c in itertools.combinations_with_replacement(KINDS, n)],
    ids=lambda kinds: ", ".join(kinds),
)
def test_a_sum_with_its_derivatives_and_statistics_is_that_of_its_modules(
    kinds: tuple[str, ...], kernels: Kernels
):
    native.choose(kernels)
    summands = drawn(kinds)
    alone = [copy.deepcopy(s.norm) for s in summands]
    update = StatisticsUpdate()
    found = total(summands, update)
    update.apply()
    terms = [
        (1 if s.weight is None else s.weight) * (norm(s.images) if norm else s.images)
        for s, norm in zip(summands, alone, strict=True)
    ]
    expected = torch.stack(terms).sum(0)
    assert_close(found, expected, **EXACT)
    upstream = torch.randn_like(expected)
    for actual, wanted in zip(
        *(torch.autograd.grad(y, leaves(summands), upstream) for y in (found, expected)),
        strict=True,
    ):
        assert_close(actual, wanted, **EXACT)
    for s, norm in zip(summands, alone, strict=True):
        if norm is not None and s.norm is not None:
            for actual, wanted in zip(s.norm.buffers(), norm.buffers(), strict=True):
                assert_close(actual, wanted, **EXACT)


def calls(summands: list[Summand], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often one pass is taken."""
    made = []
    with monkeypatch.context() as patch:
        patch.setattr(
            weighted, "weighted_sums", lambda *a, **k: made.append(a) or weighted_sums(*a, **k)
        )
        total(summands, StatisticsUpdate())
    return len(made)


@pytest.mark.skipif(native.library() is None, reason=f"needs kernels in C++: {native.described()}")
def test_one_pass_is_taken_where_it_saves_something(monkeypatch: pytest.MonkeyPatch):
    for kinds, expected in {
        ("plain",): 0,
        ("plain", "plain"): 0,
        ("normed",): 0,
        ("weighted",): 1,
        ("normed", "plain"): 1,
        ("normed", "normed"): 1,
    }.items():
        assert calls(drawn(kinds), monkeypatch) == expected, kinds
    different = drawn(("normed", "normed"))
    assert different[0].norm is not None
    different[0].norm.eps = 1.0
    assert calls(different, monkeypatch) == 0


def test_summands_are_left_as_they_are():
    """The sum grows in place, but in no image of somebody else."""
    native.choose(Kernels.library)
    summands = [Summand(torch.full((2, 4, 3, 3), float(i))) for i in range(4)]
    assert total(summands, StatisticsUpdate()).eq(6).all()
    assert all(s.images.eq(i).all() for i, s in enumerate(summands))
