"""Weighted sums of normalised images, as autograd and a supernet see them."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from darts_gdas import native
from darts_gdas.native import Kernels, build
from darts_gdas.nets import NASBENCH201, Layout, SuperNet, weighted
from darts_gdas.nets.candidates import State
from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.fused import Group, leave
from darts_gdas.nets.nodes import total
from darts_gdas.nets.operations import OPERATIONS
from darts_gdas.nets.statistics import StatisticsUpdate
from darts_gdas.nets.weighted import _sums, weighted_sums
from darts_gdas.search import ArchParameters, GumbelHard, Relaxation, Softmax
from darts_gdas.space import SearchSpace

pytestmark = pytest.mark.skipif(
    build.library() is None, reason=f"needs kernels in C++: {native.described()}"
)
EXACT = {"rtol": 1e-9, "atol": 1e-9}
SPACE = SearchSpace.named("nasbench201")


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, dtype=torch.float64, generator=generator)
    return (channels_last(values) if len(shape) == 4 else values).requires_grad_()


def inputs(terms: int, edges: int, features: int, *shape: int) -> list[Tensor]:
    images = [draw(*shape, seed=1 + i) for i in range(terms * edges + features)]
    return [draw(terms + features, edges), *images]


def sums(scale: Tensor, *images: Tensor, terms: int = 2) -> list[Tensor]:
    cut = terms * scale.shape[1]
    return weighted_sums(scale, images[:cut], images[cut:], eps=0.1)[0]


def test_derivatives_of_first_and_second_order():
    tensors = inputs(2, 2, 1, 2, 4, 2, 2)
    assert gradcheck(lambda *t: tuple(sums(*t)), tensors)
    assert gradgradcheck(lambda *t: tuple(sums(*t)), tensors)


def test_derivatives_of_sums_with_weights_of_one():
    images = inputs(2, 1, 2, 2, 4, 2, 2)[1:]

    def of_ones(*images: Tensor) -> Tensor:
        return weighted_sums(None, images[:2], images[2:], eps=0.1)[0][0]

    assert_close(of_ones(*images), sums(torch.ones(4, 1).double(), *images)[0], **EXACT)
    assert gradcheck(of_ones, images) and gradgradcheck(of_ones, images)
    (feature,) = torch.autograd.grad(of_ones(*images).sum(), images[2])
    assert feature.eq(1).all()


def test_an_edge_that_nobody_used_reaches_only_its_own():
    tensors = inputs(2, 2, 1, 3, 4, 5, 5)
    for again in (False, True):
        value = sums(*tensors)[0].square().sum()
        found = torch.autograd.grad(value, tensors, allow_unused=True, create_graph=again)
        scale, a, b, c, d, feature = found
        assert scale is not None and a is not None and c is not None and feature is not None
        assert not scale[:, 1].any() and b is d is None
        assert scale[:, 0].all() and a.any() and c.any() and feature.any()


@pytest.mark.parametrize("learns", range(4))
def test_second_derivatives_where_an_edge_depends_on_nothing_that_learns(learns: int):
    scale, *images = (t.detach() for t in inputs(1, 2, 2, 3, 4, 5, 5))
    images[learns].requires_grad_()
    first, second = sums(scale, *images, terms=1)
    (g,) = torch.autograd.grad(
        first.sin().sum() + second.sum(), images[learns], create_graph=True, allow_unused=True
    )
    expected = images[learns].detach().requires_grad_()
    plain = [expected if i == learns else x for i, x in enumerate(images)]
    a, b = _sums(scale, plain[:2], plain[2:], 0.1)
    (wanted,) = torch.autograd.grad(a.sin().sum() + b.sum(), expected, create_graph=True)
    assert_close(g, wanted, **EXACT)
    if g.requires_grad:
        again = [
            torch.autograd.grad(d.square().sum(), x)[0]
            for d, x in ((g, images[learns]), (wanted, expected))
        ]
        assert_close(*again, **EXACT)


def test_gradients_without_the_kernels_are_the_same():
    """What a hook has put into their place may be nothing that they take."""
    tensors = inputs(2, 2, 1, 3, 4, 5, 5)
    upstream = [draw(3, 4, 5, 5, seed=20 + e).detach() for e in range(2)]
    expected = torch.autograd.grad(sums(*tensors), tensors, upstream)
    found = sums(*tensors)
    native.choose(Kernels.library)
    for actual, wanted in zip(torch.autograd.grad(found, tensors, upstream), expected, strict=True):
        assert_close(actual, wanted, **EXACT)


def passed(
    net: SuperNet, relaxation: Relaxation, kernels: Kernels, *, learns: bool
) -> dict[str, Tensor]:
    """Logits, gradients of weights and mixture, and the statistics after a pass."""
    native.choose(kernels)
    net = copy.deepcopy(net)
    arch = ArchParameters(SPACE, scale=1.0, generator=torch.Generator().manual_seed(1)).double()
    mixture = relaxation(arch, progress=0.5, rng=torch.Generator().manual_seed(2))
    mixture = mixture.require_grad() if learns else mixture.detach()
    logits = net(draw(4, 3, 8, 8, seed=3).detach(), mixture)
    logits.square().sum().backward()
    found = {"logits": logits.detach(), **dict(net.named_buffers())}
    found |= {str(i): leaf.grad for i, leaf in enumerate(mixture.leaves()) if leaf.grad is not None}
    return found | {n: w.grad for n, w in net.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("learns", [True, False], ids=["arch step", "weight step"])
@pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=["softmax", "gumbel"])
def test_a_supernet_and_its_statistics_are_those_of_the_library(
    relaxation: Relaxation, learns: bool, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    monkeypatch.setattr(
        weighted, "weighted_sums", lambda *a, **k: calls.append(a) or weighted_sums(*a, **k)
    )
    torch.manual_seed(0)
    net = SuperNet(SPACE, Layout(4, 8, 10, skeleton=NASBENCH201)).double()
    found = passed(net, relaxation, Kernels.native, learns=learns)
    assert calls  # else this is the library twice
    expected = passed(net, relaxation, Kernels.library, learns=learns)
    assert found.keys() == expected.keys() and len(found) > 100
    for name, value in expected.items():
        assert_close(found[name], value, **EXACT, msg=name)


def edges_of(names: tuple[str, ...], weights: Tensor) -> tuple[Group, list[nn.ModuleDict], State]:
    """Two edges with these candidates, and a state of rectified and other numbers."""
    torch.manual_seed(0)
    edges = [
        nn.ModuleDict({n: OPERATIONS[n].candidate(4, 1) for n in names}).double() for _ in range(2)
    ]
    return Group((0, 1), dict(zip(names, weights, strict=True))), edges, State(draw(3, 4, 6, 6))


def left(state: State, group: Group, edges: list[nn.ModuleDict]) -> list[Tensor]:
    """What each edge adds to a node of its own."""
    update = StatisticsUpdate()
    return [total([summand], update) for summand in leave(state, group, edges, update)]


def summed(group: Group, edges: list[nn.ModuleDict], state: State) -> list[Tensor]:
    """Module by module."""
    return [
        torch.stack([w[i] * edge[name](state.x) for name, w in group.weights.items()]).sum(0)
        for i, edge in enumerate(edges)
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("nor_conv_1x1",),
        ("skip_connect",),
        ("avg_pool_3x3", "skip_connect"),
        ("nor_conv_1x1", "nor_conv_3x3"),
        ("skip_connect", "nor_conv_3x3", "avg_pool_3x3"),
        ("group_conv_3x1_1x3", "nor_conv_3x3", "skip_connect"),
        ("sep_conv_3x3", "nor_conv_3x3", "skip_connect"),
    ],
    ids=" ".join,
)
def test_edges_are_the_sums_of_their_modules(names: tuple[str, ...]):
    """Also beside candidates of other kinds."""
    group, edges, state = edges_of(names, draw(len(names), 2, seed=5))
    found = left(state, group, edges)
    for actual, expected in zip(found, summed(group, edges, state), strict=True):
        assert_close(actual, expected, **EXACT)


def test_a_norm_that_somebody_listens_to_runs_itself():
    group, edges, state = edges_of(("nor_conv_1x1", "nor_conv_3x3"), draw(2, 2, seed=5))
    heard = []
    norm = edges[1]["nor_conv_3x3"].norm
    norm.register_forward_hook(lambda *a: heard.append(a) or 2 * a[-1])
    found = left(state, group, edges)
    assert len(heard) == 1
    for actual, expected in zip(found, summed(group, edges, state), strict=True):
        assert_close(actual, expected, **EXACT)


def test_norms_of_different_kinds_run_by_themselves():
    group, edges, state = edges_of(("nor_conv_1x1", "nor_conv_3x3"), draw(2, 2, seed=5))
    edges[0]["nor_conv_3x3"].norm.eps = 1.0
    found = left(state, group, edges)
    for actual, expected in zip(found, summed(group, edges, state), strict=True):
        assert_close(actual, expected, **EXACT)
