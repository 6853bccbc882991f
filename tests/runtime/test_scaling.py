import pytest
import torch

from darts_gdas.runtime.scaling import with_scaled_gradients


@pytest.mark.parametrize("factor", [2.0**15, 0.25])
def test_a_factor_and_its_inverse_change_no_gradient(factor: float):
    x = torch.tensor([0.3, -0.7, 1.1], requires_grad=True)
    (inner,) = with_scaled_gradients([x], 1 / factor)
    (loss,) = with_scaled_gradients([torch.sin(inner).pow(2).sum()], factor)
    plain = torch.sin(x).pow(2).sum()
    assert torch.equal(loss, plain)
    assert torch.equal(*(torch.autograd.grad(value, x)[0] for value in (loss, plain)))


def test_gradients_in_between_are_larger():
    x = torch.ones(1, requires_grad=True)
    inner = x * 1
    (loss,) = with_scaled_gradients([inner.sum()], 8.0)
    assert torch.autograd.grad(loss, inner)[0].item() == 8


def test_what_needs_no_gradient_passes_as_it_is():
    x = torch.ones(1)
    assert with_scaled_gradients([x], 2.0)[0] is x
    y = torch.ones(1, requires_grad=True)
    assert with_scaled_gradients([y], 1.0)[0] is y
