"""Sums of normalised pointwise convolutions equal their definition, summand by summand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.pointwise import Moments, normalized_sum

EPS = 1e-5
TERMS, EDGES, FEATURES, OUT, IN = 3, 2, 2, 4, 5
EXACT = {"rtol": 1e-10, "atol": 1e-11}  # sums over 24 pixels of numbers of order one


def arguments(offset: float = 0.0) -> list[Tensor]:
    """Pointwise matrices, scales, inputs [terms], features, all with gradients."""
    source = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=source)

    values = [draw(TERMS, EDGES, OUT, IN), draw(TERMS + FEATURES, EDGES)]
    values += [channels_last(draw(2, EDGES * IN, 3, 4)) + offset for _ in range(TERMS)]
    values += [draw(2, OUT, 3, 4) for _ in range(FEATURES)]
    return [value.requires_grad_() for value in values]


def split(tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return tensors[:TERMS], tensors[TERMS:]


def one_part(pointwise: Tensor, scale: Tensor, *tensors: Tensor) -> Tensor:
    inputs, features = split(tensors)
    parts = [[z] for z in inputs]
    (y,), _ = normalized_sum(parts, pointwise, scale, features=features, eps=EPS)
    return y


def one_part_per_edge(pointwise: Tensor, scale: Tensor, *tensors: Tensor) -> Tensor:
    inputs, features = split(tensors)
    parts = [z.chunk(EDGES, dim=1) for z in inputs]
    sums, _ = normalized_sum(parts, pointwise, scale, features=features, eps=EPS)
    assert len(sums) == EDGES
    return torch.cat(sums, dim=1)


def definition(pointwise: Tensor, scale: Tensor, *tensors: Tensor) -> Tensor:
    """Pixel by pixel products, explicit means and variances, one summand after the other."""
    inputs, features = split(tensors)
    edges = []
    for e in range(EDGES):
        total = torch.zeros((), dtype=scale.dtype)
        for k, z in enumerate(inputs):
            pixels = z.chunk(EDGES, dim=1)[e].permute(0, 2, 3, 1).reshape(-1, IN)
            y = torch.stack([pointwise[k, e] @ pixel for pixel in pixels])
            centred = y - y.mean(0)
            normal = centred / (centred.square().mean(0) + EPS).sqrt()
            total = total + scale[k, e] * normal.reshape(2, 3, 4, OUT).permute(0, 3, 1, 2)
        for j, feature in enumerate(features):
            total = total + scale[TERMS + j, e] * feature
        edges.append(total)
    return torch.cat(edges, dim=1)


BOTH = pytest.mark.parametrize("function", [one_part, one_part_per_edge])


@BOTH
def test_equals_the_definition_with_all_gradients(function):
    values = arguments()
    y, expected = function(*values), definition(*values)
    assert_close(y, expected, **EXACT)
    upstream = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(y, values, upstream)
    for actual, other in zip(found, torch.autograd.grad(expected, values, upstream), strict=True):
        assert_close(actual, other, **EXACT)


@BOTH
def test_derivatives_of_first_and_second_order(function):
    values = arguments()
    assert gradcheck(function, values)
    assert gradgradcheck(function, values)


@BOTH
def test_inputs_may_lie_in_memory_as_they_like(function):
    values = arguments()
    loose = [values[0], values[1], *(v.detach().contiguous() for v in values[2:])]
    assert_close(function(*loose), function(*values), **EXACT)


def test_no_features_is_a_sum_without_them():
    pointwise, scale, *tensors = arguments()
    inputs, features = split(tuple(tensors))
    (y,), _ = normalized_sum([[z] for z in inputs], pointwise, scale[:TERMS], eps=EPS)
    zero = torch.cat([scale[:TERMS], torch.zeros_like(scale[TERMS:])])
    assert_close(y, definition(pointwise, zero, *inputs, *features), **EXACT)


def test_returns_mean_and_biased_variance_of_each_product():
    pointwise, scale, *tensors = arguments(offset=0.7)
    inputs, features = split(tuple(tensors))
    parts = [z.chunk(EDGES, dim=1) for z in inputs]
    _, moments = normalized_sum(parts, pointwise, scale, features=features, eps=EPS)
    assert moments is not None
    for k in range(TERMS):
        for e in range(EDGES):
            y = F.conv2d(parts[k][e], pointwise[k, e][:, :, None, None])
            assert_close(moments.mean[k, e], y.mean((0, 2, 3)).detach(), **EXACT)
            variance = y.var((0, 2, 3), correction=0)
            assert_close(moments.variance[k, e], variance.detach(), **EXACT)


def test_running_statistics_make_it_evaluation():
    pointwise, scale, *tensors = arguments()
    inputs, features = split(tuple(tensors))
    mean = torch.linspace(-1, 1, TERMS * EDGES * OUT).double().view(TERMS, EDGES, OUT)
    running = Moments(mean, mean.square() + 0.1)
    parts = [z.chunk(EDGES, dim=1) for z in inputs]
    sums, moments = normalized_sum(
        parts, pointwise, scale, features=features, eps=EPS, running=running
    )
    assert moments is None
    expected = []
    for e in range(EDGES):
        total = sum(scale[TERMS + j, e] * f for j, f in enumerate(features))
        for k in range(TERMS):
            y = F.conv2d(parts[k][e], pointwise[k, e][:, :, None, None])
            y = F.batch_norm(y, running.mean[k, e], running.variance[k, e], eps=EPS)
            total = total + scale[k, e] * y
        expected.append(total)
    values = [pointwise, scale, *tensors]
    for y, other in zip(sums, expected, strict=True):
        assert_close(y, other, **EXACT)
    found = [
        torch.autograd.grad(sum(y.pow(3).sum() for y in ys), values)  # type: ignore[union-attr]
        for ys in (sums, expected)
    ]
    for actual, other in zip(*found, strict=True):
        assert_close(actual, other, rtol=1e-9, atol=1e-9)


def test_a_constant_added_to_the_inputs_changes_nothing():
    values = arguments()
    shifted = [*values[:2], *(z + 3.0 for z in values[2 : 2 + TERMS]), *values[2 + TERMS :]]
    assert_close(one_part(*shifted), one_part(*values), rtol=1e-9, atol=1e-9)


def test_a_channel_without_variance_is_batch_norms_zero():
    """Its variance is rounding, so eps decides; nothing is divided by zero."""
    pointwise, scale, *tensors = arguments()
    still = [torch.full_like(z, 2.0).requires_grad_() for z in tensors[:TERMS]]
    y = one_part(pointwise, scale, *still, *tensors[TERMS:])
    features = definition(pointwise, scale, *tensors) * 0
    for j, f in enumerate(tensors[TERMS:]):
        features = features + torch.cat([scale[TERMS + j, e] * f for e in range(EDGES)], dim=1)
    assert_close(y, features, rtol=0.0, atol=1e-5)
    assert all(g.isfinite().all() for g in torch.autograd.grad(y.sum(), still))


@pytest.mark.parametrize("scale_learns", [True, False])
def test_keeps_the_inputs_alone_and_features_only_for_their_weights(scale_learns: bool):
    pointwise, scale, *tensors = arguments()
    kept: set[int] = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and tensor.shape[0] == 2:  # images
            kept.add(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        one_part(pointwise, scale if scale_learns else scale.detach(), *tensors)
    expected = tensors if scale_learns else tensors[:TERMS]
    assert kept == {t.data_ptr() for t in expected}


def test_float32_keeps_its_digits_when_means_exceed_deviations():
    """Variances are differences of larger numbers: ten times the mean costs two digits of seven."""
    values = arguments(offset=10.0)
    rough = [v.detach().float().requires_grad_() for v in values]
    y, truth = one_part(*rough), definition(*values)
    assert (y - truth).norm() < 1e-4 * truth.norm()
    found = torch.autograd.grad(y.pow(3).sum(), rough)
    for actual, other in zip(found, torch.autograd.grad(truth.pow(3).sum(), values), strict=True):
        assert (actual - other).norm() < 1e-3 * other.norm()


def test_bfloat16_inputs_are_summed_in_float32():
    values = arguments()
    weights = [v.detach().float().requires_grad_() for v in values[:2]]
    images = [channels_last(v.detach().bfloat16()) for v in values[2:]]
    with torch.autocast("cpu", torch.bfloat16):
        y = one_part(*weights, *images)
    truth = definition(*values)
    assert y.dtype == torch.bfloat16
    assert (y - truth).norm() < 3e-2 * truth.norm()  # 8 bits of inputs and output
    gradient, _ = torch.autograd.grad(y.float().pow(2).sum(), weights)
    assert gradient.dtype == torch.float32 and gradient.isfinite().all()


def test_one_value_per_channel_has_no_variance():
    z = torch.ones(1, IN, 1, 1)
    with pytest.raises(ValueError, match=r"more than one value per channel.*\(1, 5, 1, 1\)"):
        normalized_sum([[z]], torch.ones(1, 1, OUT, IN), torch.ones(1, 1), eps=EPS)
