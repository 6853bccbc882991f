"""Pooled and normalised images of the kernels in C++ are torch's."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from darts_gdas import native
from darts_gdas.native import Kernels, build
from darts_gdas.native.tensors import LANES
from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.pooling import normalized, normalized_pool
from darts_gdas.nets.statistics import StatisticsUpdate

pytestmark = pytest.mark.skipif(
    build.library() is None, reason=f"needs kernels in C++: {native.described()}"
)
EXACT = {"rtol": 1e-10, "atol": 1e-10}
EPS = 1e-5


def pool_of(kind: str, stride: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    if kind == "max":
        return nn.MaxPool2d(3, stride, padding=1)
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


pools = pytest.mark.parametrize("kind", ["max", "avg"])
kinds = pytest.mark.parametrize("kind", ["max", "avg", "none"])
strides = pytest.mark.parametrize("stride", [1, 2])


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return channels_last(
        torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    )


def by(kernels: Kernels, x: Tensor, pool: nn.Module, upstream: Tensor | None = None):
    """Images, mean, variance, and the gradient of random numbers that reach the images."""
    native.choose(kernels)
    leaf = x.detach().requires_grad_()
    y, mean, variance = normalized_pool(leaf, pool, EPS)
    g = draw(*y.shape, seed=9, dtype=y.dtype) if upstream is None else upstream
    return y, mean, variance, *torch.autograd.grad(y, leaf, g)


def is_native(x: Tensor, pool: nn.Module) -> bool:
    native.choose(Kernels.native)
    y, _, _ = normalized_pool(x.detach().requires_grad_(), pool, EPS)
    return "NormalizedPool" in type(y.grad_fn).__name__


def assert_same(x: Tensor, pool: nn.Module, **tolerance: float) -> None:
    for found, expected in zip(
        by(Kernels.native, x, pool), by(Kernels.library, x, pool), strict=True
    ):
        assert_close(found, expected, equal_nan=True, **(tolerance or EXACT))


@pytest.mark.parametrize("channels", [3, 4, 8, 12, 16, 24, 40])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (2, 9), (9, 8), (17, 20)], ids=str)
@strides
@kinds
def test_images_moments_and_gradients(kind: str, stride: int, size: tuple[int, int], channels: int):
    x = draw(5, channels, *size)
    pool = pool_of(kind, stride)
    assert is_native(x, pool) == (channels % LANES == 0)
    assert_same(x, pool)


@pytest.mark.parametrize("images", [1, 17, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@kinds
def test_many_images_and_few(kind: str, dtype: torch.dtype, images: int):
    """More than there are parts, and rows longer than a run."""
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype is torch.float32 else EXACT
    for channels in (4, 8, 16):
        assert_same(draw(images, channels, 3, 150, dtype=dtype), pool_of(kind, 1), **tolerance)


@strides
def test_of_equal_pixels_the_first_one_is_taken(stride: int):
    numbers = torch.randint(0, 3, (6, 16, 9, 10), generator=torch.Generator().manual_seed(3))
    assert_same(channels_last(numbers.double()), pool_of("max", stride))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
@strides
@kinds
def test_what_is_no_number_goes_where_torch_has_it(
    kind: str, stride: int, share: float, value: float
):
    chosen = torch.rand(4, 8, 7, 6, generator=torch.Generator().manual_seed(1)) < share
    chosen[:, :2] = False
    assert_same(draw(4, 8, 7, 6).masked_fill(channels_last(chosen), value), pool_of(kind, stride))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@strides
def test_taps_are_torch_s(stride: int, value: float):
    """Also where many pixels are no numbers, of which no gradient tells: it is none either."""
    native.choose(Kernels.native)
    for share in (0.1, 0.5, 0.95, 1.0):
        chosen = torch.rand(4, 16, 7, 8, generator=torch.Generator().manual_seed(1)) < share
        x = channels_last(draw(4, 16, 7, 8).masked_fill(chosen, value))
        how = native.Pool((4, 16, 7, 8), stride, native.Taken.largest)
        taps = native.normalized_pool(how, x, EPS).taps
        assert taps is not None
        rows = stride * torch.arange(taps.shape[2])[:, None] - 1 + taps // 3
        columns = stride * torch.arange(taps.shape[3]) - 1 + taps % 3
        pool = nn.MaxPool2d(3, stride, padding=1, return_indices=True)
        assert torch.equal(8 * rows + columns, pool(x)[1])


@strides
@kinds
def test_derivatives_are_those_of_finite_differences(kind: str, stride: int):
    native.choose(Kernels.native)
    x, pool = draw(2, 4, 4, 3).requires_grad_(), pool_of(kind, stride)
    assert is_native(x, pool)

    def function(x: Tensor) -> Tensor:
        return normalized_pool(x, pool, EPS)[0]

    assert gradcheck(function, x)
    assert gradgradcheck(function, x)


@kinds
def test_second_and_third_derivatives_are_those_of_the_formula(kind: str):
    native.choose(Kernels.native)
    pool, found = pool_of(kind, 2), []

    def formula(x: Tensor) -> Tensor:
        y = pool(x)
        variance, mean = torch.var_mean(y, (0, 2, 3), correction=0, keepdim=True)
        return (y - mean) / (variance + EPS).sqrt()

    for function in (lambda x: normalized_pool(x, pool, EPS)[0], formula):
        leaf = draw(3, 8, 5, 6).requires_grad_()
        total = (function(leaf * 1.5) ** 3).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(total, leaf, create_graph=True)
            found.append(gradient)
            total = (gradient**2).sum()
    for gradient, expected in zip(found[:3], found[3:], strict=True):
        assert_close(gradient, expected, rtol=1e-8, atol=1e-8)


@kinds
def test_many_gradients_at_once(kind: str):
    pool, found = pool_of(kind, 1), []
    upstream = torch.stack([draw(3, 8, 5, 6, seed=i) for i in range(4)])
    for kernels in (Kernels.native, Kernels.library):
        native.choose(kernels)
        leaf = draw(3, 8, 5, 6).requires_grad_()
        y, _, _ = normalized_pool(leaf, pool, EPS)
        found += torch.autograd.grad(y, leaf, upstream, is_grads_batched=True)
    assert_close(*found, **EXACT)


@kinds
def test_a_gradient_in_any_order_is_right(kind: str):
    upstream = torch.randn(6, 5, 8, 3, dtype=torch.float64).permute(3, 2, 1, 0)
    for g in (upstream, torch.ones((), dtype=torch.float64).expand(3, 8, 5, 6)):
        pool, x = pool_of(kind, 1), draw(3, 8, 5, 6)
        found = by(Kernels.native, x, pool, g)[-1], by(Kernels.library, x, pool, g)[-1]
        assert_close(*found, **EXACT)


@pytest.mark.parametrize("images", [1, 5, 40])
@strides
@kinds
def test_results_depend_on_neither_threads_nor_place(kind: str, stride: int, images: int):
    """Bit for bit, also when repeated."""
    x, pool, found, kept = (
        draw(images, 16, 30, 31, dtype=torch.float32),
        pool_of(kind, stride),
        [],
        [],
    )
    for threads in (1, 3, 1, 2):
        torch.set_num_threads(threads)
        kept.append(torch.empty(1001 + 10 * threads))  # what follows lies elsewhere
        found.append(by(Kernels.native, x.clone(), pool))
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


@pytest.mark.parametrize("mean", [0.0, 30.0, 1000.0])
@kinds
def test_large_means_cost_no_digits_of_the_variance(kind: str, mean: float):
    """In float32, against float64 on the same numbers; means of pixels are rounded themselves."""
    native.choose(Kernels.native)
    narrow, pool = mean + draw(32, 16, 20, 20).float(), pool_of(kind, 1)
    y, _, variance = normalized_pool(narrow, pool, EPS)
    pooled = pool(narrow).double()
    exact = pooled.var((0, 2, 3))
    tolerance = 2e-6 if kind == "max" else 2e-6 + mean * 1e-6
    assert_close(variance.double(), exact, rtol=tolerance, atol=0)
    centred = pooled - pooled.mean((0, 2, 3), keepdim=True)
    expected = centred / (pooled.var((0, 2, 3), correction=0, keepdim=True) + EPS).sqrt()
    assert (y - expected).abs().max() < 2e-6 + (mean * 1e-6 if kind == "avg" else 0)


@kinds
def test_a_constant_channel_is_zero(kind: str):
    native.choose(Kernels.native)
    x = channels_last(torch.full((2, 8, 5, 5), 100.0))
    y, mean, variance = normalized_pool(x, pool_of(kind, 1), EPS)
    assert y.abs().max() == 0 and variance.max() == 0 and (mean == 100).all()


@pools
def test_one_value_per_channel_is_torch_s_error(kind: str):
    native.choose(Kernels.native)
    for size in ((1, 1), (2, 2)):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            normalized_pool(draw(1, 8, *size), pool_of(kind, 2), EPS)


@pools
def test_what_is_not_theirs_stays_torch_s(kind: str):
    x, pool = draw(2, 8, 6, 6), pool_of(kind, 1)
    assert is_native(x, pool)
    for images in (x.contiguous(), draw(2, 16, 6, 6)[:, :8], x.to(torch.bfloat16)):
        assert not is_native(images, pool)
    others: dict[str, Callable[[], nn.Module]] = {
        "kernel": lambda: type(pool)(5, 1, padding=1),  # type: ignore[call-arg]
        "padding": lambda: type(pool)(3, 1),  # type: ignore[call-arg]
        "stride": lambda: type(pool)(3, 3, padding=1),  # type: ignore[call-arg]
        "rounding": lambda: type(pool)(3, 2, padding=1, ceil_mode=True),  # type: ignore[call-arg]
        "class": lambda: type("Mine", (type(pool),), {})(3, 1, padding=1),
        "zeros": lambda: nn.AvgPool2d(3, 1, padding=1),
        "divisor": lambda: nn.AvgPool2d(
            3, 1, padding=1, count_include_pad=False, divisor_override=2
        ),
        "dilation": lambda: nn.MaxPool2d(3, 1, padding=1, dilation=2),
    }
    assert not [name for name, make in others.items() if is_native(x, make())]
    handle = pool.register_forward_hook(lambda *_: None)
    assert not is_native(x, pool)
    handle.remove()
    assert is_native(x, pool)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_native(x, pool)


@kinds
def test_without_derivatives_it_is_the_same(kind: str):
    native.choose(Kernels.native)
    x, pool = draw(2, 8, 6, 6), pool_of(kind, 1)
    with torch.no_grad():
        found = normalized_pool(x.requires_grad_(), pool, EPS)
    assert all(not y.requires_grad for y in found)
    for y, expected in zip(found, normalized_pool(x, pool, EPS), strict=True):
        assert torch.equal(y, expected)


def kept_bytes(kernels: Kernels, x: Tensor, pool: nn.Module) -> int:
    """What a pass keeps for its derivatives, beside the images and the result."""
    native.choose(kernels)
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        kept[t.data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        y, _, _ = normalized_pool(x, pool, EPS)
    return sum(size for at, size in kept.items() if at not in (x.data_ptr(), y.data_ptr()))


@pytest.mark.parametrize(("kind", "size"), [("max", 1), ("avg", 0)])
def test_it_keeps_a_byte_per_largest_pixel(kind: str, size: int):
    x = draw(4, 16, 16, 16, dtype=torch.float32).requires_grad_()
    pool, few = pool_of(kind, 1), 4 * 16 * 4
    assert kept_bytes(Kernels.native, x, pool) <= size * x.numel() + few
    assert kept_bytes(Kernels.library, x, pool) >= 4 * x.numel()


@kinds
def test_images_changed_before_the_backward_pass_are_noticed(kind: str):
    native.choose(Kernels.native)
    leaf = draw(2, 8, 6, 6).requires_grad_()
    x = leaf * 1
    y, _, _ = normalized_pool(x, pool_of(kind, 1), EPS)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def norm_of(channels: int = 8, **how: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, **{"affine": False, **how}).double()
    for name, buffer in norm.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(1 + draw(1, channels, 1, 1, seed=len(name)).flatten().square())
    return norm


@pytest.mark.parametrize("tracks", [True, False])
def test_a_norm_without_a_pool(tracks: bool):
    """Images, gradients and running statistics are the module's."""
    found = []
    for kernels in (Kernels.native, Kernels.library):
        native.choose(kernels)
        norm, update = norm_of(), StatisticsUpdate()
        norm.track_running_stats = tracks
        x = draw(3, 8, 5, 4).requires_grad_()
        y = normalized(x, norm, update)
        assert ("Pool" in type(y.grad_fn).__name__) == (kernels is Kernels.native)
        update.apply()
        (g,) = torch.autograd.grad(y, x, draw(*y.shape, seed=2))
        found.append([y, g, *norm.buffers()])
    for value, expected in zip(*found, strict=True):
        assert_close(value, expected, **EXACT)


def test_a_norm_that_is_more_stays_a_module():
    native.choose(Kernels.native)
    x, heard = draw(3, 8, 5, 4), []
    listened = norm_of()
    listened.register_forward_hook(lambda *_: heard.append(True))
    average = norm_of()
    average.momentum = None
    for norm in (norm_of(affine=True), norm_of().eval(), listened, average):
        twin, update = copy.deepcopy(norm), StatisticsUpdate()
        y = normalized(x, norm, update)
        update.apply()
        assert torch.equal(y, twin(x))
        assert all(map(torch.equal, norm.buffers(), twin.buffers()))
    assert len(heard) == 2


@kinds
@pytest.mark.parametrize(
    "given_back",
    [
        lambda t: t.contiguous() if t.dtype is torch.uint8 else t,
        lambda t: t.contiguous(),
        lambda t: t.long() if t.dtype is torch.uint8 else t,
        lambda t: t.repeat_interleave(2, dim=0)[::2] if t.dim() == 1 else t,
        lambda t: t.float() if t.dim() == 1 else t,
    ],
    ids=["taps", "all", "wide", "apart", "narrow"],
)
def test_what_was_kept_may_come_back_in_another_place(kind: str, given_back):
    """Of what hooks on saved tensors give back the numbers are asked, not where they lay."""
    native.choose(Kernels.native)
    leaf = draw(3, 8, 6, 5).requires_grad_()
    pool, found = pool_of(kind, 1), []
    for back in (lambda t: t, given_back):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), back):
            y, _, _ = normalized_pool(leaf, pool, EPS)
        found.append(torch.autograd.grad(y, leaf, draw(*y.shape, seed=4))[0])
    assert_close(found[1], found[0], **EXACT)


@kinds
def test_a_counter_may_watch_the_backward_pass_alone(kind: str):
    native.choose(Kernels.native)
    leaf, pool = draw(3, 8, 6, 5).requires_grad_(), pool_of(kind, 1)
    y, _, _ = normalized_pool(leaf, pool, EPS)
    pool.register_forward_hook(lambda *_: pytest.fail("the pass forward is over"))
    (expected,) = torch.autograd.grad(y.square().sum(), leaf, retain_graph=True)
    with FlopCounterMode(display=False):
        (found,) = torch.autograd.grad(y.square().sum(), leaf)
    assert_close(found, expected, **EXACT)
