"""Tokens, norms of samples, attention, and outputs of any shape, against torch.func."""

import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.testing import assert_close

from darts_gdas.ntk import empirical_ntk, linearize, ntk_vector_product
from tests.oracles import kernel_of_kind

pytestmark = pytest.mark.usefixtures("seeded")

WORDS, WIDTH, LENGTH = 7, 4, 5


class Attention(nn.Module):
    """Causal attention of two heads, written with linear layers and the library's product."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = [y.unflatten(2, (2, -1)).transpose(1, 2) for y in self.all(x).chunk(3, 2)]
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class Library(nn.Module):
    """The library's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Language(nn.Module):
    """A score for each word at each place; padding is word 0."""

    def __init__(self, attention: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH, padding_idx=0)
        self.first, self.attention = nn.LayerNorm(WIDTH), attention()
        self.second, self.inner = nn.RMSNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        x = x + self.attention(self.first(x))
        return self.head(x + F.gelu(self.inner(self.second(x))))


class Scalar(nn.Module):
    """One number per sample, without an axis for it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)).squeeze(1)


def dense() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    )


NETWORKS = {
    "language": (lambda: Language(Attention), None, "structured"),
    "library's attention": (lambda: Language(Library), None, "jacobian"),
    "encoder": (
        lambda: nn.TransformerEncoderLayer(WIDTH, 2, 6, batch_first=True),
        (3, WIDTH),
        "jacobian",
    ),
    "image of classes": (dense, (3, 3, 4), "structured"),
    "norm over two axes": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.LayerNorm((2, 3)), nn.Linear(3, 1)),
        (2, 4),
        "structured",
    ),
    "one number": (Scalar, (3,), "structured"),
}


def made(name: str, samples: int = 3) -> tuple[nn.Module, Tensor]:
    build, shape, _ = NETWORKS[name]
    model = build().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    if shape is None:
        return model, torch.randint(0, WORDS, (samples, LENGTH))
    return model, torch.randn(samples, *shape).double()


def _outputs(model: nn.Module, sample: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return functional_call(model, weights, (sample,)).flatten()


def by_torch_func(model: nn.Module, x: Tensor) -> Tensor:
    """The full kernel, sample by sample, from whole Jacobians."""
    weights = {name: p.detach() for name, p in model.named_parameters()}
    rows = []
    for sample in x.split(1):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="There is a performance drop")
            found = jacrev(partial(_outputs, model, sample))(weights)
        rows.append(torch.cat([part.flatten(1) for part in found.values()], 1))
    jacobian = torch.stack(rows)
    return torch.einsum("nap,mbp->nmab", jacobian, jacobian)


@pytest.mark.parametrize("method", ["auto", "loop", "jacobian", "vector_product", "structured"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_way_is_the_kernel_of_torch_func(name: str, method: str):
    model, x = made(name)
    if method == "structured" and NETWORKS[name][2] != "structured":
        with pytest.raises(ValueError, match="cannot take this network"):
            empirical_ntk(model, x, method=method)
        return
    expected = by_torch_func(model, x)
    for kind in ("full", "sum"):
        found = empirical_ntk(model, x, kind=kind, method=method, chunk_size=2)
        assert_close(found, kernel_of_kind(expected, kind), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_products_and_linearisations_take_them_too(name: str):
    model, x = made(name)
    expected, output = by_torch_func(model, x), model(x).detach()
    v = torch.randn(len(x), expected.shape[2]).double()
    product = torch.einsum("nmab,mb->na", expected, v)
    assert_close(ntk_vector_product(model, x, v), product, rtol=1e-9, atol=1e-9)
    assert_close(linearize(model)(dict(model.named_parameters()), x).detach(), output)


def test_a_word_that_no_other_sample_has_moves_no_other():
    """An embedding alone: the kernel counts equal words, padding apart."""
    model = nn.Sequential(nn.Embedding(9, 2, padding_idx=0)).double()
    tokens = torch.tensor([[1, 2, 0], [2, 2, 0], [5, 6, 7]])
    found = empirical_ntk(model, tokens, kind="trace", method="structured")
    assert_close(found, 2 * torch.tensor([[2, 1, 0], [1, 2, 0], [0, 0, 3]]).double())


class Centred(nn.Module):
    """Words less the mean of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        return x - x.mean(0)


def test_tokens_that_move_each_other_are_refused():
    with pytest.raises(ValueError, match="depends on other samples of the batch"):
        empirical_ntk(Centred(), torch.tensor([[1, 2], [3, 4]]))


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}])
def test_embeddings_that_do_more_go_another_way(option: dict):
    model = nn.Sequential(nn.Embedding(5, 3, **option)).double()
    with pytest.raises(ValueError, match=r"'0\.weight' is used outside"):
        empirical_ntk(model, torch.tensor([[1, 2], [3, 3]]), method="structured")


@pytest.mark.parametrize("method", ["auto", "loop", "vector_product"])
def test_sparse_gradients_of_embeddings_count_as_dense_ones(method: str):
    models = [
        nn.Sequential(nn.Embedding(9, 3, sparse=sparse), nn.Flatten(), nn.Linear(12, 2)).double()
        for sparse in (True, False)
    ]
    models[1].load_state_dict(models[0].state_dict())
    tokens = torch.randint(9, (5, 4))
    sparse, dense = (empirical_ntk(m, tokens, kind="full", method=method) for m in models)
    assert_close(sparse, dense)
