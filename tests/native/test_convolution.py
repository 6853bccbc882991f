"""Dense convolutions of the kernels in C++ are torch's, to rounding."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas import native
from darts_gdas.native import DenseConvolution, Kernels, build
from darts_gdas.native.convolution import MOST_CHANNELS
from darts_gdas.nets.formats import channels_last

pytestmark = pytest.mark.skipif(
    build.library() is None, reason=f"needs kernels in C++: {native.described()}"
)
EXACT = {"rtol": 1e-10, "atol": 1e-10}
SIZES = [(1, 1), (1, 2), (3, 1), (2, 9), (9, 8), (17, 20)]


@pytest.fixture(autouse=True)
def _chosen():
    native.choose(Kernels.native)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def tensors(
    channels: int,
    out: int,
    size: tuple[int, int],
    images: int = 3,
    dtype: torch.dtype = torch.float64,
) -> tuple[DenseConvolution, Tensor, Tensor, Tensor]:
    """A convolution, images, kernels, and what reaches the outputs."""
    how = DenseConvolution((images, channels, *size), out)
    x, g = draw(*how.images, dtype=dtype), draw(*how.reduced, seed=2, dtype=dtype)
    return how, channels_last(x), draw(*how.weights, seed=1, dtype=dtype), channels_last(g)


def by_library(x: Tensor, weight: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs and both gradients."""
    y = F.conv2d(x, weight, None, 1, 1)
    shape = x.shape, weight.shape
    dx = nn.grad.conv2d_input(shape[0], weight, g, padding=1)
    return y, dx, nn.grad.conv2d_weight(x, shape[1], g, padding=1)


def by_kernel(
    how: DenseConvolution, x: Tensor, weight: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    dx, (dw,) = native.convolution_gradients(how, [g], [weight], x, of_weights=True)
    (y,) = native.convolve(how, x, [weight])
    assert dx is not None
    return y, dx, dw


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("out", [4, 8, 12, 16, 24, 40])
@pytest.mark.parametrize("channels", [4, 8, 12, 16, 24, 40])
def test_outputs_and_gradients(channels: int, out: int, size: tuple[int, int]):
    how, x, weight, g = tensors(channels, out, size)
    assert how.takes(x, [weight], [g])
    for found, expected in zip(by_kernel(how, x, weight, g), by_library(x, weight, g), strict=True):
        assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("channels", "out"), [(8, 12), (12, 4), (16, 16), (32, 36)])
@pytest.mark.parametrize("sets", [2, 3])
def test_several_sets_of_kernels_are_one_after_the_other(
    sets: int, channels: int, out: int, dtype: torch.dtype
):
    """The images' gradients add up."""
    one, x, _, _ = tensors(channels, out, (7, 10), 5, dtype)
    together = one._replace(sets=sets)
    weights = [draw(*one.weights, seed=i, dtype=dtype) for i in range(sets)]
    upstream = [channels_last(draw(*one.reduced, seed=9 - i, dtype=dtype)) for i in range(sets)]
    assert together.takes(x, weights, upstream)
    outputs = native.convolve(together, x, weights)
    dx, gradients = native.convolution_gradients(together, upstream, weights, x, of_weights=True)
    alone = [by_kernel(one, x, w, g) for w, g in zip(weights, upstream, strict=True)]
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for found, dw, (y, _, expected) in zip(outputs, gradients, alone, strict=True):
        assert_close(found, y, rtol=tolerance, atol=tolerance)
        assert_close(dw, expected, rtol=tolerance, atol=tolerance)
    total = sum(d for _, d, _ in alone)
    assert_close(dx, total, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_relu_before_it_is_taken_as_images_are_read(
    size: tuple[int, int], sets: int, dtype: torch.dtype
):
    """Where a pixel is zero nothing reaches it, and what is no number stays."""
    plain, x, _, _ = tensors(12, 16, size, 5, dtype)
    x.flatten()[::3] = 0
    x[1, 3, 0, 0] = float("nan")
    how = plain._replace(sets=sets, rectified=True)
    weights = [draw(*how.weights, seed=i, dtype=dtype) for i in range(sets)]
    upstream = [channels_last(draw(*how.reduced, seed=9 - i, dtype=dtype)) for i in range(sets)]
    leaves = [x.clone().requires_grad_(), *(w.clone().requires_grad_() for w in weights)]
    expected = [F.conv2d(leaves[0].relu(), w, padding=1) for w in leaves[1:]]
    gradients = torch.autograd.grad(expected, leaves, upstream)
    outputs = native.convolve(how, x, weights)
    dx, dw = native.convolution_gradients(how, upstream, weights, x, of_weights=True)
    assert dx is not None
    close = (
        {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    )
    assert_close(outputs, [y.detach() for y in expected], equal_nan=True, **close)
    assert_close(dx, gradients[0], **close)
    for found, right in zip(dw, gradients[1:], strict=True):  # in a tile one spoils all its taps
        assert found[right.isnan()].isnan().all()
        sound = ~found.isnan()
        assert_close(found[sound], right[sound], **close)
        assert sound[:, [0, 1, 2, *range(4, 12)]].all()
    alone, nothing = native.convolution_gradients(how, upstream, weights, x)
    assert nothing == [] and alone is not None and torch.equal(alone, dx)


@pytest.mark.parametrize("channels", [4, 8, 12, 16, 24, 32, 48])
@pytest.mark.parametrize("out", [8, 16, 36])
def test_in_float32_vectors_are_wider(channels: int, out: int):
    """Of 16, 32 and, where there are such, 64 bytes."""
    how, x, weight, g = tensors(channels, out, (7, 10), dtype=torch.float32)
    exact = by_library(x.double(), weight.double(), g.double())
    for found, expected in zip(by_kernel(how, x, weight, g), exact, strict=True):
        assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("images", [1, 5, 33])
@pytest.mark.parametrize("channels", [16, 64])
def test_few_images_and_more_than_parts(channels: int, images: int):
    """And so many channels that several rounds of products follow each other."""
    how, x, weight, g = tensors(channels, channels, (11, 13), images)
    for found, expected in zip(by_kernel(how, x, weight, g), by_library(x, weight, g), strict=True):
        assert_close(found, expected, **EXACT)


def test_the_largest_that_is_taken():
    how, x, weight, g = tensors(MOST_CHANNELS, MOST_CHANNELS, (5, 6), 2)
    assert how.takes(x, [weight], [g])
    for found, expected in zip(by_kernel(how, x, weight, g), by_library(x, weight, g), strict=True):
        assert_close(found, expected, **EXACT)


def test_a_gradient_does_not_depend_on_whether_the_other_is_asked_for():
    how, x, weight, g = tensors(8, 16, (6, 5))
    _, dx, dw = by_kernel(how, x, weight, g)
    alone, nothing = native.convolution_gradients(how, [g], [weight])
    assert nothing == [] and alone is not None and torch.equal(alone, dx)
    none, (alone,) = native.convolution_gradients(how, [g], (), x, of_weights=True)
    assert none is None and torch.equal(alone, dw)


@pytest.mark.parametrize("images", [1, 5, 40])
def test_results_do_not_depend_on_the_number_of_threads(images: int):
    """Bit for bit: work is cut alike, whoever does it."""
    arguments = tensors(16, 32, (18, 17), images, torch.float32)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(by_kernel(*arguments))
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


def test_results_do_not_depend_on_where_numbers_lie():
    how, x, weight, g = tensors(8, 8, (9, 7), dtype=torch.float32)
    expected = by_kernel(how, x, weight, g)
    for start in (1, 3):
        moved = []
        for t in (x, weight, g):
            place = torch.empty(t.numel() + start)[start:]
            moved.append(place.as_strided(t.shape, t.stride(), start).copy_(t))
        assert all(map(torch.equal, by_kernel(how, *moved), expected))


@pytest.mark.parametrize("mean", [0.0, 30.0, 1000.0])
@pytest.mark.parametrize("channels", [16, 64])
def test_in_float32_they_are_about_as_far_from_float64_as_the_library(channels: int, mean: float):
    """On an EPYC of Zen 3, of the outputs and their gradients 0.5 to 0.8 of its errors."""
    how, x, weight, g = tensors(channels, channels, (16, 16), 32, torch.float32)
    x = x + mean
    exact = by_library(x.double(), weight.double(), g.double())
    pairs = zip(by_kernel(how, x, weight, g), by_library(x, weight, g), exact, strict=True)
    for found, expected, truth in pairs:
        error, other = ((y - truth).square().mean().sqrt() for y in (found, expected))
        assert error <= 3 * other + 1e-7  # other processors sum in another order


@pytest.mark.parametrize("place", [(5, 5), (4, 7), (0, 3), (11, 10)], ids=str)
def test_what_is_no_number_goes_where_torch_has_it(place: tuple[int, int]):
    how, x, weight, g = tensors(8, 8, (12, 11), 2)
    x[(0, 3, *place)] = g[(1, 2, *place)] = float("nan")
    y, dx, dw = by_kernel(how, x, weight, g)
    expected, dexpected, other = by_library(x, weight, g)
    assert torch.equal(y.isnan(), expected.isnan()) and torch.equal(dx.isnan(), dexpected.isnan())
    assert dw[other.isnan()].isnan().all() and not dw[[0, 1, 3]][:, [0, 1, 2]].isnan().any()


def test_tensors_may_lie_in_any_order():
    how, x, weight, g = tensors(8, 12, (6, 5))
    expected = by_kernel(how, x, weight, g)
    turned = weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    assert turned.stride() != weight.stride()
    for found, right in zip(by_kernel(how, x, turned, g.contiguous()), expected, strict=True):
        assert torch.equal(found, right)
    assert expected[0].is_contiguous(memory_format=torch.channels_last)
    assert expected[1].is_contiguous(memory_format=torch.channels_last)


def test_what_they_do_not_take():
    how, x, weight, g = tensors(8, 16, (6, 5))
    assert how.takes(x, [weight], []) and how.takes(g, [weight], [g]) and how.takes(x, [], [g])
    assert not how.takes(x.contiguous(), [weight], [])
    assert not how.takes(x, [weight.float()], []) and not how.takes(x.half(), [], [])
    assert not how.takes(x, [weight[:8]], []) and not how.takes(x, [weight], [g[:2]])
    assert how._replace(sets=2).takes(x, [weight] * 2, [])
    assert not how._replace(sets=9).takes(x, [weight] * 9, [])
    assert not how.takes(x[:2], [weight], []) and not how.takes(x, [weight[..., :2]], [])
    for channels, out, size, images in (
        (6, 8, (5, 5), 2), (8, 6, (5, 5), 2), (8, 8, (5, 5), 0), (8, 8, (0, 5), 2),
        (0, 8, (5, 5), 2), (8, 0, (5, 5), 2), (MOST_CHANNELS + 16, 8, (5, 5), 2),
    ):  # fmt: skip
        other, y, kernels, _ = tensors(channels, out, size, images)
        assert not other.takes(y, [kernels], [])
    native.choose(Kernels.library)
    assert not how.takes(x, [weight], [])
