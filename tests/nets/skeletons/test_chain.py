"""Chains of blocks: places by hand, the supernet against derived networks, costs, and files."""

import random

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import (
    CHAIN,
    CellMixture,
    DerivedNet,
    Layout,
    Mixture,
    Quantity,
    Stem,
    SuperNet,
    build_cost_table,
    count_multiply_adds,
    count_parameters,
)
from darts_gdas.nets.layout import CellPlan
from darts_gdas.nets.mbconv import MBConv
from darts_gdas.nets.profile import profile
from darts_gdas.nets.stored import layout_from_dict, layout_to_dict
from darts_gdas.space import CHAIN_CANDIDATES, CellGenotype, Genotype, SearchSpace

LAYOUT = Layout(4, 4, 3, in_channels=2, skeleton=CHAIN, reductions=(1,), widths=(1, 2, 2, 3))
KEEPS = [True, False, True, False]
BLOCKS = [CHAIN_CANDIDATES if keeps else CHAIN_CANDIDATES[1:] for keeps in KEEPS]
SPACE = SearchSpace.chain(BLOCKS, reductions=(1,), widths=(1, 2, 2, 3))
EXACT = {"rtol": 1e-9, "atol": 1e-11}
CPU = torch.device("cpu")


def images(batch: int = 4) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randn(batch, 2, 8, 6, dtype=torch.float64, generator=source)


def one_hot(genotype: Genotype, *, sparse: bool) -> Mixture:
    cells = {}
    for kind, cell in SPACE.cells.items():
        chosen = cell.candidates[0].index(genotype.cells[kind].nodes[0][0].op)
        ops = torch.zeros(1, cell.num_candidates).double()
        ops[0, chosen] = 1.0
        cells[kind] = CellMixture(ops, active=(chosen,) if sparse else None)
    return Mixture(cells)


def test_four_blocks_by_hand():
    assert LAYOUT.stem_channels == 4
    assert LAYOUT.plan({}) == (
        CellPlan("block0", 4, (4,)),
        CellPlan("block1", 8, (4,), stride=2),
        CellPlan("block2", 8, (8,)),
        CellPlan("block3", 12, (8,)),
    )
    assert layout_from_dict(layout_to_dict(LAYOUT)) == LAYOUT


def test_parameters_are_those_counted_by_hand():
    ops = ("skip_connect", "mbconv3_3x3", "mbconv6_5x5", "mbconv3_7x7")
    cells = {f"block{i}": CellGenotype(((edge(op),),), (1,), 1) for i, op in enumerate(ops)}
    net = DerivedNet(Genotype(cells), LAYOUT)
    stem = 2 * 4 * 9 + 2 * 4
    second = (4 * 12 + 9 * 12 + 12 * 8) + 2 * (12 + 12 + 8)
    third = (8 * 48 + 25 * 48 + 48 * 8) + 2 * (48 + 48 + 8)
    fourth = (8 * 24 + 49 * 24 + 24 * 12) + 2 * (24 + 24 + 12)
    head = (12 * 48 + 2 * 48) + (48 * 3 + 3)
    assert net.num_features == 48
    assert count_parameters(net) == stem + second + third + fourth + head


def edge(op: str):
    return (
        Genotype.from_json(
            f'{{"cells": {{"a": {{"inputs": 1, "nodes": [[["{op}", 0]]], "output": [1]}}}}}}'
        )
        .cells["a"]
        .nodes[0][0]
    )


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_supernet_under_a_one_hot_mixture_is_the_derived_network(seed: int, sparse: bool):
    """Weights of the chosen candidates in the derived network, whose norms begin as identities."""
    genotype = SPACE.sample(random.Random(seed))
    supernet, net = SuperNet(SPACE, LAYOUT).double(), DerivedNet(genotype, LAYOUT).double()
    weights = {}
    for name, value in supernet.state_dict().items():
        for i, (kind, cell) in enumerate(genotype.cells.items()):
            begin = f"cells.{i}.edges.0.candidates.{cell.nodes[0][0].op}."
            assert kind == f"block{i}"
            name = name.replace(begin, f"cells.{i}.nodes.0.0.")
        if name in net.state_dict():
            weights[name] = value
    affine = {name for name in net.state_dict() if "norm." in name and name not in weights}
    assert set(net.state_dict()) - set(weights) == affine
    net.load_state_dict(weights, strict=False)
    with torch.no_grad():
        expected, got = net(images()), supernet(images(), one_hot(genotype, sparse=sparse))
    assert_close(got, expected, **EXACT)


def test_costs_of_the_table_and_of_parts_are_those_of_the_network():
    genotype = SPACE.sample(random.Random(1))
    net = DerivedNet(genotype, LAYOUT)
    counts = {
        Quantity.parameters: count_parameters(net),
        Quantity.multiply_adds: count_multiply_adds(net, (2, 8, 6)),
    }
    for quantity, expected in counts.items():
        table = build_cost_table(SPACE, LAYOUT, (8, 6), quantity, CPU)
        assert table.of(genotype) == expected
        assert float(table.expected(one_hot(genotype, sparse=False))) == expected
    costs = profile(net, (8, 6), CPU, batches=(1,))
    parts = [costs.stem, *costs.cells, costs.head]
    assert sum(part.parameters for part in parts) == counts[Quantity.parameters]
    assert sum(part.multiply_adds for part in parts) == counts[Quantity.multiply_adds]
    for i, cell in enumerate(costs.cells):
        assert costs.edges[f"block{i}", 0, 0].parameters == cell.parameters
        assert costs.edges[f"block{i}", 0, 0].multiply_adds == cell.multiply_adds


def test_drop_path_leaves_a_way_through_every_block():
    """A sample loses what stands beside an identity, never the only way on."""
    cells = {f"block{i}": CellGenotype(((edge("mbconv3_3x3"),),), (1,), 1) for i in range(4)}
    net = DerivedNet(Genotype(cells), LAYOUT).double().train()
    assert [cell.num_paths for cell in net.cells] == [1, 0, 1, 0]  # type: ignore[union-attr]
    block = net.cells[2]
    x, factor = images().new_ones(4, 8, 4, 3), torch.zeros(1, 4, 1, 1, 1).double()
    assert_close(block((x,), factor), x)
    assert isinstance(block.nodes[0][0], MBConv)  # type: ignore[union-attr,index]
    net.drop_path_probability = 0.9
    assert net(images()).isfinite().all()


def test_norms_of_candidates_learn_no_scale():
    supernet = SuperNet(SPACE, LAYOUT)
    norms = [part for part in supernet.cells.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 4 * 6 * 3
    assert not any(norm.affine for norm in norms)


def test_a_built_chain_has_as_many_layers_as_blocks():
    genotype = SPACE.sample(random.Random(0))
    layout = SuperNet.build(SPACE, channels=2, layers=8).layout
    assert (layout.layers, layout.reductions, layout.widths) == (4, (1,), (1, 2, 2, 3))
    net = DerivedNet.build(genotype, channels=2, layers=20, num_classes=10, auxiliary=False)
    assert net.layout == layout
    with pytest.raises(ValueError, match=r"net\.reductions must be left out, got \[2\]"):
        Layout.of(genotype, 2, 4, 10, reductions=(2,))


def test_what_cannot_be_built_is_an_error():
    genotype = SPACE.sample(random.Random(0))
    with pytest.raises(ValueError, match=r"net\.layers must be 4 here, got 5: the genotype has"):
        DerivedNet(genotype, Layout(4, 5, 3, skeleton=CHAIN))
    with pytest.raises(ValueError, match=r"net\.layers must be 4 here, got 3: the space has"):
        SuperNet(SPACE, Layout(4, 3, 3, skeleton=CHAIN))
    with pytest.raises(ValueError, match=r"has its own stem: leave net\.stem out"):
        Layout(4, 4, 3, skeleton=CHAIN, stem=Stem.imagenet)
    with pytest.raises(ValueError, match="partial_channels must be 1 here: block1 changes"):
        SuperNet(SPACE, LAYOUT, partial_channels=2)
    skips = SearchSpace.chain([["skip_connect"]] * 4, (1,), (1, 2, 2, 3))
    with pytest.raises(ValueError, match="keeps the number of channels stands where 4 become 8"):
        SuperNet(skips, LAYOUT)
