"""Scores are what they are called, on networks small enough to work them out."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, Fan, Layout, count_parameters, register_operation
from darts_gdas.ntk import condition_number, empirical_ntk
from darts_gdas.scoring.scores import (
    DEFAULT_SCORES,
    SCORES,
    Candidate,
    check_scores,
    inputs_on_lines,
    register_score,
    score,
)
from darts_gdas.space import Genotype
from tests.registries import parts_put_back

DARTS = Genotype.load("DARTS_V2")
NB201 = Genotype.load("|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|none~2|")
DEAD = Genotype.load("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")


def candidate(genotype: Genotype = DARTS, *, seed: int = 0, batch: int = 6) -> Candidate:
    layout = Layout(2, 3, 3, in_channels=2)
    if genotype is not DARTS:
        layout = Layout(2, 5, 3, in_channels=2, skeleton=NASBENCH201)
    images = torch.randn(batch, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    return Candidate(genotype, layout, images, seed)


@pytest.mark.parametrize("genotype", [DARTS, NB201], ids=["darts", "nasbench201"])
@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_a_function_of_its_candidate(name: str, genotype: Genotype):
    global_state = torch.get_rng_state()
    first, again = (score(candidate(genotype), [name])[name] for _ in range(2))
    assert math.isfinite(first)
    assert first == again
    assert torch.equal(torch.get_rng_state(), global_state)


def test_order_and_company_of_scores_do_not_matter():
    names = list(SCORES)
    forward, backward = score(candidate(), names), score(candidate(), names[::-1])
    for name in names:
        assert forward[name] == backward[name] == score(candidate(), [name])[name]


@pytest.mark.parametrize("name", SCORES)
def test_a_score_leaves_images_and_network_as_they_were(name: str):
    c = candidate()
    before = {name: value.clone() for name, value in c.net.state_dict().items()}
    images, flags = c.images.clone(), [module.training for module in c.net.modules()]
    score(c, [name])
    assert torch.equal(c.images, images)
    assert [module.training for module in c.net.modules()] == flags
    for key, value in c.net.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_score_that_overwrites_the_images_is_named():
    with parts_put_back():
        register_score("greedy", lambda c: float(c.images.mul_(2).sum()))
        with pytest.raises(ValueError, match="score 'greedy' changes the candidate's images"):
            score(candidate(), ["greedy", "params"])


def test_a_network_without_paths_has_finite_or_worst_scores():
    for value in score(candidate(DEAD), list(SCORES)).values():
        assert not math.isnan(value)


def test_weights_differ_by_seed():
    a, b = (candidate(seed=seed).net for seed in (0, 1))
    assert not torch.equal(next(a.parameters()), next(b.parameters()))


def test_condition_numbers_are_those_of_the_kernels():
    c = candidate()
    full = empirical_ntk(c.build(c.layout, Fan.OUT), c.images, kind="full", batch_norm="frozen")
    assert_close(score(c, ["ntk_condition"])["ntk_condition"], -math.log(condition_number(full)))
    net = c.build(c.layout, Fan.OUT)
    batch = empirical_ntk(net, c.images, params="weights", batch_norm="batch", method="loop")
    assert_close(
        score(c, ["te_nas"])["te_nas"], -math.log(condition_number(batch)), rtol=1e-4, atol=0
    )


def test_naswot_counts_agreeing_units():
    """K_nm = units on which n and m agree, so K_nn is the number of units."""
    c = candidate(batch=3)
    on = c.patterns
    k = torch.tensor([[float((x == y).sum()) for y in on] for x in on]).double()
    assert (k.diagonal() == on.shape[1]).all()
    assert_close(score(c, ["naswot"])["naswot"], float(torch.logdet(k)))


def test_synflow_does_not_depend_on_the_images_and_grows_with_the_weights():
    """The network is homogeneous in each weight layer's absolute values."""
    c, other = candidate(), candidate()
    other.images = 3 * other.images
    assert score(c, ["synflow"]) == score(other, ["synflow"])
    doubled = candidate()
    with torch.no_grad():
        doubled.net.classifier.weight.mul_(-2)  # type: ignore[operator, union-attr]
    assert_close(
        score(doubled, ["synflow"])["synflow"], score(c, ["synflow"])["synflow"] + math.log(2)
    )


def test_weights_before_norms_change_kernels_and_synflow_but_not_naswot():
    """The network computes the same: a norm divides by what its convolution was multiplied with."""
    plain, scaled = candidate(NB201), candidate(NB201)
    with torch.no_grad():
        for module in scaled.net.modules():
            for one, next_one in itertools.pairwise(module.children()):
                if isinstance(one, torch.nn.Conv2d) and isinstance(next_one, torch.nn.BatchNorm2d):
                    one.weight.mul_(4)  # a power of two, so only the norms' eps tells them apart
    outputs = [c.net.train()(c.images) for c in (plain, scaled)]
    assert_close(*outputs, rtol=1e-3, atol=1e-3)
    names = ["ntk_condition", "ntk_min_eigenvalue", "naswot", "synflow"]
    before, after = (score(c, names) for c in (plain, scaled))
    assert_close(after["naswot"], before["naswot"], rtol=1e-4, atol=0)
    assert after["synflow"] > before["synflow"] + math.log(4)
    for name in ("ntk_condition", "ntk_min_eigenvalue"):
        assert abs(after[name] - before[name]) > 0.01


def test_params_are_the_networks():
    c = candidate()
    assert score(c, ["params"])["params"] == math.log(count_parameters(c.net))


def test_inputs_lie_evenly_on_straight_lines():
    inputs = inputs_on_lines(50, 5, torch.Generator().manual_seed(0)).unflatten(0, (5, 10))
    steps = inputs.diff(dim=1)
    assert_close(steps, steps[:, :1].expand_as(steps), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", [[], ["params", "params"], ["accuracy"]], ids=str)
def test_unknown_scores_are_refused(names: list[str]):
    with pytest.raises(ValueError, match="x must be distinct names out of ntk_logdet, "):
        check_scores(names, "x")
    check_scores(DEFAULT_SCORES, "x")


def test_a_score_of_ones_own_is_asked_for_by_its_name():
    with parts_put_back():
        register_score("first_pixel", lambda candidate: candidate.images[0, 0, 0, 0])
        check_scores(["first_pixel", "params"], "scores")
        one = candidate()
        found = score(one, ["first_pixel"])["first_pixel"]
        assert type(found) is float and found == one.images[0, 0, 0, 0].item()
    with pytest.raises(ValueError, match="must be distinct names out of ntk_logdet"):
        check_scores(["first_pixel"], "scores")


@pytest.mark.parametrize("name", ["params", "rank", "cell", "accuracy"])
def test_a_score_takes_no_name_that_stands_in_the_table_of_a_ranking(name: str):
    with pytest.raises(ValueError, match=f"'{name}' is taken; choose another for your score"):
        register_score(name, lambda candidate: 0.0)


def test_the_name_of_a_score_can_stand_in_a_list_on_the_command_line():
    with pytest.raises(ValueError, match=r"lower-case letters, digits and underscores, got 'a,b'"):
        register_score("a,b", lambda candidate: 0.0)


class Listed(nn.Module):
    """A convolution beside its mirror image, of a weight that a list holds."""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.held = [self.conv.weight]
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        both = self.held[0] + self.held[0].flip(-1)
        return self.norm(F.conv2d(x, both, None, self.stride, 1))


@pytest.mark.parametrize("name", ["ntk_condition", "ntk_condition_sum"])
def test_a_score_does_not_depend_on_what_ran_before(name: str):
    """Formulas and transforms do not see the weight; only gradients sample by sample do."""
    cell = "|nor_conv_1x1~0|+|listed~0|none~1|+|skip_connect~0|none~1|listed~2|"
    with parts_put_back():
        register_operation("listed", Listed)
        which = candidate(Genotype.load(cell))
        first, second = (SCORES[name](candidate(which.genotype)) for _ in range(2))
        options = {"kind": "full"} if name == "ntk_condition" else {"params": "weights"}
        kernel = empirical_ntk(
            which.net, which.images, batch_norm="frozen", method="loop", **options
        )
    assert first == second
    assert_close(first, -math.log(condition_number(kernel)), rtol=1e-4, atol=1e-4)
