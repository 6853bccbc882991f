"""Cells computed twice: less is kept, and values, gradients and statistics are the same."""

import pytest
import torch
from torch.func import functional_call, jvp
from torch.testing import assert_close

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


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_weights_that_are_put_in_keep_their_tangents():
    found = []
    for checkpoint_cells in (False, True):
        net, mixture, images = built(checkpoint_cells)
        net.eval()
        weights = {name: weight.detach() for name, weight in net.named_parameters()}
        source = torch.Generator().manual_seed(1)
        tangents = {n: torch.randn(w.shape, generator=source) for n, w in weights.items()}

        def run(values, net=net, mixture=mixture, images=images):
            return functional_call(net, values, (images, mixture))

        found.append(jvp(run, (weights,), (tangents,)))
    assert_close(found[1], found[0])


def test_weights_that_learn_again_before_the_backward_pass_stay_out_of_it():
    net, mixture, images = built(True)
    for weight in net.parameters():
        weight.requires_grad_(False)
    leaf = images.requires_grad_()
    loss = net(leaf, mixture).square().sum()
    for weight in net.parameters():
        weight.requires_grad_(True)
    (found,) = torch.autograd.grad(loss, leaf)
    net, mixture, _ = built(False)
    (expected,) = torch.autograd.grad(net(leaf, mixture).square().sum(), leaf)
    assert_close(found, expected)
