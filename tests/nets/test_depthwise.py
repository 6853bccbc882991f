"""Depthwise convolutions equal the library's, in their derivatives of any order and mode."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jvp, vmap
from torch.testing import assert_close

from darts_gdas.nets.depthwise import Depthwise, by_patches, depthwise_conv2d, depthwise_convs
from darts_gdas.nets.formats import channels_last

EXACT = {"rtol": 1e-11, "atol": 1e-11}  # the same products of order one, summed in another order
GEOMETRIES = [(k, s, d) for k in (3, 5, 7) for s in (1, 2) for d in (1, 2)]
torch_func = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")


def tensors(
    size: tuple[int, int], kernel: int, channels: int = 3, batch: int = 2
) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, *size, dtype=torch.float64, generator=source)
    weight = torch.randn(channels, 1, kernel, kernel, dtype=torch.float64, generator=source)
    return x.requires_grad_(), weight.requires_grad_()


def library(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    padding = [dilation * (side // 2) for side in weight.shape[2:]]
    return F.conv2d(x, weight, None, stride, padding, dilation, groups=len(weight))


def assert_equals_library(x: Tensor, weight: Tensor, stride: int, dilation: int) -> None:
    y = depthwise_conv2d(x, weight, stride=stride, dilation=dilation)
    expected = library(x, weight, stride, dilation)
    assert_close(y, expected, **EXACT)
    upstream = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(y, (x, weight), upstream)
    for actual, other in zip(
        found, torch.autograd.grad(expected, (x, weight), upstream), strict=True
    ):
        assert_close(actual, other, **EXACT)


@pytest.mark.parametrize("size", [(7, 8), (4, 4), (2, 3), (1, 5), (12, 11)], ids=str)
@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
def test_equals_the_library_with_both_gradients(
    kernel: int, stride: int, dilation: int, size: tuple[int, int]
):
    x, weight = tensors(size, kernel)
    assert_equals_library(x, weight, stride, dilation)
    assert_equals_library(channels_last(x), weight, stride, dilation)


@settings(max_examples=60, deadline=None)
@given(
    geometry=st.sampled_from([*GEOMETRIES, (1, 1, 1), (9, 1, 1), (3, 1, 3), (5, 3, 2), (3, 4, 2)]),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    channels=st.integers(1, 4),
    batch=st.integers(1, 3),
)
def test_equals_the_library_at_any_size(
    geometry: tuple[int, int, int], size: tuple[int, int], channels: int, batch: int
):
    kernel, stride, dilation = geometry
    assert_equals_library(*tensors(size, kernel, channels, batch), stride, dilation)


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 3, 5, 7])),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
)
@example(sides=(3, 7), size=(2, 9), stride=1, dilation=1)  # taller, but not wider, than the image
@example(sides=(7, 5), size=(2, 9), stride=1, dilation=1)
def test_kernels_need_not_be_square(
    sides: tuple[int, int], size: tuple[int, int], stride: int, dilation: int
):
    x, square = tensors(size, 7)
    weight = square[:, :, : sides[0], : sides[1]].detach().requires_grad_()
    assert_equals_library(x, weight, stride, dilation)


@torch_func
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 1, 2), (3, 2, 1)])
def test_derivatives_of_first_and_second_order_and_forward_mode(
    kernel: int, stride: int, dilation: int
):
    inputs = tensors((6, 7), kernel, channels=2, batch=1)

    def f(x: Tensor, weight: Tensor) -> Tensor:
        return depthwise_conv2d(x, weight, stride=stride, dilation=dilation)

    assert gradcheck(f, inputs, check_forward_ad=True)
    assert gradgradcheck(f, inputs)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(5, 1, 1), (3, 1, 2), (5, 2, 1)])
def test_third_derivatives_equal_the_library(kernel: int, stride: int, dilation: int):
    """Of a polynomial of the output, whose third derivatives do not vanish."""
    x, weight = tensors((6, 6), kernel)
    found = []
    for f in (
        lambda *a: depthwise_conv2d(*a, stride=stride, dilation=dilation),
        lambda *a: library(*a, stride, dilation),
    ):
        value = f(x, weight).pow(3).sum()
        for _ in range(3):
            first = torch.autograd.grad(value, (x, weight), create_graph=True)
            value = sum(g.square().sum() for g in first) * 1e-3
        found.append(value)
    assert_close(found[0], found[1], rtol=1e-9, atol=0.0)  # products of many sums


def test_several_kernels_at_once_equal_one_after_the_other():
    x, first = tensors((8, 7), 5)
    weights = [first, (2 * first).detach().requires_grad_(), first.flip(2).detach()]
    together = depthwise_convs(x, weights, dilation=2)
    for y, weight in zip(together, weights, strict=True):
        assert torch.equal(y, depthwise_conv2d(x, weight, dilation=2))
    loss = sum(y.square().sum() for y in together)
    expected = sum(library(x, weight, 1, 2).square().sum() for weight in weights)
    inputs = (x, weights[0], weights[1])
    for actual, other in zip(
        torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        assert_close(actual, other, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("needs_x", [True, False])
def test_keeps_only_the_tensor_that_the_other_gradient_needs(needs_x: bool):
    x, weight = tensors((5, 5), 5)
    x.requires_grad_(needs_x)
    weight.requires_grad_(not needs_x)
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = depthwise_conv2d(x, weight)
    assert {t.data_ptr() for t in kept} == {(weight if needs_x else x).data_ptr()}
    y.sum().backward()
    assert (x.grad is None, weight.grad is None) == (not needs_x, needs_x)


@torch_func
def test_per_sample_gradients_by_vmap_equal_a_loop():
    x, weight = (t.detach() for t in tensors((6, 6), 5))

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        return depthwise_conv2d(image[None], weight, dilation=2).square().sum()

    together = vmap(grad(loss), (None, 0))(weight, x)
    for gradient, image in zip(together, x, strict=True):
        leaf = weight.clone().requires_grad_()
        (expected,) = torch.autograd.grad(library(image[None], leaf, 1, 2).square().sum(), leaf)
        assert_close(gradient, expected, **EXACT)


@torch_func
def test_an_ensemble_of_kernels_by_vmap_equals_a_loop():
    x, weight = tensors((6, 6), 5)
    weights = torch.stack([weight, 2 * weight]).detach().requires_grad_()
    together = vmap(depthwise_conv2d, (None, 0))(x, weights)
    expected = torch.stack([library(x, w, 1, 1) for w in weights])
    assert_close(together, expected, **EXACT)
    found = [torch.autograd.grad(y.pow(3).sum(), (x, weights)) for y in (together, expected)]
    for actual, other in zip(*found, strict=True):
        assert_close(actual, other, rtol=1e-10, atol=1e-7)  # cubes of sums of 25 products


@torch_func
def test_forward_mode_is_the_product_rule():
    x, weight = (t.detach() for t in tensors((6, 6), 3))
    dx, dweight = torch.cos(x), torch.sin(weight)
    _, tangent = jvp(depthwise_conv2d, (x, weight), (dx, dweight))
    assert_close(tangent, library(dx, weight, 1, 1) + library(x, dweight, 1, 1), **EXACT)
    tangents = torch.stack([dx, 2 * dx])
    many = vmap(lambda t: jvp(lambda x: depthwise_conv2d(x, weight), (x,), (t,))[1])(tangents)
    assert_close(many[1], 2 * library(dx, weight, 1, 1), **EXACT)


@torch_func
def test_hessian_by_forward_over_reverse_equals_the_library():
    x, weight = (t.detach() for t in tensors((4, 3), 3, channels=1, batch=1))
    found = hessian(lambda w: depthwise_conv2d(x, w).pow(3).sum())(weight)
    expected = hessian(lambda w: library(x, w, 1, 1).pow(3).sum())(weight)
    assert_close(found, expected, rtol=1e-10, atol=1e-9)


@torch_func
def test_batched_gradients_of_one_of_several_convolutions():
    """The others' gradients are zeros without a batch dimension: no sum may go in place."""
    x, weight = tensors((5, 4), 3)
    y = depthwise_convs(x, [weight.detach(), weight])[1]
    upstream = torch.stack([torch.ones_like(y), y.detach()])
    found = torch.autograd.grad(y, (x, weight), upstream, is_grads_batched=True)
    other = library(x, weight, 1, 1)
    expected = torch.autograd.grad(other, (x, weight), upstream, is_grads_batched=True)
    for actual, right in zip(found, expected, strict=True):
        assert_close(actual, right, **EXACT)


def test_the_module_is_a_conv2d_in_state_and_geometry():
    module = Depthwise(4, 5, stride=2, dilation=2)
    conv = nn.Conv2d(4, 4, 5, 2, padding=4, dilation=2, groups=4, bias=False)
    module.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, 9, 9)
    assert_close(module(x), conv(x))
    assert module.extra_repr() == conv.extra_repr()
    assert list(module.state_dict()) == list(conv.state_dict()) == ["weight"]


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 2, 1), (3, 2, 3)])
def test_a_product_with_patches_is_the_convolution(kernel: int, stride: int, dilation: int):
    conv = Depthwise(4, kernel, stride=stride, dilation=dilation).double()
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64, requires_grad=True)
    found, expected = (
        by_patches(conv, x),
        F.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation, 4),
    )
    assert_close(found, expected)
    cotangent = torch.randn_like(expected)
    pairs = [torch.autograd.grad(y, [x, conv.weight], cotangent) for y in (found, expected)]
    assert_close(*pairs)


def test_without_a_gradient_asked_for_nothing_is_recorded():
    x, weight = tensors((5, 5), 3)
    with torch.no_grad():
        assert not depthwise_conv2d(x, weight).requires_grad
    assert depthwise_conv2d(x, weight).requires_grad


def test_bfloat16_under_autocast_is_the_library_there():
    x, weight = (t.detach().float().requires_grad_() for t in tensors((8, 8), 5))
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = depthwise_conv2d(x, weight), library(x, weight, 1, 1)
    assert y.dtype == expected.dtype == torch.bfloat16
    assert_close(y, expected, rtol=2e-2, atol=2e-2)  # 8 bits
    y.float().square().sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32


@pytest.mark.parametrize("sides", [(2, 2), (2, 3), (3, 2)], ids=str)
def test_even_kernels_have_no_middle(sides: tuple[int, int]):
    with pytest.raises(AssertionError, match="odd sides"):
        depthwise_conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, *sides))
