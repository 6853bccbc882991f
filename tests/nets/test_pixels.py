"""Every second pixel, and its derivatives, are those of slices."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jvp, vmap
from torch.testing import assert_close

from darts_gdas.nets.candidates import FactorizedReduce
from darts_gdas.nets.depthwise import Depthwise
from darts_gdas.nets.pixels import even_and_odd, every

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
SHAPES = [(2, 3, 4, 6), (1, 2, 5, 3), (3, 1, 1, 2)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sliced(x: Tensor) -> tuple[Tensor, Tensor]:
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_derivatives_of_both_orders(shape: tuple[int, ...]):
    x = draw(*shape).requires_grad_()
    for quarter, expected in zip(even_and_odd(x), sliced(x), strict=True):
        assert torch.equal(quarter, expected)
    assert gradcheck(even_and_odd, x, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(even_and_odd, x)


@pytest.mark.parametrize("power", [(3, 2), (2, 0), (0, 3)], ids=str)
def test_transforms(power: tuple[int, int]):
    """Also where nothing reaches one of the two."""

    def scalar(pick):
        return lambda x: sum((y**p).sum() for y, p in zip(pick(x), power, strict=True) if p)

    images, direction = draw(3, 2, 2, 4, 3), draw(2, 2, 4, 3, seed=1)
    found, expected = scalar(even_and_odd), scalar(sliced)
    assert_close(vmap(grad(found))(images), vmap(grad(expected))(images))
    assert_close(hessian(found)(images[0]), hessian(expected)(images[0]))
    pairs = [jvp(f, (images[0],), (direction,)) for f in (found, expected)]
    assert_close(pairs[0], pairs[1])


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_keep_the_images_layout(layout: torch.memory_format):
    x = draw(2, 8, 6, 6).contiguous(memory_format=layout).requires_grad_()
    block = FactorizedReduce(8, 8, affine=False).double()
    block.after_relu(x).square().sum().backward()
    assert x.grad is not None and x.grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [(6, 4), (5, 4), (6, 3)], ids=str)
@pytest.mark.parametrize("step", [1, 2, 3])
def test_every_second_row_and_column(step: int, size: tuple[int, int], layout: torch.memory_format):
    x = draw(2, 3, *size).contiguous(memory_format=layout).requires_grad_()
    y, expected = every(x, step), x[:, :, ::step, ::step]
    assert torch.equal(y, expected)
    upstream = torch.rand_like(y)
    (found,), (target,) = (torch.autograd.grad(z, x, upstream) for z in (y, expected))
    assert torch.equal(found, target)
    assert gradgradcheck(lambda x: every(x, step), x)


def test_an_exported_convolution_takes_odd_and_even_sizes():
    conv, size = Depthwise(8, 3, stride=2, dilation=2), torch.export.Dim.AUTO
    images = torch.randn(2, 8, 6, 6)
    program = torch.export.export(conv, (images,), dynamic_shapes=({0: size, 2: size, 3: size},))
    others = torch.randn(3, 8, 7, 9)
    assert_close(program.module()(others), conv(others))
