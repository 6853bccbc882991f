"""A skeleton of a user's own, in one class: searched, costed, stored and written out like ours."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import (
    CellMixture,
    DerivedNet,
    Layout,
    Mixture,
    Quantity,
    Skeleton,
    SuperNet,
    build_cost_table,
    count_parameters,
    register_skeleton,
)
from darts_gdas.nets.code import Code, sequential
from darts_gdas.nets.layout import SKELETONS, skeleton_of
from darts_gdas.nets.stored import layout_from_dict, layout_to_dict
from darts_gdas.portable.source import source_of
from darts_gdas.space import CellSpace, SearchSpace
from tests.portable.test_source import expected, loaded, model_of, pixels

NAMES = ("skip_connect", "nor_conv_3x3", "mbconv3_3x3")
SPACE = SearchSpace({"plain": CellSpace((NAMES,), num_nodes=1, num_inputs=1, keep=None)})


class Halving(nn.Module):
    """A fixed block: the mean of 2x2 pixels."""

    def forward(self, inputs: Sequence[Tensor], _: object = None, *, rectify: bool) -> Tensor:
        return nn.functional.avg_pool2d(inputs[0], 2)


@dataclass(frozen=True, slots=True)
class Pooled(Skeleton):
    """Plain cells of equal width, with poolings between them, behind one convolution."""

    name: ClassVar[str] = "pooled"
    num_inputs: ClassVar[int] = 1
    fewest_layers: ClassVar[int] = 1
    paper: ClassVar[tuple[int, int]] = (8, 5)
    fixed: ClassVar = {"pool": lambda plan: Halving()}

    def takes(self, num_inputs: Mapping[str, int]) -> bool:
        return set(num_inputs) == {"plain"}

    def check(self, layout: Layout) -> None:
        if layout.widths != (1,) * layout.layers:
            raise ValueError("widths must be 1 everywhere")

    def kinds(self, layout: Layout) -> tuple[str, ...]:
        places = layout.reduction_positions
        return tuple("pool" if i in places else "plain" for i in range(layout.layers))

    def stem_channels(self, layout: Layout) -> int:
        return layout.channels

    def build_stem(self, layout: Layout) -> nn.Module:
        return nn.Conv2d(layout.in_channels, layout.channels, 1)

    def enter(self, stem: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        return (stem(images),)

    def build_tail(self, layout: Layout, channels: int) -> tuple[nn.Module, int]:
        return nn.ReLU(), channels

    def code(self, layout: Layout, channels: int) -> Code:
        stem = f"self.stem = nn.Conv2d({layout.in_channels}, {layout.channels}, 1)"
        run = ("x = self.stem(x)", "for cell in self.cells:", "    x = cell(x)")
        return Code((stem,), tuple(sequential("tail", ["nn.ReLU()"])), run, "self.tail(x)",
                    {"stem": "stem"}, {"plain": "PlainCell"})  # fmt: skip


@pytest.fixture
def pooled() -> Iterator[Skeleton]:
    register_skeleton(Pooled())
    yield SKELETONS["pooled"]
    del SKELETONS["pooled"]


def layout_of(pooled: Skeleton, reductions: tuple[int, ...] = (1,)) -> Layout:
    return Layout(4, 3, 5, skeleton=pooled, reductions=reductions, widths=(1, 1, 1))


def test_it_is_found_searched_costed_and_stored(pooled: Skeleton):
    layout, genotype = layout_of(pooled), SPACE.sample(random.Random(0))
    assert skeleton_of(genotype.num_inputs) is pooled
    assert layout_from_dict(layout_to_dict(layout)) == layout
    mixture = Mixture({"plain": CellMixture(torch.full((1, 3), 1 / 3).requires_grad_())})
    images = torch.randn(2, 3, 8, 8)
    SuperNet(SPACE, layout)(images, mixture).square().sum().backward()
    gradient = mixture["plain"].ops.grad
    assert gradient is not None and (gradient != 0).all()
    table = build_cost_table(SPACE, layout, (8, 8), Quantity.parameters, torch.device("cpu"))
    assert table.of(genotype) == count_parameters(DerivedNet(genotype, layout))


def test_it_is_written_out(pooled: Skeleton):
    for seed in range(3):
        model = model_of(SPACE.sample(random.Random(seed)), layout_of(pooled, ()))
        images = pixels(model)
        with torch.no_grad():
            assert_close(loaded(model)(images), expected(model, images))
        assert "class PlainCell(nn.Module)" in source_of(model, ["A network."])
