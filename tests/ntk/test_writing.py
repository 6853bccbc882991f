"""Rows are those of autograd, in however many passes they come and in whatever form they stay."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.ntk import empirical_ntk, gram, layers, structured, writing
from tests.oracles import jacobian_rows, kernel_of_kind, tangent_kernel

pytestmark = pytest.mark.usefixtures("seeded")

PASSES = {"one": 1, "two": 2, "all": 5}
"""How many wait for each other, of five outputs."""


def convolutions() -> tuple[nn.Module, Tensor]:
    """Of every form, and images of 7x6 pixels down to one."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
        nn.BatchNorm2d(6).eval(),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, groups=3),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Conv2d(6, 5, 1),
        nn.ReLU(),
        nn.Conv2d(5, 7, (2, 3), bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7, 5),
    )
    return net.double(), torch.randn(6, 2, 7, 6, dtype=torch.float64)


def close(found: Tensor, expected: Tensor) -> None:
    assert_close(found, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["sum", "trace", "diagonal", "full"])
@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize(("chunk_size", "numbers"), [(4, 2**22), (32, 2**22), (32, 1)])
def test_products_of_factors_are_those_of_rows(
    kind: str, stays: bool, chunk_size: int, numbers: int, monkeypatch: pytest.MonkeyPatch
):
    """Of samples in parts, and with memory for the products of a single sample."""
    net, x = convolutions()
    rows = [jacobian_rows(net, part, [*net.parameters()]) for part in (x, x[:5])]
    monkeypatch.setattr(gram, "_MOST_NUMBERS", numbers)
    monkeypatch.setattr(structured, "_stays_factors", lambda use, _: stays and use.places > 0)
    for other, right in ((None, rows[0]), (x[:5], rows[1])):
        expected = kernel_of_kind(tangent_kernel(rows[0], right), kind)
        found = empirical_ntk(net, x, other, kind=kind, method="structured", chunk_size=chunk_size)
        close(found, expected)


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("patches", [True, False])
def test_rows_of_several_passes_together_are_those_of_each(
    passes: str, patches: bool, monkeypatch: pytest.MonkeyPatch
):
    net, x = convolutions()
    expected = tangent_kernel(*[jacobian_rows(net, x, [*net.parameters()])] * 2)
    taken = []
    prepare = layers.weight_rows

    def watched(layer, inputs, **options):
        found = prepare(layer, inputs, **options)

        def rows(gradient):
            if isinstance(layer, nn.Conv2d) and layer.groups == 4:
                taken.append(len(gradient) // len(x))
            return found(gradient)

        return rows

    gradients = 6 * 8 * (4 * 42 + patches * (4 * 42 + 6 * 4 * 5 + 7))
    monkeypatch.setattr(structured, "_FEW_PIXELS", 0)
    monkeypatch.setattr(structured, "_stays_factors", lambda *_: False)
    monkeypatch.setattr(writing, "_WAITING_BYTES", PASSES[passes] * gradients)
    monkeypatch.setattr(writing, "weight_rows", watched)
    monkeypatch.setattr(writing, "_PATCHES_BYTES", 2**26 if patches else 0)
    close(empirical_ntk(net, x, kind="full", method="structured", trusted=True), expected)
    assert taken == {"one": [1] * 5, "two": [2, 2, 1], "all": [5]}[passes]


def test_factors_stay_where_places_are_few():
    """The products of one pair: 9 x 64 features times 10 rows, against 4 or 64 places."""
    kept = {}
    for side in (2, 8):
        conv = nn.Conv2d(64, 8, 3, padding=1)
        net = nn.Sequential(
            conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )
        rows = structured.StructuredRows(
            net.eval(),
            dict(net.named_parameters()),
            torch.randn(4, 64, side, side),
            kind=structured.Kind.full,
        )
        kept[side] = rows.columns["0.weight"] == 0
        assert rows.held["0.weight"] == (8 * side**2 if kept[side] else conv.weight.numel())
    assert kept == {2: True, 8: False}


class Silent(torch.autograd.Function):
    """Sends nothing back where all is zero."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor | None:
        return gradient if gradient.any() else None


class Alternating(nn.Module):
    """Two convolutions that see every other output."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        parts = [Silent.apply(conv(x)).relu().mean((2, 3)) for conv in (self.first, self.second)]
        outputs = [*parts[0].unbind(1), *parts[1].unbind(1), parts[0].sum(1) + parts[1].sum(1)]
        return torch.stack([outputs[i] for i in self.order], dim=1)


@pytest.mark.parametrize("order", [(0, 2, 1, 3, 4), (4, 0, 1, 2, 3), (2, 4, 3, 0, 1)])
@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("waiting", [0, 2**27])
def test_a_pass_that_sends_nothing_back_is_a_row_of_zeros(
    order: tuple[int, ...], stays: bool, waiting: int, monkeypatch: pytest.MonkeyPatch
):
    net, x = Alternating(order).double(), torch.randn(3, 2, 8, 8, dtype=torch.float64)
    expected = tangent_kernel(*[jacobian_rows(net, x, [*net.parameters()])] * 2)
    monkeypatch.setattr(structured, "_FEW_PIXELS", 0)
    monkeypatch.setattr(structured, "_stays_factors", lambda *_: stays)
    monkeypatch.setattr(writing, "_WAITING_BYTES", waiting)
    close(empirical_ntk(net, x, kind="full", method="structured", trusted=True), expected)


@pytest.mark.parametrize("side", [4, 12])
def test_layers_may_be_followed_by_work_in_place(side: int):
    net = nn.Sequential(
        nn.Conv2d(3, 16, 1, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.ReLU(inplace=True),
        nn.AvgPool2d([2, 1]),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 2, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    ).double()
    x = torch.randn(4, 3, side, side, dtype=torch.float64)
    expected = tangent_kernel(*[jacobian_rows(net, x, [*net.parameters()])] * 2)
    close(empirical_ntk(net, x, kind="full", method="structured"), expected)
    close(empirical_ntk(net, x, kind="full", method="structured", trusted=True), expected)


def test_patches_of_all_layers_share_their_memory(monkeypatch: pytest.MonkeyPatch):
    net, x = convolutions()
    numbers = 6 * 8 * 9 * 2 * 42  # of the first layer's patches
    for room, expected in ((numbers - 1, False), (numbers, True)):
        monkeypatch.setattr(writing, "_PATCHES_BYTES", room)
        rows = structured.StructuredRows(
            net, dict(net.named_parameters()), x, kind=structured.Kind.full
        )
        uses = [use for use in rows._forward(x).uses if use.name == "0"]
        places = {"0.weight": slice(0, 72), "0.bias": slice(72, 76)}
        writer = writing.Writer(uses * 2, places, (), x.new_zeros(6, 5, 76), 1)
        assert writer._patched == ({0} if expected else set())
