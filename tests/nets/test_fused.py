"""Fused cells are the plain definition: any wiring, candidates, mask, layout, number format."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, CellMixture, Layout, Mixture, SuperNet, fused
from darts_gdas.nets.fused import group_edges
from darts_gdas.nets.operations import OPERATIONS
from darts_gdas.search import ArchParameters, GumbelHard, Relaxation, Softmax
from darts_gdas.space import NONE, CellSpace, SearchSpace
from tests.oracles import supernet_logits

SPACE = SearchSpace.darts(num_nodes=2)
LAYOUT = Layout(4, 3, 3, in_channels=2)
EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64, on numbers of order one

on_both_devices = pytest.mark.parametrize("stacked", [False, True], ids=["as on CPU", "as on GPU"])


@pytest.fixture(autouse=True)
def stacking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """The arrangement of a GPU, on this device, where a test asks for it."""
    stacked = getattr(request.node, "callspec", None)
    if stacked is not None and "stacked" in stacked.params:
        monkeypatch.setattr(fused, "stacks_edges", lambda x: stacked.params["stacked"])


def float64(*shape: int, seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=source)


def supernet(space: SearchSpace, layout: Layout = LAYOUT, *, partial_channels: int = 1) -> SuperNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SuperNet(space, layout, partial_channels=partial_channels).double()


def mixture_of(space: SearchSpace, relaxation: Relaxation, *, edges: bool = False) -> Mixture:
    arch = ArchParameters(space, scale=1.0, generator=torch.Generator().manual_seed(1)).double()
    mixture = relaxation(arch, progress=0.5, rng=torch.Generator().manual_seed(2))
    cells = {
        kind: CellMixture(
            cell.ops, float64(len(cell.ops), seed=4).sigmoid() if edges else None, cell.active
        )
        for kind, cell in mixture.items()
    }
    return Mixture(cells).require_grad()


def outcome(net: SuperNet, logits: Tensor, mixture: Mixture) -> dict[str, Tensor | None]:
    """Logits, gradients of a linear function of them, running statistics."""
    named = dict(net.named_parameters())
    named |= {f"mixture {i}": leaf for i, leaf in enumerate(mixture.leaves())}
    upstream = float64(*logits.shape, seed=3).to(logits.dtype)
    found = torch.autograd.grad((logits * upstream).sum(), [*named.values()], allow_unused=True)
    gradients = dict(zip(named, found, strict=True))
    return {"logits": logits.detach(), **gradients, **dict(net.named_buffers())}


def assert_same_as_plain(net: SuperNet, images: Tensor, mixture: Mixture) -> None:
    plain = copy.deepcopy(net)
    actual = outcome(net, net(images, mixture), mixture)
    expected = outcome(plain, supernet_logits(plain, images, mixture), mixture)
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        other = expected[name]
        if value is None or other is None:  # no path, against a path that is multiplied by zero
            assert not any(t.any() for t in (value, other) if t is not None), name
        else:
            assert_close(value, other, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


# The same function, gradients and statistics


@on_both_devices
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("edges", [False, True], ids=["no edge weights", "edge weights"])
@pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=["softmax", "gumbel"])
def test_fused_equals_plain(relaxation: Relaxation, edges: bool, training: bool, stacked: bool):
    net, mixture = supernet(SPACE), mixture_of(SPACE, relaxation, edges=edges)
    assert_same_as_plain(net, float64(3, 2, 8, 8), mixture)  # in training, to have statistics
    assert_same_as_plain(net.train(training), float64(3, 2, 8, 8, seed=5), mixture)


@on_both_devices
@pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=["softmax", "gumbel"])
def test_the_paper_space_equals_plain_at_its_full_width(relaxation: Relaxation, stacked: bool):
    space = SearchSpace.named("darts")
    net = supernet(space, Layout(4, 4, 10, reductions=(1, 3)))
    assert_same_as_plain(net, float64(4, 3, 16, 12), mixture_of(space, relaxation))


@on_both_devices
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=["softmax", "gumbel"])
def test_nas_bench_201_equals_plain(relaxation: Relaxation, training: bool, stacked: bool):
    space = SearchSpace.named("nasbench201")
    net = supernet(space, Layout(4, 8, 10, skeleton=NASBENCH201))
    mixture = mixture_of(space, relaxation)
    assert_same_as_plain(net, float64(4, 3, 8, 8), mixture)
    assert_same_as_plain(net.train(training), float64(4, 3, 9, 8, seed=5), mixture)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Random wirings and candidates: sizes of cells, and every edge with a set of its own."""
    cells = {}
    for kind in ("normal", "reduce"):
        num_nodes = draw(st.integers(1, 3))
        predecessors = tuple(
            tuple(draw(st.sets(st.integers(0, 1 + node), min_size=1))) for node in range(num_nodes)
        )
        candidates = []
        for _ in range(sum(map(len, predecessors))):
            names = draw(
                st.lists(st.sampled_from(tuple(OPERATIONS)), min_size=1, max_size=4, unique=True)
            )
            candidates.append((*names, "skip_connect") if names == [NONE] else tuple(names))
        cells[kind] = CellSpace(
            tuple(candidates), num_nodes=num_nodes, keep=1, predecessors=predecessors
        )
    return SearchSpace(cells)


@settings(max_examples=25, deadline=None)
@given(
    space=spaces(),
    stacked=st.booleans(),
    sparse=st.booleans(),
    partial_channels=st.integers(1, 3),
    training=st.booleans(),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
)
def test_fused_equals_plain_on_any_space(
    space: SearchSpace,
    stacked: bool,
    sparse: bool,
    partial_channels: int,
    training: bool,
    size: tuple[int, int],
):
    layout = Layout(2 * partial_channels, 3, 2, in_channels=1, reductions=(1,))
    net = supernet(space, layout, partial_channels=partial_channels)
    mixture = mixture_of(space, GumbelHard() if sparse else Softmax(), edges=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "stacks_edges", lambda x: stacked)
        assert_same_as_plain(net.train(training), float64(2, 1, *size), mixture)


@on_both_devices
def test_the_layout_in_memory_of_the_images_does_not_matter(stacked: bool):
    net, mixture = supernet(SPACE).eval(), mixture_of(SPACE, Softmax())
    images = float64(3, 2, 8, 8)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(net(images, mixture), net(last, mixture))


# Partial channels


@on_both_devices
@pytest.mark.parametrize(
    ("training", "edges"), [(True, False), (False, True)], ids=["training", "evaluation, edges"]
)
@pytest.mark.parametrize(
    ("relaxation", "partial_channels"), [(Softmax(), 4), (GumbelHard(), 2)], ids=["darts", "gdas"]
)
def test_partial_channels_equal_plain(
    partial_channels: int, relaxation: Relaxation, edges: bool, training: bool, stacked: bool
):
    layout = Layout(8, 3, 3, in_channels=2)
    net = supernet(SPACE, layout, partial_channels=partial_channels)
    mixture = mixture_of(SPACE, relaxation, edges=edges)
    assert_same_as_plain(net, float64(3, 2, 8, 8), mixture)  # in training, to have statistics
    if not training:
        assert_same_as_plain(net.eval(), float64(3, 2, 9, 8, seed=5), mixture)


@pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=["softmax", "gumbel"])
def test_partial_channels_equal_plain_on_nas_bench_201(relaxation: Relaxation):
    space = SearchSpace.named("nasbench201")
    layout = Layout(8, 5, 10, skeleton=NASBENCH201)
    net = supernet(space, layout, partial_channels=4)
    assert_same_as_plain(net, float64(4, 3, 8, 8), mixture_of(space, relaxation, edges=True))


# Derivatives of higher order, per-sample gradients


@on_both_devices
@pytest.mark.parametrize("partial_channels", [1, 2])
def test_second_derivatives_equal_plain(partial_channels: int, stacked: bool):
    """d/dmixture <dL/dweights, v>: what an exact unrolled step needs."""
    net = supernet(SPACE, partial_channels=partial_channels)
    mixture = mixture_of(SPACE, Softmax(), edges=True)
    weights = list(net.parameters())
    images, found = float64(2, 2, 8, 8), []
    for logits in (net(images, mixture), supernet_logits(net, images, mixture)):
        first = torch.autograd.grad(logits.square().sum(), weights, create_graph=True)
        product = sum((g * float64(*g.shape, seed=6)).sum() for g in first)
        found.append(torch.autograd.grad(product, mixture.leaves()))
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, rtol=1e-9, atol=1e-9)  # sums of larger numbers


@on_both_devices
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_per_sample_gradients_by_vmap_equal_a_loop(stacked: bool):
    """In evaluation, as a kernel of the network needs them."""
    net, mixture = supernet(SPACE).eval(), mixture_of(SPACE, Softmax()).detach()
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def output(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(net, weights, (image[None], mixture)).sum()

    images = float64(3, 2, 8, 8)
    together = vmap(grad(output), (None, 0))(weights, images)
    for i, image in enumerate(images):
        alone = torch.autograd.grad(net(image[None], mixture).sum(), list(net.parameters()))
        for (name, gradients), expected in zip(together.items(), alone, strict=True):
            assert_close(gradients[i], expected, **EXACT, msg=name)


# Recomputation in the backward pass


@pytest.mark.parametrize("partial_channels", [1, 2])
@pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=["softmax", "gumbel"])
def test_checkpointed_cells_change_no_bit(relaxation: Relaxation, partial_channels: int):
    """Values, gradients and statistics, which move once although the cells run twice."""
    net = supernet(SPACE, partial_channels=partial_channels)
    mixture = mixture_of(SPACE, relaxation, edges=partial_channels > 1)
    lean = copy.deepcopy(net)
    lean.checkpoint_cells = True
    images = float64(3, 2, 8, 8)
    expected = outcome(net, net(images, mixture), mixture)
    actual = outcome(lean, lean(images, mixture), mixture)
    for name, value in actual.items():
        other = expected[name]
        assert (value is None and other is None) or torch.equal(value, other), name  # type: ignore[arg-type]


def test_checkpointed_cells_use_the_weights_of_their_forward_pass():
    """`functional_call` has put the module's own weights back when the backward pass runs."""
    net, mixture = supernet(SPACE), mixture_of(SPACE, Softmax()).detach()
    others = {name: (2 * p).detach().requires_grad_() for name, p in net.named_parameters()}
    found = []
    for net.checkpoint_cells in (False, True):
        logits = functional_call(net, others, (float64(2, 2, 8, 8), mixture))
        found.append(torch.autograd.grad(logits.square().sum(), [*others.values()]))
    for expected, actual in zip(*found, strict=True):
        assert torch.equal(actual, expected)


def test_checkpointed_cells_have_second_derivatives():
    net, mixture = supernet(SPACE), mixture_of(SPACE, Softmax())
    weights, found = list(net.parameters()), []
    for net.checkpoint_cells in (False, True):
        loss = net(float64(2, 2, 8, 8), mixture).square().sum()
        first = torch.autograd.grad(loss, weights, create_graph=True)
        total = sum(g.square().sum() for g in first)
        found.append(torch.autograd.grad(total, mixture.leaves()))
    for expected, actual in zip(*found, strict=True):
        assert_close(actual, expected, rtol=1e-9, atol=1e-9)


# Number formats


@on_both_devices
@pytest.mark.parametrize("relaxation", [Softmax(), GumbelHard()], ids=["softmax", "gumbel"])
def test_bfloat16_is_as_near_to_float32_as_plain_bfloat16(relaxation: Relaxation, stacked: bool):
    """Distance of the logits, and of all weight gradients as one vector; a margin of two."""
    net = supernet(SPACE, Layout(8, 3, 10, in_channels=2)).float()
    mixture = mixture_of(SPACE, relaxation)
    mixture = mixture.with_leaves([leaf.float().detach() for leaf in mixture.leaves()])
    images = float64(16, 2, 16, 16).float()

    def run(forward, autocast: bool) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = forward(images, mixture).float()
        weights = list(net.parameters())
        found = torch.autograd.grad(logits.square().sum(), weights, materialize_grads=True)
        return logits.detach(), torch.cat([g.flatten() for g in found])

    def plain(images: Tensor, mixture: Mixture) -> Tensor:
        return supernet_logits(net, images, mixture)

    exact, rough, reference = run(net, False), run(net, True), run(plain, True)
    for truth, ours, theirs in zip(exact, rough, reference, strict=True):
        assert (ours - truth).norm() <= 2 * (theirs - truth).norm()
        assert (ours - truth).norm() < 0.5 * truth.norm()


def test_float32_is_as_accurate_as_plain_float32():
    """Weight gradients against float64; ReLU and max pooling switch in both."""
    net = supernet(SPACE, Layout(8, 3, 10, in_channels=2))
    mixture = mixture_of(SPACE, Softmax()).detach()
    images = float64(8, 2, 16, 16)

    def gradient(forward, dtype: torch.dtype) -> Tensor:
        rounded = mixture.with_leaves([leaf.to(dtype) for leaf in mixture.leaves()])
        net.to(dtype)
        logits = forward(images.to(dtype), rounded)
        found = torch.autograd.grad(logits.square().sum(), list(net.parameters()))
        return torch.cat([g.flatten().double() for g in found])

    def plain(images: Tensor, mixture: Mixture) -> Tensor:
        return supernet_logits(net, images, mixture)

    truth = gradient(net, torch.float64)
    ours = (gradient(net, torch.float32) - truth).norm()
    theirs = (gradient(plain, torch.float32) - truth).norm()
    assert ours <= 4 * theirs + 1e-6 * truth.norm()


# What is computed


def test_groups_hold_every_running_edge_once_with_its_weights():
    mixture = mixture_of(SPACE, GumbelHard()).detach()
    for kind, cell in SPACE.cells.items():
        active = mixture[kind].active
        assert active is not None
        seen = {}
        for source, groups in enumerate(group_edges(cell, mixture[kind])):
            for group in groups:
                for name, weights in group.weights.items():
                    for edge, weight in zip(group.edges, weights, strict=True):
                        assert cell.edges[edge][1] == source
                        seen[edge] = name, weight.item()
        chosen = {e: cell.candidates[e][i] for e, i in enumerate(active)}
        assert seen == {e: (name, 1.0) for e, name in chosen.items() if name != NONE}


def test_backward_keeps_less_than_half_of_what_plain_keeps():
    """Bytes of distinct storages saved for a weight step, weights aside."""
    net, mixture = supernet(SPACE, LAYOUT), mixture_of(SPACE, Softmax()).detach()
    images = float64(8, 2, 16, 16)
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def saved(forward) -> int:
        kept: dict[int, Tensor] = {}

        def pack(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward(images, mixture).sum()
        return sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in weights)

    assert saved(net) < 0.5 * saved(lambda x, m: supernet_logits(net, x, m))
