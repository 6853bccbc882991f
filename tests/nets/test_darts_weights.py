"""Weights in the names of the DARTS authors' code, run as that code runs them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.nets import DerivedNet, Layout, Stem, count_parameters
from darts_gdas.nets.darts_weights import load_darts_weights
from darts_gdas.space import CellGenotype, Genotype
from tests.space.test_peer_strings import DARTS_V2, GDAS_V1

State = dict[str, Tensor]


class Theirs:
    """NetworkCIFAR of `cnn/model.py` in evaluation, as functions of a state dict.

    On its first pass it makes the weights that it asks for, so the state dict has their names and
    shapes, from the structure of their code alone.
    """

    def __init__(self, genotype: Genotype, channels: int, layers: int, classes: int) -> None:
        self.genotype, self.channels = genotype, channels
        self.layers, self.classes = layers, classes
        self.state: State = {}
        self.rng = torch.Generator().manual_seed(0)

    def made(self, name: str, *shape: int) -> Tensor:
        if name not in self.state:
            values = torch.rand(shape, generator=self.rng, dtype=torch.float64)
            self.state[name] = values + 0.5 if name.endswith("var") else values - 0.5
        return self.state[name]

    def conv(
        self, x: Tensor, name: str, out: int, kernel: int = 1, groups: int = 1, **how
    ) -> Tensor:
        weight = self.made(f"{name}.weight", out, x.shape[1] // groups, kernel, kernel)
        return F.conv2d(x, weight, groups=groups, **how)

    def norm(self, x: Tensor, name: str) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.made(f"{name}.{part}", x.shape[1]) for part in parts))

    def reduced(self, x: Tensor, name: str, out: int) -> Tensor:
        x = F.relu(x)
        first = self.conv(x, f"{name}.conv_1", out // 2, stride=2)
        second = self.conv(x[:, :, 1:, 1:], f"{name}.conv_2", out // 2, stride=2)
        return self.norm(torch.cat([first, second], 1), f"{name}.bn")

    def entered(self, x: Tensor, name: str, out: int) -> Tensor:
        return self.norm(self.conv(F.relu(x), f"{name}.op.1", out), f"{name}.op.2")

    def operation(self, op: str, x: Tensor, name: str, stride: int) -> Tensor:
        channels = x.shape[1]
        if op == "skip_connect":
            return x if stride == 1 else self.reduced(x, name, channels)
        if op == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if op == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        kernel, dilation = int(op[-1]), 2 if op.startswith("dil") else 1
        for first in (1,) if dilation == 2 else (1, 5):
            how = {"stride": stride, "padding": dilation * (kernel // 2), "dilation": dilation}
            x = self.conv(F.relu(x), f"{name}.op.{first}", channels, kernel, channels, **how)
            x = self.norm(
                self.conv(x, f"{name}.op.{first + 1}", channels), f"{name}.op.{first + 2}"
            )
            stride = 1
        return x

    def cell(
        self,
        cell: CellGenotype,
        s0: Tensor,
        s1: Tensor,
        name: str,
        c: int,
        halves: bool,
        after: bool,
    ) -> Tensor:
        enter = self.reduced if after else self.entered
        states = [enter(s0, f"{name}.preprocess0", c), self.entered(s1, f"{name}.preprocess1", c)]
        edges = [edge for node in cell.nodes for edge in node]
        for i in range(0, len(edges), 2):
            states.append(
                sum(
                    self.operation(
                        edges[k].op,
                        states[edges[k].source],
                        f"{name}._ops.{k}",
                        2 if halves and edges[k].source < 2 else 1,
                    )
                    for k in (i, i + 1)
                )
            )
        return torch.cat([states[i] for i in cell.output], 1)

    def __call__(self, x: Tensor) -> Tensor:
        s0 = s1 = self.norm(self.conv(x, "stem.0", 3 * self.channels, 3, padding=1), "stem.1")
        channels, after = self.channels, False
        for i in range(self.layers):
            halves = i in (self.layers // 3, 2 * self.layers // 3)
            channels *= 2 if halves else 1
            cell = self.genotype.cells["reduce" if halves else "normal"]
            made = self.cell(cell, s0, s1, f"cells.{i}", channels, halves, after)
            s0, s1, after = s1, made, halves
        pooled = s1.mean((2, 3))
        weight = self.made("classifier.weight", self.classes, pooled.shape[1])
        return F.linear(pooled, weight, self.made("classifier.bias", self.classes))


@pytest.mark.parametrize(("text", "size"), [(DARTS_V2, 3_349_342), (GDAS_V1, 3_368_782)])
def test_their_string_and_their_weights_are_their_network(text: str, size: int):
    genotype = Genotype.load(text)
    with torch.device("meta"):
        assert count_parameters(DerivedNet.build(genotype)) == size  # published
    theirs = Theirs(genotype, 4, 4, 5)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=theirs.rng)
    expected = theirs(images)
    net = DerivedNet(genotype, Layout(4, 4, 5)).double().eval()
    load_darts_weights(net, {f"module.{name}": weight for name, weight in theirs.state.items()})
    assert_close(net(images), expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert sum(w.numel() for n, w in theirs.state.items() if "running" not in n) == sum(
            parameter.numel() for parameter in net.parameters()
        )


GENOTYPE = Genotype.load("DARTS_V2")


@pytest.fixture
def state() -> State:
    theirs = Theirs(GENOTYPE, 4, 3, 5)
    theirs(torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    return theirs.state


def net(*, auxiliary: bool = False, stem: Stem = Stem.cifar) -> DerivedNet:
    return DerivedNet(GENOTYPE, Layout(4, 3, 5, stem=stem), auxiliary=auxiliary).double()


def test_the_auxiliary_head_is_taken_or_left(state: State):
    """Theirs begins with a ReLU and a pooling, which have a place in the sequence."""
    mine = net(auxiliary=True).auxiliary
    assert mine is not None
    for name, weight in mine.state_dict().items():
        _, _, rest = name.partition("features.")
        place = f"features.{int(rest[0]) + 2}{rest[1:]}" if rest else name
        state[f"auxiliary_head.{place}"] = weight
    taken = net(auxiliary=True)
    load_darts_weights(taken, state)
    assert taken.auxiliary is not None
    pairs = zip(taken.auxiliary.parameters(), mine.parameters(), strict=True)
    assert all(torch.equal(found, given) for found, given in pairs)
    load_darts_weights(net(), state)


def test_the_stem_of_imagenet_has_two_parts(state: State):
    one = net(stem=Stem.imagenet)
    state = {k: w for k, w in state.items() if k.split(".")[0] not in ("stem", "cells")}
    for name, weight in one.stem.state_dict().items():
        part, _, rest = name.partition(".")
        state[f"stem{('first', 'second').index(part)}.{rest}"] = weight
    with pytest.raises(ValueError, match=r"cells\.0\.preprocess0\.conv_1\.weight is missing"):
        load_darts_weights(one, state)


def test_weights_of_another_network_are_named(state: State):
    with pytest.raises(ValueError, match=r"stem\.0\.weight is \(12, 3, 3, 3\), \(24, 3, 3, 3\) is"):
        load_darts_weights(DerivedNet(GENOTYPE, Layout(8, 3, 5)), state)
    with pytest.raises(ValueError, match=r"another network: 1 have no place here.*is cells\.9\.x"):
        load_darts_weights(net(), {**state, "cells.9.x": torch.zeros(1)})
    with pytest.raises(ValueError, match="state must be a state dict, got NoneType"):
        getattr(load_darts_weights, "__wrapped__", load_darts_weights)(net(), None)
    with pytest.raises(ValueError, match="networks of DARTS cells only"):
        other = DerivedNet.build(Genotype.load("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"), layers=5)  # fmt: skip  # noqa: E501
        load_darts_weights(other, state)
