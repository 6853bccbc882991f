"""A network is afterwards what it was before, and can be copied."""

import copy
import io
import warnings
from collections import deque
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.testing import assert_close

from darts_gdas.ntk import (
    empirical_nngp,
    empirical_ntk,
    linearize,
    ntk_vector_product,
    projected_ntk,
    taylor_expand,
)
from darts_gdas.ntk.snapshot import Snapshot

pytestmark = pytest.mark.usefixtures("seeded")


class Keeps(nn.Module):
    """Keeps what it computes wherever a module can, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3), 0
        self.all: list[Tensor] = []
        self.some, self.named = deque([torch.ones(1)], maxlen=3), {"first": torch.ones(1)}

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        self.calls += 1
        self.feature = y
        self.all.append(y)
        self.some.append(y)
        self.named["last"] = y
        return y.tanh()


class Writes(nn.Module):
    """Writes into its weights, and into a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(4, 3), torch.zeros(2).expand(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        self.layer.weight.data.clamp_(-0.1, 0.1)
        return self.layer(x)


class Expanded(nn.Module):
    """A buffer whose numbers share memory."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("mask", torch.ones(3, 3).tril().expand(2, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) @ self.get_buffer("mask")[1]


def pruned() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    prune.l1_unstructured(net[0], "weight", 0.5)
    return net


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "keeps": Keeps,
    "expanded": Expanded,
    "pruned": pruned,
    "weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)), nn.Tanh()),
    "spectral norm": lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 3)), nn.Tanh()),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[nn.Module]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # the older forms
        net = NETWORKS[request.param]().eval()
        with torch.no_grad():
            net(torch.randn(2, 4))  # what it computes can be copied
        yield net


def held(net: nn.Module) -> list[tuple[str, object]]:
    """All that its modules hold, hooks apart, with the numbers of tensors."""
    found: list[tuple[str, object]] = []
    for place, module in net.named_modules():
        for name, value in vars(module).items():
            inside = value.items() if isinstance(value, dict) else [("", value)]
            if isinstance(value, (list, deque)):
                inside = [(str(i), v) for i, v in enumerate(value)]
            if "hooks" not in name:
                found += [(f"{place}.{name}.{k}", v) for k, v in inside]
    return found


def test_whatever_runs_leaves_a_network_as_it_was(network: nn.Module):
    x, before = torch.randn(5, 4), held(network)
    copies = [v.clone() if isinstance(v, Tensor) else v for _, v in before]
    for method in ("auto", "jacobian", "loop", "vector_product"):
        empirical_ntk(network, x, method=method)
    empirical_nngp(network, x)
    projected_ntk(network, x, projections=2)
    ntk_vector_product(network, x, torch.ones(5, 3))
    after = held(network)
    assert [name for name, _ in after] == [name for name, _ in before]
    for (name, now), (_, then), value in zip(after, before, copies, strict=True):
        assert now is then, name
        if isinstance(value, Tensor):
            assert torch.equal(torch.as_tensor(now), value), name
    copy.deepcopy(network)
    torch.save(network.state_dict(), io.BytesIO())


def test_expansions_hold_copies_of_any_network(network: nn.Module):
    network.zero_grad()
    x = torch.randn(5, 4)
    expected = network(x).detach()  # now it may hold results that torch cannot copy
    parameters = {name: p.detach().clone() for name, p in network.named_parameters()}
    for expansion in (linearize(network), taylor_expand(network, 2)):
        assert_close(expansion(parameters, x), expected)


def test_what_a_pass_writes_is_undone():
    model = Writes()
    weight = model.layer.weight.detach().clone()
    empirical_ntk(model, torch.randn(5, 4), method="loop")
    assert torch.equal(model.layer.weight, weight) and not model.calls.any()


def test_tables_of_words_are_not_renormalised():
    """`max_norm` writes into the weights of the words that a pass reads."""
    words = nn.Embedding(6, 4, max_norm=0.5)
    before = words.weight.detach().clone()
    kernel = empirical_ntk(nn.Sequential(words, nn.Flatten()), torch.tensor([[0, 1], [1, 2]]))
    assert torch.equal(words.weight, before)
    assert_close(kernel, torch.tensor([[8.0, 4.0], [4.0, 8.0]]))


def test_what_does_not_change_is_not_written_to():
    """A graph from before can still be run backwards."""
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(5, 4)
    loss = model(x).square().sum()
    empirical_ntk(model, x)
    loss.backward()


class KeepsDeep(nn.Module):
    """Keeps what it computes in containers within containers, one of which holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.cache: dict[str, list] = {"k": []}
        self.pairs = ([torch.zeros(1)], {"of": {1}})
        self.cache["k"].append(self.cache)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        self.cache["k"].append(y)
        self.pairs[0].append(y)
        self.pairs[0][0] += 1
        self.pairs[1]["of"].add(len(self.cache["k"]))
        return y.tanh()


@pytest.mark.parametrize("method", ["structured", "loop"])
def test_what_is_kept_in_containers_of_containers_goes(method: str):
    model = KeepsDeep()
    empirical_ntk(model, torch.randn(3, 4), method=method)
    assert len(model.cache["k"]) == 1 and model.cache["k"][0] is model.cache
    assert model.pairs == ([torch.zeros(1)], {"of": {1}})
    copy.deepcopy(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_nan_is_not_written_to(dtype: torch.dtype):
    model = nn.Linear(4, 3)
    model.register_buffer("unused", torch.tensor([torch.nan, 1.0], dtype=dtype))
    empirical_ntk(model, torch.randn(3, 4))
    assert model.get_buffer("unused")._version == 0


def test_what_came_goes():
    model = nn.Linear(2, 2)
    before = Snapshot(model)
    model.register_buffer("new", torch.zeros(1))
    model.other, model.bias = nn.Linear(1, 1), None  # type: ignore[assignment]
    before.restore()
    assert [*model.state_dict()] == ["weight", "bias"] and not [*model.children()]
