"""Networks that use their weights in every way there is, against gradients of single samples.

The oracle is autograd alone: a backward pass per sample and output, the sample by itself.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

from darts_gdas.ntk import collect_ntk, empirical_ntk, ntk_on_disc, ntk_vector_product
from darts_gdas.ntk.calls import Unsupported
from tests.oracles import jacobian_rows, kernel_of_kind, tangent_kernel

WORDS, WIDTH = 6, 4


class Computes(nn.Module):
    """Modules, and what is computed of them: any function of the modules and a batch."""

    def __init__(
        self, function: Callable[["Computes", Tensor], Tensor], **parts: nn.Module
    ) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def attention(batch_first: bool = True, **options) -> nn.Module:
    """The library's attention, causal or not."""
    mask = options.pop("mask", None)
    inner = nn.MultiheadAttention(WIDTH, 2, batch_first=batch_first, dropout=0.3, **options)

    def function(m: Any, x: Tensor) -> Tensor:
        x = x if batch_first else x.transpose(0, 1)
        y = m.inner(x, x, x, attn_mask=mask, need_weights=mask is None)[0]
        return y if batch_first else y.transpose(0, 1)

    return Computes(function, inner=inner)


def padded_attention() -> nn.Module:
    """Words of number 0 are padding, which no other word sees."""

    def function(m: Any, tokens: Tensor) -> Tensor:
        x = m.words(tokens)
        hidden = tokens == 0
        return m.inner(x, x, x, key_padding_mask=hidden, need_weights=False)[0].mean(1)

    words = nn.Embedding(WORDS, WIDTH, padding_idx=0)
    return Computes(function, words=words, inner=nn.MultiheadAttention(WIDTH, 2, batch_first=True))


def encoder(batch_first: bool = True, **options) -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 5, batch_first=batch_first, **options)
    inner = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

    def function(m: Any, x: Tensor) -> Tensor:
        return m.inner(x).sum(1) if batch_first else m.inner(x.transpose(0, 1)).sum(0)

    return Computes(function, inner=inner)


def decoder() -> nn.Module:
    def function(m: Any, x: Tensor) -> Tensor:
        return m.inner(x, x.flip(1), tgt_is_causal=True, tgt_mask=causal()).sum(1)

    layer = nn.TransformerDecoderLayer(WIDTH, 2, 5, batch_first=True)
    return Computes(function, inner=layer)


def causal() -> Tensor:
    return torch.ones(3, 3).tril().log().double()


def tied_words() -> nn.Module:
    words, head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
    head.weight = words.weight
    return Computes(lambda m, x: m.head(torch.tanh(m.words(x))), words=words, head=head)


def read_twice() -> nn.Module:
    words = nn.Embedding(WORDS, WIDTH)
    return Computes(lambda m, x: torch.tanh(m.words(x)) @ m.words.weight.T, words=words)


def called_twice() -> nn.Module:
    inner, norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
    return Computes(
        lambda m, x: m.norm(m.inner(torch.tanh(m.norm(m.inner(x))))), inner=inner, norm=norm
    )


def convolution_twice() -> nn.Module:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    return Computes(lambda m, x: m.conv(torch.tanh(m.conv(x))), conv=conv)


def siamese() -> nn.Module:
    """One part for both halves of a sample, laid behind each other in the batch."""
    inner = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))

    def function(m: Any, x: Tensor) -> Tensor:
        first, second = m.inner(torch.cat(x.chunk(2, 1))).chunk(2)
        return first * second

    return Computes(function, inner=inner)


def shared_module() -> nn.Module:
    inner = nn.Linear(4, 4)
    return nn.Sequential(inner, nn.Tanh(), nn.Sequential(inner, nn.Tanh()), nn.Linear(4, 2))


class Buffers(nn.Module):
    """Reads a buffer, and counts in another."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([2.0, -1.0, 0.5, 3.0]))
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(torch.tanh(x * self.scale))


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


def parametrised() -> nn.Module:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 2))


def old_weight_norm() -> nn.Module:
    """Sets the weight, no parameter any more, in a hook before each call."""
    layer = nn.Linear(4, 3)
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(layer)
    return nn.Sequential(layer, nn.Tanh())


def recurrent() -> nn.Module:
    return Computes(lambda m, x: m.inner(x)[0][:, -1], inner=nn.LSTM(WIDTH, 3, batch_first=True))


def image(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))


TOKENS, VECTORS, IMAGES, FLAT = "tokens", (3, WIDTH), (2, 4, 5), (4,)
ZOO: dict[str, tuple[Callable[[], nn.Module], str | tuple[int, ...]]] = {
    "attention": (attention, VECTORS),
    "attention, samples second": (lambda: attention(False), VECTORS),
    "attention, causal": (lambda: attention(mask=causal()), VECTORS),
    "attention, hidden": (lambda: attention(mask=torch.ones(3, 3).triu(1).bool()), VECTORS),
    "attention, more": (lambda: attention(add_bias_kv=True, add_zero_attn=True), VECTORS),
    "attention, no bias": (lambda: attention(False, bias=False), VECTORS),
    "attention, padded": (padded_attention, TOKENS),
    "encoder": (encoder, VECTORS),
    "encoder, samples second": (lambda: encoder(False), VECTORS),
    "encoder, norm first": (lambda: encoder(norm_first=True, activation="gelu"), VECTORS),
    "decoder": (decoder, VECTORS),
    "tied words": (tied_words, TOKENS),
    "words read twice": (read_twice, TOKENS),
    "padding": (
        lambda: nn.Sequential(nn.Embedding(WORDS, 3, padding_idx=2), nn.Tanh(), nn.Linear(3, 2)),
        TOKENS,
    ),
    "words from behind": (lambda: nn.Sequential(nn.Embedding(WORDS, 3, padding_idx=-1)), TOKENS),
    "bag of words": (lambda: nn.Sequential(nn.EmbeddingBag(WORDS, 3, mode="mean")), TOKENS),
    "norm without weights": (
        lambda: nn.Sequential(
            nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 2)
        ),
        VECTORS,
    ),
    "norm without bias": (lambda: nn.Sequential(nn.LayerNorm(4, bias=False), nn.Tanh()), VECTORS),
    "group norm": (
        image(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.GroupNorm(4, 4, affine=False)),
        IMAGES,
    ),
    "instance norm": (image(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True)), IMAGES),
    "transposed": (image(nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1)), IMAGES),
    "transposed, grouped": (image(nn.ConvTranspose2d(2, 4, 2, groups=2, bias=False)), IMAGES),
    "reflected": (image(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")), IMAGES),
    "called twice": (called_twice, VECTORS),
    "convolution twice": (convolution_twice, IMAGES),
    "siamese": (siamese, FLAT),
    "one module in two places": (shared_module, FLAT),
    "buffers": (Buffers, FLAT),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3)), nn.Tanh()),
        FLAT,
    ),
    "old weight norm": (old_weight_norm, FLAT),
    "orthogonal": (
        lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 3)), nn.Tanh()),
        FLAT,
    ),
    "parametrised": (parametrised, FLAT),
    "bilinear": (lambda: Computes(lambda m, x: m.f(x, x.flip(1)), f=nn.Bilinear(4, 4, 2)), FLAT),
    "recurrent": (recurrent, VECTORS),
    "channels last": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten()).to(
            memory_format=torch.channels_last  # type: ignore[call-overload]
        ),
        IMAGES,
    ),
    "shuffled": (
        image(nn.Conv2d(2, 8, 3, padding=1, groups=2), nn.PixelShuffle(2), nn.Conv2d(2, 2, (2, 3))),
        IMAGES,
    ),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """A network in evaluation, in float64, its weights moved from zeros and ones; three samples."""
    build, shape = ZOO[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().double().eval()
        x = (
            torch.randint(1, WORDS, (3, 3))
            if isinstance(shape, str)
            else torch.randn(3, *shape).double()
        )
        if isinstance(shape, str):
            x[1, 2] = x[2, 1] = 0
        model(x)  # lazy layers
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return model, x


@pytest.mark.parametrize("name", ZOO)
def test_every_kind_and_way_is_the_kernel_of_autograd(name: str, tmp_path: Path):
    model, x = made(name)
    parameters = list(model.parameters())
    rows = jacobian_rows(_Flat(model), x, parameters)
    expected = tangent_kernel(rows, rows)
    for kind in ("full", "sum", "diagonal", "trace"):
        found = empirical_ntk(model, x, kind=kind, chunk_size=2)
        assert_close(found, kernel_of_kind(expected, kind), rtol=1e-9, atol=1e-9)
    for method in ("jacobian", "structured"):
        with contextlib.suppress(Unsupported):
            found = empirical_ntk(model, x[:2], x, kind="full", method=method)
            assert_close(found, expected[:2], rtol=1e-9, atol=1e-9)
    if name == "bag of words":  # PyTorch has no forward-mode derivative of it
        with pytest.raises(ValueError, match="products with the kernel cannot take this network"):
            empirical_ntk(model, x, method="vector_product")
    else:
        v = torch.arange(1.0, 1 + len(x) * expected.shape[2]).double().cos().view(len(x), -1)
        product = torch.einsum("nmab,mb->na", expected, v)
        assert_close(ntk_vector_product(model, x, v), product, rtol=1e-9, atol=1e-9)
    ntk_on_disc(tmp_path, model, x, block_size=2, kind="full")
    assert_close(torch.tensor(collect_ntk(tmp_path)), expected, rtol=1e-9, atol=1e-9)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))


class _Flat(nn.Module):
    """Outputs of any shape, side by side."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).flatten(1)
