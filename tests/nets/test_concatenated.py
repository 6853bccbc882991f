"""The ReLU of a concatenation, and its derivatives, are the library's, bit by bit."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap
from torch.testing import assert_close

from darts_gdas.nets.concatenated import rectified

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")


def draw(*channels: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Images away from the kink."""
    rng = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, c, 3, 5, generator=rng, dtype=dtype) for c in channels]
    return [p + 0.1 * p.sign() for p in parts]


def plain(*parts: Tensor) -> Tensor:
    return F.relu(torch.cat(parts, dim=1))


@pytest.mark.parametrize("channels", [(3,), (2, 1, 4)], ids=str)
def test_derivatives_of_both_orders(channels: tuple[int, ...]):
    parts = [part.requires_grad_() for part in draw(*channels)]
    assert gradcheck(lambda *p: rectified(p), parts, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(lambda *p: rectified(p) ** 3, parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_are_the_librarys_and_lie_whole(dtype: torch.dtype):
    """Also where a value is 0, infinite or NaN, and where a part wants no gradient."""
    parts = [p.contiguous(memory_format=torch.channels_last) for p in draw(8, 4, 8, dtype=dtype)]
    parts[0][0, :4, 0, 0] = torch.tensor([0.0, -torch.inf, torch.inf, torch.nan])
    found = [part.clone().requires_grad_(i != 1) for i, part in enumerate(parts)]
    expected = [part.clone().requires_grad_(i != 1) for i, part in enumerate(parts)]
    (upstream,) = draw(20, dtype=dtype)
    y, target = rectified(found), plain(*expected)
    assert_close(y, target, rtol=0, atol=0, equal_nan=True)
    y.backward(upstream), target.backward(upstream)
    for part, other in zip(found, expected, strict=True):
        if other.grad is None:
            assert part.grad is None
        else:
            assert torch.equal(part.grad, other.grad)
    inputs = [part.clone().requires_grad_() for part in parts]
    whole = torch.autograd.grad(rectified(inputs), inputs, upstream)
    assert all(g.is_contiguous(memory_format=torch.channels_last) for g in whole)
    views = torch.autograd.grad(torch.cat(inputs, dim=1), inputs, upstream)
    assert not any(g.is_contiguous(memory_format=torch.channels_last) for g in views)


def test_transforms():
    parts, directions = draw(2, 3), draw(3, 2)[::-1]
    found = jvp(lambda *p: rectified(p), tuple(parts), tuple(directions))
    assert_close(found, jvp(plain, tuple(parts), tuple(directions)))

    def of(function):
        return vmap(grad(lambda a, b: (function(a[None], b[None]) ** 2).sum()))

    assert_close(of(lambda *p: rectified(p))(*parts), of(plain)(*parts))
