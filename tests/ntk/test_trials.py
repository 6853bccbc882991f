"""Whether a network is a function of weights and one sample is found by running it."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from darts_gdas.ntk import empirical_nngp, empirical_ntk, extreme_eigenvalues, projected_ntk, trials
from tests.ntk.networks import Call, cancelling

pytestmark = pytest.mark.usefixtures("seeded")

Function = Callable[[Any, Tensor], Tensor]


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def sequences() -> Tensor:
    return numbers(5, 3, 4)


def words() -> Tensor:
    return torch.randint(0, 6, (5, 3))


def causal(net: Any, x: Tensor) -> Tensor:
    mask = nn.Transformer.generate_square_subsequent_mask(len(x), dtype=x.dtype)
    return net.layer(x, src_mask=mask)[:, -1]


def scaled(net: Any, x: Tensor) -> Tensor:
    hidden = torch.tanh(net.layer(x))
    return hidden / hidden.detach().abs().max()


COUPLED: dict[str, tuple[Callable[[], nn.Module], Function, Callable[[], Tensor]]] = {
    "recurrent, time first": (lambda: nn.LSTM(4, 3), lambda n, x: n.layer(x)[0][:, -1], sequences),
    "recurrent, words": (
        lambda: nn.LSTM(4, 3),
        lambda n, t: n.layer(F.one_hot(t, 6)[..., :4].double())[0][:, -1],
        words,
    ),
    "causal attention": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0),
        causal,
        sequences,
    ),
    "scale of the batch, detached": (lambda: nn.Linear(4, 3), scaled, lambda: numbers(6, 4)),
    "one sample and others": (lambda: nn.Linear(4, 3), scaled, lambda: numbers(1, 4)),
    "size of the batch": (
        lambda: nn.Linear(4, 3),
        lambda n, x: n.layer(x) / len(x),
        lambda: numbers(6, 4),
    ),
    "place in the batch": (
        lambda: nn.Linear(4, 3),
        lambda n, x: n.layer(x) + torch.arange(len(x))[:, None],
        lambda: numbers(6, 4),
    ),
}


@pytest.mark.parametrize("name", COUPLED)
def test_samples_that_influence_each_other_are_refused(name: str):
    layer, function, samples = COUPLED[name]
    model, x = Call(function, layer=layer()).double(), samples()
    others = numbers(3, 4) if len(x) == 1 else None
    for call in (empirical_ntk, empirical_nngp):
        with pytest.raises(ValueError, match="depends on other samples of the batch"):
            call(model, x, others)


def test_sequences_with_samples_first_pass():
    model = Call(lambda n, x: n.layer(x)[0][:, -1], layer=nn.LSTM(4, 3, batch_first=True)).double()
    x = sequences()
    assert_close(empirical_ntk(model, x, chunk_size=2), empirical_ntk(model, x, method="loop"))


def test_outputs_that_cancel_pass():
    """What is left is rounding, and differs from batch to batch."""
    (model, one, two), x = cancelling(), torch.randn(4, 4)
    expected = empirical_ntk(one, x) + empirical_ntk(two, x)
    assert_close(empirical_ntk(model, x), expected, rtol=1e-5, atol=1e-3)


CHANGING: dict[str, tuple[Callable[[], nn.Module], Function, Callable[[], Tensor]]] = {
    "attention": (
        lambda: nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True),
        lambda n, x: n.layer(x, x, x)[0].mean(1),
        sequences,
    ),
    "recurrent": (
        lambda: nn.LSTM(4, 3, num_layers=2, dropout=0.5, batch_first=True),
        lambda n, x: n.layer(x)[0][:, -1],
        sequences,
    ),
    "random slopes": (nn.RReLU, lambda n, x: n.layer(x), lambda: numbers(3, 4)),
    "rare dropout": (
        lambda: nn.Linear(4, 3).eval(),
        lambda n, x: F.dropout(n.layer(x), 1e-9),
        lambda: numbers(3, 4),
    ),
    "power iteration": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        lambda n, x: n.layer(x),
        lambda: numbers(3, 4),
    ),
}


@pytest.mark.parametrize("name", CHANGING)
def test_outputs_that_change_from_call_to_call_are_refused(name: str):
    layer, function, samples = CHANGING[name]
    model, x = (
        Call(lambda n, x: n.head(function(n, x)), layer=layer(), head=nn.LazyLinear(2)),
        samples(),
    )
    model.double()(x)
    for call in (empirical_ntk, empirical_nngp):
        with pytest.raises(ValueError, match="output differs from call to call"):
            call(model, x)
    if name != "rare dropout":
        assert len(empirical_ntk(model.eval(), x)) == len(x)


class SetsUp(nn.Module):
    """Centres its inputs by the batch that it sees first, as ActNorm does."""

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.register_buffer("done", torch.tensor(False))
        self.centre = torch.zeros(4)
        self.centre = nn.Parameter(self.centre) if learned else self.centre
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not self.done:
            self.centre.data.copy_(x.detach().mean(0))
            self.done.fill_(True)  # type: ignore[operator]
        return self.layer(torch.tanh(x - self.centre))


@pytest.mark.parametrize("learned", [True, False])
def test_networks_that_set_themselves_up_are_refused_before_their_first_call(learned: bool):
    model, x = SetsUp(learned=learned), torch.randn(6, 4)
    for call in (empirical_ntk, empirical_nngp, extreme_eigenvalues):
        with pytest.raises(ValueError, match=r"sets something up at its first call .* call the"):
            call(model, x)
    assert not model.done and not model.centre.any()
    model(x)
    hidden = torch.cat([torch.tanh(x - x.mean(0)), torch.ones(6, 1)], 1)
    expected = 3 * hidden @ hidden.T  # of the last layer
    found = empirical_ntk(model, x, params=lambda name, _: "layer" in name)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [None, "frozen", "batch"])
def test_a_random_network_that_is_refused_leaves_the_generator_alone(batch_norm: str | None):
    model, before = Call(lambda n, x: F.dropout(n.layer(x)), layer=nn.Linear(4, 3)), None
    for x in (torch.randn(3, 4), torch.randn(3, 4).double()):  # of another type than the weights
        before = torch.get_rng_state()
        with pytest.raises(ValueError, match=r"differs from call to call|cannot take samples"):
            empirical_ntk(model, x, batch_norm=batch_norm)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("batch_norm", ["frozen", "batch"])
def test_dropout_that_no_mode_ends_is_refused(batch_norm: str):
    model = Call(lambda n, x: F.dropout(n.layer(x)), layer=nn.Linear(4, 3)).double()
    with pytest.raises(ValueError, match="output differs from call to call"):
        empirical_ntk(model, numbers(3, 4), batch_norm=batch_norm)


@pytest.mark.parametrize(
    ("function", "x", "message"),
    [
        (
            lambda n, x: checkpoint(n.layer, x, use_reentrant=True),
            torch.ones(3, 4),
            "the model has no gradient: When use_reentrant=True",
        ),
        (
            lambda n, x: n.layer(x),
            torch.ones(3, 7),
            r"fails for samples of shape \(2, 7\) in torch.float32: (addmm: )?mat1 and mat2",
        ),
        (
            lambda n, t: n.words(t).sum(1),
            torch.tensor([[1, 2], [3, 9], [1, 1]]),
            "fails for samples of shape .* in torch.int64: index out of range",
        ),
        (
            lambda n, x: torch.fft.rfft(n.layer(x)),
            torch.ones(3, 4),
            "outputs must be real floating-point numbers, got torch.complex64",
        ),
    ],
)
def test_what_the_model_cannot_do_is_one_line(function: Function, x: Tensor, message: str):
    model = Call(function, layer=nn.Linear(4, 3), words=nn.Embedding(6, 4))
    for call in (
        empirical_ntk,
        extreme_eigenvalues,
        lambda m, x: projected_ntk(m, x, projections=2),
    ):
        with pytest.raises(ValueError, match=message):
            call(model, x)


def test_the_pair_differs_if_any_samples_do():
    x = torch.tensor([[1.0], [2.0], [1.0]])
    assert_close(trials._two(x, None), torch.tensor([[1.0], [2.0]]))
    assert_close(trials._two(x[:1], x + 2), torch.tensor([[1.0], [3.0]]))
    assert_close(trials._two(x[:1], None), torch.tensor([[1.0], [1.0]]))


def test_numpys_generator_is_watched_and_put_back():
    """A layer is left out once in a million calls."""
    model = Call(lambda n, x: n.layer(x) * (np.random.random() > 1e-6), layer=nn.Linear(4, 3))
    before = np.random.get_state(legacy=False)
    with pytest.raises(ValueError, match="output differs from call to call, by random numbers"):
        empirical_ntk(model, torch.randn(3, 4))
    assert repr(np.random.get_state(legacy=False)) == repr(before)


def test_pythons_generator_is_watched_and_put_back():
    """In a process without the checks of shapes, which draw from it, too."""
    script = """
import random, torch
from darts_gdas.ntk import empirical_ntk
class Rare(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * (random.random() > 1e-6)
before = random.getstate()
print(len(empirical_ntk(torch.nn.Linear(4, 3), torch.ones(3, 4))))
try:
    empirical_ntk(Rare(4, 3), torch.ones(3, 4))
except ValueError as error:
    print(error, random.getstate() == before)
"""
    call = [sys.executable, "-c", script]
    said = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("3\nthe model's output differs from call to call")
    assert said.endswith("True\n")


@pytest.mark.parametrize("method", ["auto", "jacobian", "loop"])
def test_weights_may_be_clipped_in_place_before_each_call(method: str):
    """A second call writes into the weights that the gradients of the first one need."""

    def function(net: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            net.one.weight.clamp_(-0.3, 0.3)
        return net.two(torch.tanh(net.one(x)))

    model = Call(function, one=nn.Linear(4, 5), two=nn.Linear(5, 3)).double()
    x = numbers(5, 4)
    model(x)
    same = nn.Sequential(model.one, nn.Tanh(), model.two)
    expected = empirical_ntk(same, x, method="loop")
    assert_close(empirical_ntk(model, x, method=method), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(4, 1, 5), r"^the model fails for samples of shape \(4, 1, 5\) .* channels"),
        (torch.full((4, 2), 9), r"^the model fails for samples of shape \(4, 2\) .* index out of"),
    ],
)
def test_what_frozen_norms_cannot_run_on_is_one_line(x: Tensor, message: str):
    norm = nn.BatchNorm1d(4)
    layer = nn.Embedding(6, 4) if x.dtype == torch.int64 else nn.Conv1d(3, 4, 3)
    model = Call(lambda n, x: n.norm(n.layer(x).reshape(-1, 4)), layer=layer, norm=norm)
    with pytest.raises(ValueError, match=message):
        empirical_ntk(model, x, batch_norm="frozen")
