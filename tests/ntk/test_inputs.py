"""Every function that takes a network and samples: the samples and the network stay as they are.

A network may begin with an operation in place. The oracle is the same network behind a copy.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.ntk import (
    activation_patterns,
    empirical_ntk,
    extreme_eigenvalues,
    linear_regions,
    linearize,
    ntk_vector_product,
)
from tests.ntk.test_kernel import METHODS

pytestmark = pytest.mark.usefixtures("seeded")


class Copied(nn.Module):
    """A network that leaves its input alone, whatever it begins with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.clone())


class Scaled(nn.Module):
    """Multiplies its input in place, by a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -2.0, 1.5])[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.weight)


class Whitened(nn.Module):
    """Subtracts its mean in place, counts its calls, and puts another tensor into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.calls + 1
        return x.sub_(x.flatten(1).mean(1)[:, None, None, None])


class Masked(nn.Module):
    """Writes into a part of its input."""

    def forward(self, x: Tensor) -> Tensor:
        x[:, 0] = x[:, 0] * 3
        return x


BEGINNINGS: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": lambda: nn.LeakyReLU(0.5, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "scaled": Scaled,
    "whitened": Whitened,
    "masked": Masked,
}


@pytest.fixture(params=sorted(BEGINNINGS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    return nn.Sequential(
        BEGINNINGS[request.param](),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Flatten(),
        nn.Linear(16, 2),
    ).double()


def samples(seed: int = 1, count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 6, 6, dtype=torch.float64, generator=generator)


def as_with_a_copy(network: nn.Module, function: Callable[..., Any], *inputs: Tensor) -> None:
    """What a function finds is what it finds behind a copy; nothing has moved."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    identities = [id(buffer) for buffer in network.buffers()]
    flags = [module.training for module in network.modules()]
    expected = function(Copied(network), *(x.clone() for x in inputs))
    given = [x.clone() for x in inputs]
    found = function(network, *given)
    assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=1e-9, atol=1e-9)
    again = function(network, *given)
    assert_close(torch.as_tensor(again), torch.as_tensor(found), rtol=0, atol=0)
    for x, same in zip(inputs, given, strict=True):
        assert torch.equal(x, same)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [id(buffer) for buffer in network.buffers()] == identities
    assert [module.training for module in network.modules()] == flags


@pytest.mark.parametrize("batch_norm", [None, "frozen"])
@pytest.mark.parametrize("method", METHODS)
def test_a_kernel(network: nn.Module, method: str, batch_norm: str | None):
    network.train(batch_norm is not None)

    def kernel(model: nn.Module, x1: Tensor, x2: Tensor) -> Tensor:
        return empirical_ntk(
            model, x1, x2, kind="full", method=method, batch_norm=batch_norm, chunk_size=2
        )

    if isinstance(network[0], Scaled) and method == "structured":
        with pytest.raises(ValueError, match="weight' is used outside of a known layer's call"):
            kernel(network, samples(), samples(2, 3))
    else:
        as_with_a_copy(network, kernel, samples(), samples(2, 3))


def test_all_methods_agree_about_a_network_that_begins_in_place(network: nn.Module):
    """By definition: the rows of the Jacobian one by one, of fresh samples each."""
    network.eval()
    rows = []
    for n in range(5):
        for a in range(2):
            network.zero_grad()
            network(samples()[n : n + 1])[0, a].backward()
            rows.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    jacobian = torch.stack(rows)
    expected = (jacobian @ jacobian.T).view(5, 2, 5, 2).permute(0, 2, 1, 3)
    assert_close(empirical_ntk(network, samples(), kind="full"), expected)


def test_a_kernel_of_a_batch(network: nn.Module):
    as_with_a_copy(network, lambda model, x: empirical_ntk(model, x, batch_norm="batch"), samples())


def test_products_and_eigenvalues(network: nn.Module):
    vector = torch.ones(3, 2, dtype=torch.float64)

    def product(model: nn.Module, x1: Tensor, x2: Tensor) -> Tensor:
        return ntk_vector_product(model, x1, vector, x2)

    as_with_a_copy(network.eval(), product, samples(), samples(2, 3))
    as_with_a_copy(network, extreme_eigenvalues, samples())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("function", [linear_regions, activation_patterns])
def test_regions(network: nn.Module, function: Callable[..., Any], training: bool):
    as_with_a_copy(network.train(training), function, samples())


@pytest.mark.parametrize("training", [True, False])
def test_an_expansion(network: nn.Module, training: bool):
    def expanded(model: nn.Module, x: Tensor) -> Tensor:
        moved = {name: p.detach() * 1.5 for name, p in model.named_parameters()}
        return linearize(model)(moved, x).detach()

    as_with_a_copy(network.train(training), expanded, samples())
