"""Dense convolutions of a supernet are `nn.Conv2d`'s, whoever computes them."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from darts_gdas import native
from darts_gdas.native import Kernels, build
from darts_gdas.nets.candidates import Leaving, ReluConvNorm, State, after_relu
from darts_gdas.nets.convolution import DenseConv, conv2d, conv2ds, convolved, use_kernels
from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.statistics import StatisticsUpdate

EXACT = {"rtol": 1e-10, "atol": 1e-10}
needs_kernels = pytest.mark.skipif(
    build.library() is None, reason=f"needs kernels in C++: {native.described()}"
)
torch_func = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")


def draw(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return channels_last(values)


def tensors(
    channels: int = 4, out: int = 8, size: tuple[int, int] = (5, 4)
) -> tuple[Tensor, Tensor]:
    x, weight = draw(2, channels, *size), draw(out, channels, 3, 3, seed=1)
    return x.requires_grad_(), weight.requires_grad_()


def library(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def conv_of(channels: int = 16, **options: object) -> nn.Conv2d:
    settings = {"kernel_size": 3, "padding": 1, "bias": False, **options}
    return nn.Conv2d(channels, 32, **settings).double()  # type: ignore[arg-type]


def through(conv: nn.Conv2d, x: Tensor) -> Tensor:
    (y,) = convolved([conv], x)
    return y


def is_native(y: Tensor) -> bool:
    return "_Convolution" in type(y.grad_fn).__name__


@pytest.mark.parametrize("kernels", [Kernels.auto, Kernels.library])
def test_outputs_and_gradients_are_the_library_s(kernels: Kernels):
    native.choose(kernels)
    x, weight = tensors()
    y, expected = conv2d(x, weight), library(x, weight)
    assert is_native(y) == (kernels is Kernels.auto and build.library() is not None)
    assert_close(y, expected, **EXACT)
    upstream = draw(*y.shape, seed=2)
    found = torch.autograd.grad(y, (x, weight), upstream)
    for gradient, other in zip(
        found, torch.autograd.grad(expected, (x, weight), upstream), strict=True
    ):
        assert_close(gradient, other, **EXACT)


@needs_kernels
@pytest.mark.parametrize("needed", [(0,), (1,), (0, 1)], ids=str)
def test_derivatives_of_first_and_second_order(needed: tuple[int, ...]):
    """And where only some are asked for."""
    values = [t.detach().requires_grad_(i in needed) for i, t in enumerate(tensors(4, 4, (3, 4)))]
    assert is_native(conv2d(*values))
    assert gradcheck(conv2d, values)
    assert gradgradcheck(conv2d, values)


@needs_kernels
def test_third_derivatives_are_the_library_s():
    x, weight = tensors()
    found = []
    for function in (conv2d, library):
        value = function(x, weight).pow(3).sum()
        for _ in range(3):
            first = torch.autograd.grad(value, (x, weight), create_graph=True)
            value = sum(g.square().sum() for g in first) * 1e-6
        found.append(value)
    assert_close(found[0], found[1], rtol=1e-9, atol=0.0)  # products of many sums


@needs_kernels
@pytest.mark.parametrize("needs_x", [True, False])
def test_keeps_only_the_tensor_that_the_other_gradient_needs(needs_x: bool):
    x, weight = tensors()
    x.requires_grad_(needs_x)
    weight.requires_grad_(not needs_x)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = conv2d(x, weight)
    assert is_native(y)
    assert {t.data_ptr() for t in kept} == {(weight if needs_x else x).data_ptr()}
    y.sum().backward()
    assert (x.grad is None, weight.grad is None) == (not needs_x, needs_x)


@needs_kernels
@pytest.mark.parametrize(
    "given_back",
    [
        lambda t: t.contiguous(),
        lambda t: t.mT.contiguous().mT,
        lambda t: t.repeat_interleave(2, dim=0)[::2],
    ],
    ids=["contiguous", "turned", "apart"],
)
def test_what_was_kept_may_come_back_in_another_place(given_back: Callable[[Tensor], Tensor]):
    x, weight = tensors()
    upstream = draw(2, 8, 5, 4, seed=2)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), given_back):
        y = conv2d(x, weight)
    assert is_native(y)
    expected = torch.autograd.grad(library(x, weight), (x, weight), upstream)
    for gradient, other in zip(
        torch.autograd.grad(y, (x, weight), upstream), expected, strict=True
    ):
        assert_close(gradient, other, **EXACT)


@needs_kernels
def test_what_comes_back_as_another_kind_is_torch_s_error():
    x, weight = tensors()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t.float()):
        y = conv2d(x, weight)
    with pytest.raises(RuntimeError, match=r"type|dtype"):
        y.sum().backward()


@needs_kernels
def test_a_gradient_in_another_layout_is_copied():
    x, weight = tensors()
    upstream = draw(2, 8, 5, 4, seed=2).contiguous()
    expected = torch.autograd.grad(library(x, weight), (x, weight), upstream)
    found = torch.autograd.grad(conv2d(x, weight), (x, weight), upstream)
    (alone,) = torch.autograd.grad(conv2d(x, weight.detach()), x, upstream)
    for gradient, other in zip((*found, alone), (*expected, expected[0]), strict=True):
        assert_close(gradient, other, **EXACT)


@needs_kernels
def test_batched_gradients_are_a_loop_s():
    x, weight = tensors()
    y = conv2d(x, weight)
    upstream = torch.stack([torch.ones_like(y), y.detach()])
    found = torch.autograd.grad(y, (x, weight), upstream, is_grads_batched=True)
    for i, g in enumerate(upstream):
        for gradient, other in zip(
            found, torch.autograd.grad(library(x, weight), (x, weight), g), strict=True
        ):
            assert_close(gradient[i], other, **EXACT)


@torch_func
def test_per_sample_gradients_by_vmap_are_a_loop_s():
    x, weight = (t.detach() for t in tensors())
    together = vmap(grad(lambda w, image: conv2d(image[None], w).square().sum()), (None, 0))(
        weight, x
    )
    for gradient, image in zip(together, x, strict=True):
        leaf = weight.clone().requires_grad_()
        (expected,) = torch.autograd.grad(library(image[None], leaf).square().sum(), leaf)
        assert_close(gradient, expected, **EXACT)


@torch_func
def test_forward_mode_is_the_product_rule():
    x, weight = (t.detach() for t in tensors())
    dx, dweight = torch.cos(x), torch.sin(weight)
    with forward_ad.dual_level():
        pair = forward_ad.make_dual(x, dx), forward_ad.make_dual(weight, dweight)
        y, tangent = forward_ad.unpack_dual(conv2d(*pair))
    assert_close(y, library(x, weight), **EXACT)
    assert_close(tangent, library(dx, weight) + library(x, dweight), **EXACT)


def test_without_a_gradient_asked_for_nothing_is_recorded():
    x, weight = tensors()
    with torch.no_grad():
        assert not conv2d(x, weight).requires_grad
    with torch.inference_mode():
        y = conv2d(x * 1, weight)
    assert y.is_inference()
    assert_close(y.clone(), library(x, weight).detach(), **EXACT)


@needs_kernels
def test_bfloat16_under_autocast_is_the_library_there():
    x, weight = (t.detach().float().requires_grad_() for t in tensors())
    with torch.autocast("cpu", torch.bfloat16):
        y = conv2d(x, weight)
    assert y.dtype == torch.bfloat16 and not is_native(y)
    y = conv2d(x, weight)
    assert is_native(y)
    with torch.autocast("cpu", torch.bfloat16):  # the gradient's format is the output's
        (g,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    (expected,) = torch.autograd.grad(library(x, weight).square().sum(), weight)
    assert_close(g, expected, rtol=1e-4, atol=1e-4)


@needs_kernels
def test_an_export_has_the_library_s_operation():
    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv_of()

        def forward(self, x: Tensor) -> Tensor:
            return through(self.conv, x)

    program = torch.export.export(Convolved(), (draw(16, 16, 8, 9),))
    assert any("conv2d" in str(node.target) for node in program.graph.nodes)


@needs_kernels
def test_who_counts_operations_counts_all():
    x, weight = tensors()
    with FlopCounterMode(display=False) as counted:
        conv2d(x, weight).sum().backward()
    assert counted.get_total_flops() == 3 * 2 * 2 * 8 * 4 * 9 * 5 * 4


@needs_kernels
def test_a_plain_module_is_computed_by_the_kernels():
    x, conv = draw(16, 16, 8, 9), conv_of()
    y = through(conv, x)
    assert is_native(y)
    assert_close(y, conv(x), **EXACT)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2}, {"padding": 0}, {"padding": 2, "dilation": 2}, {"groups": 2},
        {"bias": True}, {"padding_mode": "reflect"}, {"padding": "same"},
        {"kernel_size": 1, "padding": 0}, {"kernel_size": (3, 5), "padding": (1, 2)},
        {"channels": 8}, {"channels": 24}, {"channels": 144},
    ],
    ids=str,
)  # fmt: skip
def test_other_modules_compute_themselves(options: dict):
    conv = conv_of(**options)
    x = draw(16, conv.in_channels, 8, 9)
    assert torch.equal(through(conv, x), conv(x)) and not is_native(through(conv, x))


def test_few_pixels_stay_the_library_s():
    x, conv = draw(15, 16, 8, 8), conv_of()
    assert torch.equal(through(conv, x), conv(x)) and not is_native(through(conv, x))


def test_images_in_another_layout_stay_the_library_s():
    x, conv = draw(16, 16, 8, 9).contiguous(), conv_of()
    y = through(conv, x)
    assert torch.equal(y, conv(x)) and not is_native(y)


@pytest.mark.parametrize(
    "listen",
    [
        lambda conv, heard: conv.register_forward_hook(lambda *_: heard.append(1)),
        lambda conv, heard: conv.register_forward_pre_hook(lambda *_: heard.append(1)),
        lambda conv, heard: conv.register_full_backward_hook(lambda *_: heard.append(1)),
        lambda conv, heard: conv.register_full_backward_pre_hook(lambda *_: heard.append(1)),
    ],
    ids=["forward", "before", "backward", "before backward"],
)
def test_who_listens_to_a_module_hears_of_it(listen: Callable):
    x, conv, heard = draw(16, 16, 8, 9).requires_grad_(), conv_of(), []
    listen(conv, heard)
    through(conv, x).sum().backward()
    assert heard == [1]


def test_a_module_that_was_changed_is_called():
    x, conv = draw(16, 16, 8, 9), conv_of()
    replaced = conv_of()
    replaced.forward = lambda input: input * 2  # type: ignore[method-assign]
    assert torch.equal(through(replaced, x), x * 2)
    within = conv_of()
    within._conv_forward = lambda input, weight, bias: input * 4  # type: ignore[method-assign]
    assert torch.equal(through(within, x), x * 4)
    normed = parametrizations.weight_norm(conv_of())
    assert torch.equal(through(normed, x), normed(x))

    class Mine(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return input * 3

    conv.__class__ = Mine
    assert torch.equal(through(conv, x), x * 3)


@needs_kernels
def test_weights_may_be_handed_in():
    x, conv, other = draw(16, 16, 8, 9), conv_of(), draw(32, 16, 3, 3, seed=7)

    class Calls(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x: Tensor) -> Tensor:
            return through(self.conv, x)

    assert_close(functional_call(Calls(), {"conv.weight": other}, x), library(x, other), **EXACT)


@needs_kernels
def test_a_supernet_s_candidates_use_it(monkeypatch: pytest.MonkeyPatch):
    module, x = ReluConvNorm(16, 16, affine=False, kernel=3).double(), draw(16, 16, 8, 9)
    taken, kernel = [], native.convolve
    monkeypatch.setattr(native, "convolve", lambda *a: taken.append(a[0]) or kernel(*a))
    update = StatisticsUpdate()
    y = after_relu(module, x, update)
    assert len(taken) == 1
    assert_close(y, module.after_relu(x), **EXACT)
    assert len(taken) == 1


class Block(nn.Module):
    """Convolutions that kernels take, and others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv_of(stride=2), conv_of(32)
        self.third = nn.Conv2d(32, 7, 3, padding=1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).relu()))


@needs_kernels
def test_a_block_that_a_supernet_holds_is_the_same_block_by_kernels(
    monkeypatch: pytest.MonkeyPatch,
):
    block, x = Block(), draw(16, 16, 16, 18).requires_grad_()
    expected = torch.autograd.grad(block(x).square().sum(), (x, *block.parameters()))
    names, heard, taken, kernel = [*block.state_dict()], [], [], native.convolve
    monkeypatch.setattr(native, "convolve", lambda *a: taken.append(a[0].images) or kernel(*a))
    block.second.register_forward_hook(lambda *_: heard.append(1))
    use_kernels(block)
    assert [*block.state_dict()] == names and isinstance(block.second, nn.Conv2d)
    found = torch.autograd.grad(block(x).square().sum(), (x, *block.parameters()))
    assert (16, 32, 8, 9) in taken and heard == [1]
    for gradient, other in zip(found, expected, strict=True):
        assert_close(gradient, other, **EXACT)
    taken.clear()
    block.second.padding_mode = "circular"
    block(x)
    assert (16, 32, 8, 9) not in taken
    block.second.padding_mode = "zeros"
    parametrizations.weight_norm(block.second)  # whose weight is another one at each call
    y = draw(16, 32, 8, 9, seed=3)
    assert_close(block.second(y), library(y, block.second.weight), **EXACT)
    assert (16, 32, 8, 9) in taken


@needs_kernels
def test_a_block_that_a_supernet_holds_may_be_recorded():
    """For any number of images, also where a kernel takes some."""
    block, x = Block(), draw(4, 16, 16, 18)
    use_kernels(block)
    assert isinstance(block.second, DenseConv)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(block, (x,), dynamic_shapes={"x": {0: batch}})
    many = draw(48, 16, 16, 18)
    assert_close(program.module()(many), block(many), **EXACT)
    assert_close(torch.fx.symbolic_trace(block)(many), block(many), **EXACT)


def several(count: int = 3) -> tuple[Tensor, ...]:
    """Images and sets of kernels."""
    x, _ = tensors(4, 8, (4, 5))
    return x, *(draw(8, 4, 3, 3, seed=i).requires_grad_() for i in range(count))


@needs_kernels
@pytest.mark.parametrize("reached", [(0,), (2, 1), (0, 1, 2)], ids=str)
def test_several_sets_of_kernels_share_the_images(reached: tuple[int, ...]):
    """Where a loss does not depend on one of them, nothing reaches its kernels."""
    x, *weights = values = several()
    outputs = conv2ds(x, weights)
    assert len({y.grad_fn for y in outputs}) == 1 and is_native(outputs[0])
    expected = [library(x, weight) for weight in weights]
    for y, other in zip(outputs, expected, strict=True):
        assert_close(y, other, **EXACT)
    losses = [sum((ys[i] ** 2).sum() * (i + 1) for i in reached) for ys in (outputs, expected)]
    found, right = (torch.autograd.grad(loss, values, allow_unused=True) for loss in losses)
    for i, (gradient, other) in enumerate(zip(found, right, strict=True)):
        if i - 1 in (*reached, -1):
            assert_close(gradient, other, **EXACT)
        else:
            assert gradient is other is None


@needs_kernels
def test_what_is_not_asked_for_cannot_spoil_the_images_gradient():
    x, first, second = several(2)
    bad = torch.full_like(second, float("inf")).requires_grad_()
    (found,) = torch.autograd.grad(conv2ds(x, [first, bad])[0].sum(), x)
    (expected,) = torch.autograd.grad(library(x, first).sum(), x)
    assert_close(found, expected, **EXACT)


@needs_kernels
@pytest.mark.parametrize("needed", [(0,), (2,), (1, 2), (0, 1)], ids=str)
def test_derivatives_of_several_sets_where_only_some_are_asked_for(needed: tuple[int, ...]):
    x = draw(1, 4, 3, 2)
    values = [t.detach() for t in (x, *(draw(4, 4, 3, 3, seed=i) for i in range(2)))]
    values = [t.requires_grad_(i in needed) for i, t in enumerate(values)]

    def outputs(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return tuple(conv2ds(x, weights))

    assert gradcheck(outputs, values)
    assert gradgradcheck(outputs, values)


def test_more_sets_than_a_kernel_takes_are_computed_apart():
    x = draw(16, 32, 8, 9).requires_grad_()
    convs = [conv_of(32) for _ in range(5)]
    outputs = convolved(convs, x)
    for y, conv in zip(outputs, convs, strict=True):
        assert_close(y, conv(x), **EXACT)
    if build.library() is not None:
        assert len({y.grad_fn for y in outputs}) == 5 and is_native(outputs[0])


@torch_func
def test_per_sample_gradients_of_several_sets_are_a_loop_s():
    x, *weights = (t.detach() for t in several(2))

    def loss(ws: list[Tensor], image: Tensor) -> Tensor:
        first, second = conv2ds(image[None], ws)
        return (first * second).sum()

    together = vmap(grad(loss), (None, 0))(weights, x)
    for i, image in enumerate(x):
        leaves = [w.clone().requires_grad_() for w in weights]
        value = (library(image[None], leaves[0]) * library(image[None], leaves[1])).sum()
        for found, expected in zip(together, torch.autograd.grad(value, leaves), strict=True):
            assert_close(found[i], expected, **EXACT)


def rectified(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    return tuple(conv2ds(x, weights, relu=lambda: F.relu(x)))


@needs_kernels
@pytest.mark.parametrize("needed", [(0,), (1,), (0, 2), (0, 1, 2)], ids=str)
def test_derivatives_where_kernels_take_the_relu(needed: tuple[int, ...]):
    x, *weights = (t.detach() for t in several(2))
    values = [
        t.requires_grad_(i in needed) for i, t in enumerate((x[:1, :, :3, :3].clone(), *weights))
    ]
    assert gradcheck(rectified, values)
    assert gradgradcheck(rectified, values)


@pytest.mark.parametrize("kernels", [Kernels.auto, Kernels.library])
def test_the_relu_is_made_where_kernels_do_not_take_it(kernels: Kernels):
    native.choose(kernels)
    x, *weights = values = several(2)
    asked: list[int] = []
    outputs = conv2ds(x, weights, relu=lambda: asked.append(1) or F.relu(x))
    is_taken = kernels is Kernels.auto and build.library() is not None
    assert bool(asked) != is_taken
    expected = [library(x.relu(), weight) for weight in weights]
    upstream = [draw(*y.shape, seed=7) for y in outputs]
    found = torch.autograd.grad(outputs, values, upstream)
    for gradient, other in zip(found, torch.autograd.grad(expected, values, upstream), strict=True):
        assert_close(gradient, other, **EXACT)


@needs_kernels
def test_the_relu_of_a_sampled_state_is_not_made():
    """But where somebody has made it, or makes it anyway, it is read."""
    x, convs = (
        draw(16, 16, 8, 9),
        [ReluConvNorm(16, 16, affine=False, kernel=3).double() for _ in "ab"],
    )
    for alone, made in ((True, False), (False, True)):
        state = State(x)
        leaving = Leaving(state, StatisticsUpdate(), None, alone)
        leaving.add("nor_conv_3x3", convs)
        assert ("relu" in state.made) == made
        for (y, norm), conv in zip(leaving.normed["nor_conv_3x3"], convs, strict=True):
            assert norm is conv.norm
            assert_close(y, library(x.relu(), conv.conv.weight), **EXACT)
    state = State(x)
    relu = state.relu()
    leaving = Leaving(state, StatisticsUpdate(), None, True)
    leaving.add("nor_conv_3x3", convs)
    assert state.relu() is relu
