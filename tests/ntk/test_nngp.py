"""The kernel of outputs against products of outputs."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.ntk import empirical_nngp
from tests.ntk.networks import make
from tests.oracles import kernel_of_kind

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.mark.parametrize("rectangular", [False, True])
@pytest.mark.parametrize("kind", ["sum", "trace", "diagonal", "full"])
def test_it_is_the_products_of_outputs(kind: str, rectangular: bool):
    model, x1, x2 = make("resnet")
    with torch.no_grad():
        f, g = model(x1), model(x2 if rectangular else x1)
    full = torch.stack([torch.stack([torch.outer(a, b) for b in g]) for a in f])
    found = empirical_nngp(model, x1, x2 if rectangular else None, kind=kind, chunk_size=2)
    assert_close(found, kernel_of_kind(full, kind), rtol=1e-12, atol=1e-12)


def test_outputs_of_any_shape_count_in_their_order():
    model, x = nn.Conv2d(3, 2, 3).double(), torch.randn(2, 3, 4, 4).double()
    f = model(x).detach().flatten(1)
    found = empirical_nngp(model, x, kind="full")
    assert_close(found, torch.einsum("na,mb->nmab", f, f))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "mean"}, "kind must be one of sum, trace, diagonal, full, got 'mean'"),
        ({"chunk_size": 0}, "chunk_size must be a whole number and at least 1, got 0"),
    ],
)
def test_choices_are_checked(options: dict, message: str):
    unchecked = getattr(empirical_nngp, "__wrapped__", empirical_nngp)
    with pytest.raises(ValueError, match=message):
        unchecked(nn.Linear(2, 2), torch.ones(2, 2), **options)


class Exponential(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="outputs hold numbers that are not finite"):
        empirical_nngp(Exponential(), torch.tensor([[0.0], [1e3], [1.0]]))
