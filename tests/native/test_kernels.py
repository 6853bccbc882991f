"""The kernels in C++ are what torch computes, for tensors that are theirs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, vmap
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from darts_gdas import native
from darts_gdas.native import Kernels, build
from darts_gdas.nets import Layout, SuperNet
from darts_gdas.nets.depthwise import depthwise_conv2d, depthwise_convs
from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.pointwise import Moments, normalized_sum
from darts_gdas.search import ArchParameters, Softmax
from darts_gdas.space import SearchSpace

pytestmark = pytest.mark.skipif(
    build.library() is None, reason=f"needs kernels in C++: {native.described()}"
)
EXACT = {"rtol": 1e-10, "atol": 1e-10}
torch_func = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return channels_last(values) if len(shape) == 4 else values


def by(kernels: Kernels, function, inputs: list[Tensor], *, random: int = 9) -> list[Tensor]:
    """Outputs and all gradients, of random numbers that reach the outputs."""
    native.choose(kernels)
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    upstream = [draw(*y.shape, seed=random + i, dtype=y.dtype) for i, y in enumerate(outputs)]
    return [*outputs, *torch.autograd.grad(outputs, leaves, upstream)]


def assert_same(function, inputs: list[Tensor], **tolerance: float) -> None:
    for found, expected in zip(
        by(Kernels.native, function, inputs), by(Kernels.library, function, inputs), strict=True
    ):
        assert_close(found, expected, **(tolerance or EXACT))


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 13, 16, 24, 40], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (9, 8), (17, 20)], ids=str)
@pytest.mark.parametrize(
    ("side", "stride", "dilation"),
    [
        *((3, 1, 1), (5, 1, 1), (7, 1, 1), (3, 1, 2), (5, 1, 2)),
        *((3, 2, 1), (5, 2, 1), (3, 3, 2)),
    ],
)
def test_depthwise_convolutions(
    side: int, stride: int, dilation: int, size: tuple[int, int], channels: int
):
    inputs = [draw(3, channels, *size), *(draw(channels, 1, side, side, seed=i) for i in (1, 2))]
    assert_same(lambda x, *w: depthwise_convs(x, w, stride=stride, dilation=dilation), inputs)


RECTIFIED = [(3, 1, 1), (5, 1, 2), (3, 2, 1), (5, 2, 1), (3, 2, 2), (7, 1, 1)]


def of_the_relu(stride: int, dilation: int):
    return lambda x, *w: depthwise_convs(
        x, w, stride=stride, dilation=dilation, relu=lambda: F.relu(x)
    )


@pytest.mark.parametrize("channels", [4, 6, 16])
@pytest.mark.parametrize(("side", "stride", "dilation"), RECTIFIED)
def test_the_relu_taken_by_a_convolution(side: int, stride: int, dilation: int, channels: int):
    """Outputs and gradients are those of two layers; also at the corner."""
    x = draw(3, channels, 9, 8)
    x[0, :, 2:4] = 0
    kernels = [draw(channels, 1, side, side, seed=i) for i in (1, 2)]
    function = of_the_relu(stride, dilation)
    assert_same(function, [x, *kernels])

    def apart(x: Tensor, *w: Tensor) -> list[Tensor]:
        padding = dilation * (side // 2)
        return [F.conv2d(F.relu(x), k, None, stride, padding, dilation, channels) for k in w]

    for kind in (Kernels.native, Kernels.library):
        pairs = zip(by(kind, function, [x, *kernels]), by(kind, apart, [x, *kernels]), strict=True)
        for found, expected in pairs:
            assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_its_derivatives_of_second_order(stride: int, dilation: int, needed: tuple[int, ...]):
    """And where only some are asked for."""
    native.choose(Kernels.native)
    x, *kernels = draw(2, 4, 5, 4), *(draw(4, 1, 3, 3, seed=i) for i in (1, 2))
    values = [t.requires_grad_(i in needed) for i, t in enumerate([x, *kernels])]
    function = of_the_relu(stride, dilation)
    assert gradcheck(lambda *t: tuple(function(*t)), values)
    assert gradgradcheck(lambda *t: tuple(function(*t)), values)


def test_no_relu_is_made_where_the_kernels_take_it():
    x, weight = draw(2, 8, 5, 5), draw(8, 1, 3, 3)
    made = []
    for kernels in (Kernels.native, Kernels.library):
        native.choose(kernels)
        depthwise_conv2d(x, weight, relu=lambda: made.append(native.chosen()) or F.relu(x))
    assert made == [Kernels.library]


SUMS = [
    (1, 1, 0, 8, 8, (2, 3, 4)),
    (2, 3, 1, 4, 12, (2, 3, 4)),
    (3, 2, 2, 16, 4, (3, 5, 7)),
    (1, 2, 0, 64, 32, (2, 5, 5)),
    (4, 1, 3, 24, 24, (1, 9, 11)),
    (2, 2, 1, 8, 8, (5, 50, 41)),  # more pixels than one part holds
]


def sums(terms: int, edges: int, features: int, out: int, channels: int, images, dtype):
    batch, *size = images
    values = [draw(terms, edges, out, channels, dtype=dtype).contiguous()]
    values.append(draw(terms + features, edges, seed=1, dtype=dtype))
    for i in range(terms * edges):
        values.append(0.3 + draw(batch, channels, *size, seed=2 + i, dtype=dtype))
    values += [draw(batch, out, *size, seed=99 + i, dtype=dtype) for i in range(features)]

    def function(pointwise: Tensor, scale: Tensor, *tensors: Tensor) -> list[Tensor]:
        parts = [tensors[k * edges : (k + 1) * edges] for k in range(terms)]
        return normalized_sum(parts, pointwise, scale, features=tensors[terms * edges :], eps=1e-5)[
            0
        ]

    return function, values


@pytest.mark.parametrize(("terms", "edges", "features", "out", "channels", "images"), SUMS)
def test_sums_of_normalised_convolutions(
    terms: int, edges: int, features: int, out: int, channels: int, images: tuple[int, ...]
):
    assert_same(*sums(terms, edges, features, out, channels, images, torch.float64))


@pytest.mark.parametrize(("terms", "edges", "features", "out", "channels", "images"), SUMS)
def test_sums_in_evaluation(
    terms: int, edges: int, features: int, out: int, channels: int, images: tuple[int, ...]
):
    """With statistics that are not the batch's."""
    _, (pointwise, scale, *tensors) = sums(
        terms, edges, features, out, channels, images, torch.float64
    )
    parts = [tensors[k * edges : (k + 1) * edges] for k in range(terms)]
    mean = draw(terms, edges, out, seed=5)
    running = Moments(mean, mean.square() + 0.01)
    found = []
    for kernels in (Kernels.native, Kernels.library):
        native.choose(kernels)
        with torch.no_grad():
            others = {"features": tensors[terms * edges :], "eps": 1e-3, "running": running}
            y, moments = normalized_sum(parts, pointwise, scale, **others)
        assert moments is None
        found.append(y)
    for y, expected in zip(*found, strict=True):
        assert_close(y, expected, **EXACT)


def test_the_batch_s_moments_are_the_same():
    _, (pointwise, scale, *images) = sums(2, 2, 0, 8, 16, (2, 5, 6), torch.float64)
    found = []
    for kernels in (Kernels.native, Kernels.library):
        native.choose(kernels)
        found.append(normalized_sum([images[:2], images[2:]], pointwise, scale, eps=1e-5)[1])
    for moment, expected in zip(*found, strict=True):
        assert_close(moment, expected, **EXACT)


@pytest.mark.parametrize(
    "given_back",
    [lambda t: t.mT.contiguous().mT, lambda t: t.repeat_interleave(2, dim=0)[::2]],
    ids=["turned", "apart"],
)
def test_what_was_kept_may_come_back_in_another_place(given_back):
    """Of what hooks on saved tensors give back the numbers are asked, not where they lay."""
    native.choose(Kernels.native)
    function, values = sums(2, 2, 1, 8, 8, (2, 3, 4), torch.float64)
    leaves, found = [value.requires_grad_() for value in values], []
    for back in (lambda t: t, given_back):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), back):
            y = torch.stack(function(*leaves))
        found.append(torch.autograd.grad(y, leaves, draw(*y.shape[1:], seed=4).expand_as(y)))
    for gradient, expected in zip(*found, strict=True):
        assert_close(gradient, expected, **EXACT)


def test_statistics_of_another_kind_are_not_read():
    """What hooks on saved tensors give back may be no double: that is torch's error."""
    native.choose(Kernels.native)
    function, values = sums(2, 2, 1, 8, 8, (2, 3, 4), torch.float64)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: t, lambda t: t.float() if t.dim() == 3 else t
    ):
        y, *_ = function(*(value.requires_grad_() for value in values))
    with pytest.raises(RuntimeError, match="type"):
        y.sum().backward()


@pytest.mark.parametrize("offset", [0.0, 10.0, 100.0])
def test_in_float32_they_are_no_further_from_float64_than_the_library(offset: float):
    """Sums over pixels are in double: a mean far from zero costs no digit of the sum."""
    function, values = sums(2, 2, 0, 16, 16, (8, 16, 16), torch.float64)
    values[2:] = [value + offset for value in values[2:]]
    exact = function(*values)
    narrow = [value.float() for value in values]
    errors = {}
    for kernels in (Kernels.native, Kernels.library):
        native.choose(kernels)
        pairs = zip(function(*narrow), exact, strict=True)
        errors[kernels] = max((y - x).abs().max().item() for y, x in pairs)
    assert errors[Kernels.native] <= 2 * errors[Kernels.library] + 1e-6


@pytest.mark.parametrize("asked", range(6))
def test_a_gradient_does_not_depend_on_which_others_are_asked_for(asked: int):
    native.choose(Kernels.native)
    function, values = sums(1, 2, 2, 8, 8, (2, 4, 5), torch.float64)
    leaves = [value.detach().requires_grad_() for value in values]
    whole = torch.autograd.grad([y.square().sum() for y in function(*leaves)], leaves)
    alone = [value.detach().requires_grad_(i == asked) for i, value in enumerate(values)]
    (found,) = torch.autograd.grad([y.square().sum() for y in function(*alone)], alone[asked])
    assert_close(found, whole[asked], **EXACT)


def test_derivatives_are_those_of_finite_differences():
    native.choose(Kernels.native)
    function, values = sums(2, 1, 1, 4, 4, (2, 2, 3), torch.float64)
    leaves = [value.detach().requires_grad_() for value in values]
    assert gradcheck(lambda *a: tuple(function(*a)), leaves)
    x, weight = draw(2, 5, 4, 5).requires_grad_(), draw(5, 1, 3, 3).requires_grad_()
    assert gradcheck(lambda x, w: depthwise_conv2d(x, w, stride=2), (x, weight))


@pytest.mark.parametrize("images", [1, 5, 40])
def test_results_do_not_depend_on_the_number_of_threads(images: int):
    """Bit for bit: work is cut alike, whoever does it."""
    function, values = sums(2, 2, 1, 16, 16, (images, 20, 20), torch.float32)
    x, *weights = (
        draw(images, 16, 20, 20, dtype=torch.float32),
        *(draw(16, 1, 5, 5, seed=i, dtype=torch.float32) for i in (1, 2)),
    )
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(
            by(Kernels.native, function, values)
            + by(Kernels.native, lambda x, *w: depthwise_convs(x, w), [x, *weights])
        )
    for alone, together in zip(*found, strict=True):
        assert torch.equal(alone, together)


@pytest.mark.parametrize("channels", [4, 8])
def test_a_pass_repeated_is_the_same_bit_for_bit(channels: int):
    """Wherever in memory its many small tensors lie: compilers ask that and have several loops."""
    native.choose(Kernels.native)
    space = SearchSpace.darts(num_nodes=2)
    net = SuperNet(space, Layout(channels, 3, 3, in_channels=2)).double()
    arch = ArchParameters(space, scale=1.0, generator=torch.Generator().manual_seed(1)).double()
    images, found, kept = draw(2, 2, 8, 8), [], []
    for i in range(20):
        kept.append([torch.empty(11 * i + j) for j in range(1, 9)])  # what follows lies elsewhere
        mixture = Softmax()(arch, progress=0.0, rng=torch.Generator())
        logits = net(images, mixture)
        leaves = [*net.parameters(), *arch.parameters()]
        found.append([logits, *torch.autograd.grad(logits.square().sum(), leaves)])
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


def test_what_is_no_number_stays_none():
    native.choose(Kernels.native)
    function, values = sums(1, 1, 0, 8, 8, (2, 3, 4), torch.float32)
    values[2][0, 3, 1, 1] = float("nan")
    assert function(*values)[0].isnan().all()
    y = depthwise_conv2d(values[2], draw(8, 1, 3, 3, dtype=torch.float32))
    assert y.isnan().sum() == 9 and y[0, 3].isnan().sum() == 9
    x, weight = values[2].requires_grad_(), draw(8, 1, 3, 3, dtype=torch.float32)
    z = depthwise_conv2d(x, weight, relu=lambda: F.relu(x))
    assert torch.equal(z.isnan(), y.isnan())
    (g,) = torch.autograd.grad(z, x, torch.ones_like(z))
    assert_close(g[0, 3, 1, 1], weight[3].sum())  # as torch's own ReLU lets pass


def test_they_are_for_plain_tensors_of_one_format():
    x = torch.randn(2, 8, 4, 4)
    assert native.usable(x) and native.usable(nn.Parameter(x), x)
    for others in (
        [x.double()], [x.to(torch.bfloat16)], [x.to("meta")], [x.to_sparse()],
        [torch.nn.Buffer(x).as_subclass(type("Mine", (Tensor,), {}))],
        [torch._neg_view(x)], [torch._efficientzerotensor((2, 8))],
    ):  # fmt: skip
        assert not native.usable(x, *others)
    assert not native.usable(x.to(torch.int64)) and not native.usable(x.half())
    with FlopCounterMode(display=False):
        assert not native.usable(x)
    native.choose(Kernels.library)
    assert not native.usable(x)


@torch_func
def test_tangents_are_torch_s():
    """In forward mode, also under `no_grad` and over a backward pass: kernels would drop them."""
    native.choose(Kernels.native)
    x, weight = draw(2, 16, 9, 9), draw(16, 1, 5, 5)
    with torch.no_grad(), forward_ad.dual_level():
        moved = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(depthwise_conv2d(moved, weight)).tangent
    assert_close(tangent, depthwise_conv2d(torch.ones_like(x), weight), **EXACT)
    found = []
    for convolve in (depthwise_conv2d, lambda x, w: F.conv2d(x, w, padding=2, groups=16)):
        leaf, image = weight.clone().requires_grad_(), x.clone().requires_grad_()
        with forward_ad.dual_level():
            y = convolve(forward_ad.make_dual(image, torch.ones_like(x)), leaf)
            (gradient,) = torch.autograd.grad(y.square().sum(), leaf)
            found.append(forward_ad.unpack_dual(gradient).tangent)
    assert_close(found[0], found[1], **EXACT)


def test_shapes_that_do_not_fit_are_left_to_torch_s_errors():
    native.choose(Kernels.native)
    x, weight, y = draw(2, 8, 6, 5), draw(8, 1, 3, 3), draw(2, 8, 3, 3)
    how = native.Convolution((2, 8, 6, 5), (3, 3), 2)
    assert how.takes(x, [weight], [y])
    for shape in ((4, 1, 3, 3), (16, 1, 3, 3), (8, 2, 3, 3), (8, 1, 5, 5)):
        assert not how.takes(x, [weight, draw(*shape)], [y])
    for shape in ((2, 8, 6, 5), (1, 8, 3, 3), (2, 4, 3, 3)):
        assert not how.takes(x, [weight], [y, draw(*shape)])
    assert not native.Convolution((2, 6, 6, 5), (3, 3)).takes(x[:, :6], [weight[:6]], [])
    assert not native.Convolution((0, 8, 6, 5), (3, 3)).takes(x[:0], [weight], [])
    assert not native.Convolution((2, 8, 6, 5), (3, 5)).takes(x, [draw(8, 1, 3, 5)], [])
    scale, z, w = draw(3, 1), draw(2, 8, 3, 4), draw(8, 8)
    assert native.takes_sums([w, w[:, :, None, None]], scale, [z, z], [z])
    for inputs, others in (
        ([z], [z]), ([z, z, z], [z]), ([z, z[:1]], [z]), ([z, z[:, :4]], [z]), ([z, z], [z[:1]]),
        ([z[:0], z[:0]], [z[:0]]),
    ):  # fmt: skip
        assert not native.takes_sums([w, w], scale, inputs, others)
    for kernel in (w[:4], w[:, :4], draw(8, 8, 3, 3)):
        assert not native.takes_sums([w, kernel], scale, [z, z], [z])
    assert not native.takes_sums([w] * 3, draw(2, 2), [z] * 3, [])
    assert not native.takes_sums([w] * 4, draw(3, 1), [z] * 4, [])


@pytest.mark.parametrize("channels", [16, 64])
def test_a_gradient_may_be_the_image_itself(channels: int):
    """And matrices may lie transposed."""

    def function(z: Tensor, pointwise: Tensor) -> tuple[Tensor]:
        matrices = pointwise.transpose(2, 3)
        (y,), _ = normalized_sum([[z]], matrices, torch.ones(1, 1, dtype=z.dtype), eps=1e-5)
        return (y,)

    values = [draw(4, channels, 6, 6), draw(1, 1, channels, channels).contiguous()]
    found = []
    for kernels in (Kernels.native, Kernels.library):
        native.choose(kernels)
        leaves = [value.detach().requires_grad_() for value in values]
        found.append(torch.autograd.grad(function(*leaves), leaves, leaves[0].detach()))
    for gradient, expected in zip(*found, strict=True):
        assert_close(gradient, expected, **EXACT)


def test_the_default_device_is_not_that_of_the_images():
    native.choose(Kernels.native)
    x, weight = draw(2, 8, 5, 5), draw(8, 1, 3, 3)
    expected = depthwise_conv2d(x, weight)
    with torch.device("meta"):
        y = depthwise_conv2d(x, weight)
    assert torch.equal(y, expected)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2)])
def test_an_output_that_nobody_uses_leaves_its_weights_alone(kernel: int, stride: int):
    native.choose(Kernels.native)
    x = draw(2, 8, 6, 6)
    weights = [draw(8, 1, kernel, kernel, seed=i).requires_grad_() for i in (1, 2)]
    depthwise_convs(x, weights, stride=stride)[1].square().sum().backward()
    assert weights[0].grad is None and weights[1].grad is not None


@pytest.mark.parametrize("mean", [0.0, 30.0, 1000.0])
@pytest.mark.parametrize("pixels", [128, 4096])
def test_large_means_cost_no_digits_of_the_variance(mean: float, pixels: int):
    """In float32, against float64 on the same numbers; the sum itself cancels as it must."""
    native.choose(Kernels.native)
    narrow = (mean + draw(2, 16, 1, pixels // 2)).float()
    matrices = draw(1, 1, 16, 16).contiguous().float()
    scale = torch.ones(1, 1)
    (y,), moments = normalized_sum([[narrow]], matrices, scale, eps=1e-5)
    (exact,), expected = normalized_sum(
        [[narrow.double()]], matrices.double(), scale.double(), eps=1e-5
    )
    assert moments is not None and expected is not None
    assert_close(moments.variance.double(), expected.variance, rtol=2e-6, atol=1e-6)
    assert (y - exact).abs().max() < 1e-5 * (1 + mean / 10)


def test_a_constant_channel_is_one():
    native.choose(Kernels.native)
    z = torch.full((2, 8, 5, 5), 100.0).contiguous(memory_format=torch.channels_last)
    (y,), moments = normalized_sum([[z]], torch.eye(8)[None, None], torch.ones(1, 1), eps=1e-5)
    assert moments is not None and moments.variance.max() == 0
    assert y.abs().max() <= 100 * 2**-23 * 1e-5**-0.5


@torch_func
def test_transforms_are_torch_s():
    seen = []

    def function(x: Tensor) -> Tensor:
        seen.append(native.usable(x))
        return depthwise_conv2d(x[None], weight).square().sum()

    weight, images = draw(8, 1, 3, 3), draw(3, 8, 5, 5)
    together = vmap(grad(function))(images)
    assert seen == [False]
    for found, image in zip(together, images, strict=True):
        leaf = channels_last(image[None]).requires_grad_()
        (expected,) = torch.autograd.grad(depthwise_conv2d(leaf, weight).square().sum(), leaf)
        assert_close(found, expected[0], **EXACT)


def test_images_in_another_layout_stay_the_library_s():
    """A copy would cost more than the kernels save, and change the next layer's layout."""
    weight = draw(8, 1, 5, 5)
    y = depthwise_conv2d(torch.randn(2, 8, 6, 6, dtype=torch.float64), weight)
    assert y.is_contiguous() and not y.is_contiguous(memory_format=torch.channels_last)


def test_weights_and_gradients_may_lie_in_any_order():
    x, weight = draw(2, 8, 6, 5), draw(5, 3, 8, 1).permute(2, 3, 1, 0)[:, :, :, :3]
    native.choose(Kernels.native)
    leaf = x.detach().requires_grad_()
    y = depthwise_conv2d(leaf, weight)
    upstream = torch.randn(5, 6, 8, 2, dtype=torch.float64).permute(3, 2, 1, 0)
    (found,) = torch.autograd.grad(y, leaf, upstream)
    native.choose(Kernels.library)
    expected = depthwise_conv2d(leaf, weight)
    assert_close(y, expected, **EXACT)
    assert_close(found, torch.autograd.grad(expected, leaf, upstream)[0], **EXACT)
