"""Sums of normalised pointwise convolutions equal their definition, summand by summand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from darts_gdas.nets import pixels, pointwise_products
from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.pointwise import Moments, normalized_sum

EPS = 1e-5
TERMS, EDGES, FEATURES, OUT, IN = 3, 4, 2, 4, 5
EXACT = {"rtol": 1e-10, "atol": 1e-11}  # sums over 24 pixels of numbers of order one


def arguments(offset: float = 0.0, *, images: tuple[int, int, int] = (2, 3, 4)) -> list[Tensor]:
    """Pointwise matrices, scales, inputs [terms], features, all with gradients."""
    source = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=source)

    values = [draw(TERMS, EDGES, OUT, IN), draw(TERMS + FEATURES, EDGES)]
    batch, *size = images
    values += [channels_last(draw(batch, EDGES * IN, *size)) + offset for _ in range(TERMS)]
    values += [draw(batch, OUT, *size) for _ in range(FEATURES)]
    return [value.requires_grad_() for value in values]


def split(tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return tensors[:TERMS], tensors[TERMS:]


def function(cut: tuple[int, ...], running: Moments | None = None):
    """The sums as one tensor, computed in parts of so many edges each."""

    def sums(pointwise: Tensor, scale: Tensor, *tensors: Tensor) -> Tensor:
        inputs, features = split(tensors)
        parts = [z.split([edges * pointwise.shape[3] for edges in cut], dim=1) for z in inputs]
        found, moments = normalized_sum(
            parts, pointwise, scale, features=features, eps=EPS, running=running
        )
        assert len(found) == len(cut) and (moments is None) == (running is not None)
        return torch.cat(found, dim=1)

    return sums


one_part, one_part_per_edge = function((EDGES,)), function((1,) * EDGES)


def definition(pointwise: Tensor, scale: Tensor, *tensors: Tensor) -> Tensor:
    """Pixel by pixel products, explicit means and variances, one summand after the other."""
    inputs, features = split(tensors)
    edges = []
    for e in range(EDGES):
        total = sum(scale[TERMS + j, e] * feature for j, feature in enumerate(features))
        for k, z in enumerate(inputs):
            pixels = z.chunk(EDGES, dim=1)[e].permute(0, 2, 3, 1).reshape(-1, IN)
            y = torch.stack([pointwise[k, e] @ pixel for pixel in pixels])
            centred = y - y.mean(0)
            normal = centred / (centred.square().mean(0) + EPS).sqrt()
            total = total + scale[k, e] * normal.reshape(2, 3, 4, OUT).permute(0, 3, 1, 2)
        edges.append(total)
    return torch.cat(edges, dim=1)


def library(*values: Tensor, running: Moments | None = None) -> Tensor:
    """The same from `F.conv2d` and `F.batch_norm`, for images of any size."""
    pointwise, scale = values[:2]
    inputs, features = split(values[2:])
    edges = []
    for e in range(EDGES):
        total = sum(scale[TERMS + j, e] * feature for j, feature in enumerate(features))
        for k, z in enumerate(inputs):
            y = F.conv2d(z.chunk(EDGES, dim=1)[e], pointwise[k, e][:, :, None, None])
            moments = (None, None) if running is None else (m[k, e] for m in running)
            y = F.batch_norm(y, *moments, training=running is None, eps=EPS)
            total = total + scale[k, e] * y
        edges.append(total)
    return torch.cat(edges, dim=1)


def gradients(y: Tensor, values: list[Tensor]) -> list[Tensor]:
    """Of a weighted sum, whose weights have no symmetry."""
    upstream = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = [value for value in values if value.requires_grad]
    return list(torch.autograd.grad(y, wanted, upstream.to(y.dtype)))


def assert_same(y: Tensor, expected: Tensor, values: list[Tensor]) -> None:
    assert_close(y, expected, **EXACT)
    for actual, other in zip(gradients(y, values), gradients(expected, values), strict=True):
        assert_close(actual, other, **EXACT)


CUTS = pytest.mark.parametrize("cut", [(4,), (2, 2), (1, 1, 1, 1)], ids=str)


@CUTS
@pytest.mark.parametrize("oracle", [definition, library])
def test_equals_the_definition_with_all_gradients(oracle, cut: tuple[int, ...]):
    values = arguments()
    assert_same(function(cut)(*values), oracle(*values), values)


@pytest.mark.slow
@CUTS
def test_derivatives_of_first_and_second_order(cut: tuple[int, ...]):
    values = arguments(images=(1, 2, 2))
    narrow = [values[0][:, :, :2, :2], values[1], *(z[:, : 2 * EDGES] for z in values[2:5])]
    narrow = [v.detach().requires_grad_() for v in (*narrow, *(f[:, :2] for f in values[5:]))]
    assert gradcheck(function(cut), narrow)
    assert gradgradcheck(function(cut), narrow)


@pytest.mark.parametrize("cut", [(EDGES,), (1, 3), (1,) * EDGES], ids=str)
def test_products_of_cut_pixels_equal_whole_ones(
    cut: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    """As on a GPU: 48 pixels in 16 cuts, edges multiplied side by side, gradients too."""
    values = arguments(offset=1.0, images=(4, 3, 4))
    whole = function(cut)(*values)
    expected = torch.autograd.grad(whole.square().sum(), values)
    monkeypatch.setattr(pointwise_products, "products_of", pixels._cut_products)
    found = function(cut)(*values)
    assert_close(found, whole, **EXACT)
    assert_close(torch.autograd.grad(found.square().sum(), values), expected, **EXACT)


@pytest.mark.parametrize("learns", range(2 + TERMS + FEATURES))
def test_a_gradient_does_not_depend_on_which_others_are_asked_for(learns: int):
    values = arguments()
    alone = [value.detach().requires_grad_(i == learns) for i, value in enumerate(values)]
    (found,) = gradients(one_part_per_edge(*alone), alone)
    assert_close(found, gradients(library(*values), values)[learns], **EXACT)


@CUTS
def test_inputs_may_lie_in_memory_as_they_like(cut: tuple[int, ...]):
    values = arguments()
    values = values[:2] + [v.detach().mT.contiguous().mT.requires_grad_() for v in values[2:]]
    assert_same(function(cut)(*values), definition(*values), values)


def test_no_features_is_a_sum_without_them():
    pointwise, scale, *inputs = arguments()[: 2 + TERMS]
    values = [pointwise, scale[:TERMS].detach().requires_grad_(), *inputs]
    assert_same(one_part(*values), definition(*values), values)


def test_returns_mean_and_unbiased_variance_of_each_product():
    pointwise, scale, *inputs = arguments(offset=0.7)[: 2 + TERMS]
    _, moments = normalized_sum([[z] for z in inputs], pointwise, scale[:TERMS], eps=EPS)
    assert moments is not None and not any(m.requires_grad for m in moments)
    for k, z in enumerate(inputs):
        for e, part in enumerate(z.chunk(EDGES, dim=1)):
            y = F.conv2d(part, pointwise[k, e][:, :, None, None]).detach()
            assert_close(moments.mean[k, e], y.mean((0, 2, 3)), **EXACT)
            assert_close(moments.variance[k, e], y.var((0, 2, 3)), **EXACT)


@CUTS
def test_running_statistics_make_it_evaluation(cut: tuple[int, ...]):
    values = arguments()
    mean = torch.linspace(-1, 1, TERMS * EDGES * OUT).double().view(TERMS, EDGES, OUT)
    running = Moments(mean, mean.square() + 0.1)
    y = function(cut, running)(*values)
    assert_same(y, library(*values, running=running), values)
    with torch.no_grad():
        assert_close(function(cut, running)(*values), y, **EXACT)


def test_shifts_of_channels_change_nothing_and_scales_act_linearly():
    pointwise, scale, *tensors = arguments()
    y, other = (one_part(pointwise, s, *tensors) for s in (scale, scale.flip(0)))
    assert_close(one_part(pointwise, 3 * scale - scale.flip(0), *tensors), 3 * y - other, **EXACT)
    shift = torch.linspace(-4.0, 4.0, EDGES * IN).double().view(1, -1, 1, 1)
    moved = one_part(pointwise, scale, *(z + shift for z in tensors[:TERMS]), *tensors[TERMS:])
    assert_close(moved, y, rtol=1e-9, atol=1e-9)  # the shift's square is subtracted again


def test_a_scale_of_zero_removes_a_summand_but_not_the_gradient_of_its_scale():
    values = arguments()
    values[1] = values[1].detach().index_fill(0, torch.tensor([0, TERMS]), 0.0).requires_grad_()
    assert_same(one_part(*values), library(*values), values)
    pointwise, scale, *rest = gradients(one_part(*values), values)
    assert not pointwise[0].any() and not rest[0].any() and not rest[TERMS].any()
    assert scale[0].all() and scale[TERMS].all()


@pytest.mark.parametrize("constant", [0.0, 2.0, 10.0])
def test_a_channel_without_variance_equals_batch_norm(constant: float):
    """Its variance is rounding, so eps decides; nothing is divided by zero."""
    values = arguments()
    with torch.no_grad():
        values[0][0, 0, 0] = torch.eye(IN)[1].double()  # an output that is one input channel
        values[2][:, 1] = constant
    y, expected = one_part(*values), library(*values)
    # The rounding of constant^2, 1e-14, beside eps = 1e-5; its gradients grow by 1 / sqrt(eps).
    assert_close(y, expected, rtol=1e-9, atol=1e-9)
    for actual, other in zip(gradients(y, values), gradients(expected, values), strict=True):
        assert_close(actual, other, rtol=1e-8, atol=1e-8)


def test_an_output_that_nothing_depends_on_has_gradient_zero():
    pointwise, scale, *tensors = values = arguments()
    parts = [z.chunk(EDGES, dim=1) for z in tensors[:TERMS]]
    sums, _ = normalized_sum(parts, pointwise, scale, features=tensors[TERMS:], eps=EPS)
    assert_same(sums[1], library(*values).chunk(EDGES, dim=1)[1], values)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("channels", [4, 5])  # of which kernels in C++ take the first alone
def test_an_output_that_nothing_depends_on_reaches_none_of_its_own(channels: int, again: bool):
    """So an optimizer leaves its kernels alone, as those of a module that does not run."""
    shape = 2, channels, 3, 4
    rows = [[draw(OUT, channels, seed=10 * k + e) for e in range(3)] for k in range(2)]
    parts = [[channels_last(draw(*shape, seed=20 * k + e)) for e in range(3)] for k in range(2)]
    for values in (*rows, *parts):
        for value in values:
            value.requires_grad_()
    sums, _ = normalized_sum(parts, rows, draw(2, 3), features=[], eps=EPS)
    loss = sums[0].square().sum() + sums[2].square().sum()
    for own in (*rows, *parts):
        found = torch.autograd.grad(
            loss, own, allow_unused=True, retain_graph=True, create_graph=again
        )
        assert [g is None for g in found] == [False, True, False]


@pytest.mark.parametrize("scale_learns", [True, False])
def test_keeps_the_inputs_alone_and_features_only_for_their_weights(scale_learns: bool):
    pointwise, scale, *tensors = arguments(images=(4, 8, 8))
    smallest = tensors[-1].untyped_storage().nbytes()  # matrices and moments are smaller
    kept: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().nbytes() >= smallest:
            kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        one_part(pointwise, scale if scale_learns else scale.detach(), *tensors)
    expected = tensors if scale_learns else tensors[:TERMS]
    assert kept == {t.untyped_storage().data_ptr() for t in expected}


@pytest.mark.parametrize("images", [(2, 3, 4), (16, 16, 16)], ids=str)
@pytest.mark.parametrize("offset", [0.0, 3.0, 10.0])
def test_float32_keeps_its_digits_when_means_exceed_deviations(
    images: tuple[int, int, int], offset: float
):
    """A variance of 1 is left of a sum of n squares 1 + offset^2: rounding grows as sqrt(n)."""
    rounding, squares = 2.0**-24, 1 + offset**2
    error = max(1e-5, rounding * squares * math.prod(images) ** 0.5)
    rough = [v.detach().float().requires_grad_() for v in arguments(offset, images=images)]
    values = [v.detach().double().requires_grad_() for v in rough]
    y, truth = one_part(*rough), library(*values)
    assert (y - truth).norm() < error * truth.norm()
    for actual, other in zip(gradients(y, rough), gradients(truth, values), strict=True):
        assert (actual - other).norm() < error * other.norm()


def test_bfloat16_inputs_are_summed_in_float32():
    values = arguments()
    weights = [v.detach().float().requires_grad_() for v in values[:2]]
    images = [channels_last(v.detach().bfloat16()) for v in values[2:]]
    with torch.autocast("cpu", torch.bfloat16):
        y = one_part(*weights, *images)
    truth = definition(*values)
    assert y.dtype == torch.bfloat16
    assert (y - truth).norm() < 3e-2 * truth.norm()  # 8 bits of inputs and output
    expected = gradients(truth, values)[:2]
    for actual, other in zip(gradients(y, weights), expected, strict=True):
        assert actual.dtype == torch.float32
        assert (actual - other).norm() < 3e-2 * other.norm()


def test_one_value_per_channel_has_no_variance():
    z = torch.ones(1, IN, 1, 1)
    with pytest.raises(ValueError, match=r"more than one value per channel.*\(1, 5, 1, 1\)"):
        normalized_sum([[z]], torch.ones(1, 1, OUT, IN), torch.ones(1, 1), eps=EPS)
