"""Cells computed twice: less is kept, and values, gradients and statistics are the same."""

import torch

from benchmarks.measure import saved_bytes
from darts_gdas.nets import CellMixture, Mixture, SuperNet
from darts_gdas.nets.recompute import recomputed
from darts_gdas.space import SearchSpace

SPACE = SearchSpace.darts(num_nodes=2)


def built(checkpoint_cells: bool) -> tuple[SuperNet, Mixture, torch.Tensor]:
    torch.manual_seed(0)
    net = SuperNet.build(SPACE, channels=4, layers=3)
    net.checkpoint_cells = checkpoint_cells
    cells = {
        kind: CellMixture(torch.rand(len(cell.edges), cell.num_candidates))
        for kind, cell in SPACE.cells.items()
    }
    return net, Mixture(cells), torch.randn(4, 3, 16, 16)


def test_it_keeps_less_for_the_same_gradients_and_statistics():
    found = {}
    for checkpoint_cells in (False, True):
        net, mixture, images = built(checkpoint_cells)
        kept = saved_bytes(lambda: net(images, mixture), net.parameters())  # noqa: B023
        net, mixture, images = built(checkpoint_cells)
        net(images, mixture).square().sum().backward()
        found[checkpoint_cells] = kept, [*net.buffers(), *(p.grad for p in net.parameters())]
    assert found[True][0] < 0.3 * found[False][0]
    for a, b in zip(found[True][1], found[False][1], strict=True):
        assert torch.equal(a, b)


def test_a_cell_by_itself_gives_its_own_output():
    net, mixture, images = built(False)
    seen = []

    def run(cell, states, weights, rectify):
        seen.append(((cell, states, weights, rectify), cell(states, weights, rectify=rectify)))
        return seen[-1][1]

    net.run_cell = run
    net(images, mixture)
    for call, output in seen:
        assert torch.equal(recomputed(*call), output)
