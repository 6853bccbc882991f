"""Constants on the device."""

import torch

from darts_gdas.nets.constant import constant

CPU = torch.device("cpu")


def test_it_holds_the_values_and_is_made_once():
    rows = ((1.0, 0.0), (0.5, 2.0))
    found = constant(rows, torch.float64, CPU)
    assert found.tolist() == [[1.0, 0.0], [0.5, 2.0]] and found.dtype is torch.float64
    assert constant(rows, torch.float64, CPU) is found
    assert constant(rows, torch.float32, CPU) is not found


def test_made_in_inference_mode_it_still_serves_a_backward_pass():
    """d/dx of sum(x[positions]) counts how often each position is taken."""
    with torch.inference_mode():
        positions = constant((2, 0, 2), torch.long, CPU)
    x = torch.arange(3.0, requires_grad=True)
    x[positions].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 0.0, 2.0]
