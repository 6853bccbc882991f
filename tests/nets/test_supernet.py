"""The supernet is eq. (2) on every edge, runs what is active, and owns no alphas."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import CellMixture, Layout, Mixture, Stem, SuperNet
from darts_gdas.space import CellSpace, SearchSpace
from tests.oracles import supernet_logits

SPACE = SearchSpace.darts(num_nodes=2)
LAYOUT = Layout(channels=4, layers=3, num_classes=3, in_channels=2)

# float64 sums of about a thousand terms in two orders, then through batch norms.
EXACT = {"rtol": 1e-9, "atol": 1e-11}
BITWISE = {"rtol": 0.0, "atol": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(size: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.randn(3, 2, *size, dtype=torch.float64, generator=generator())


def random_mixture(space: SearchSpace, *, edges: bool = False, seed: int = 1) -> Mixture:
    """Softmax weights on every edge, and edge weights in (0, 1) when asked."""
    source = generator(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=source)

    cells = {}
    for kind, cell in space.cells.items():
        ops = draw(len(cell.edges), cell.num_candidates).softmax(-1)
        cells[kind] = CellMixture(ops, draw(len(cell.edges)).sigmoid() if edges else None)
    return Mixture(cells).require_grad()


def one_hot(space: SearchSpace, active: dict[str, tuple[int, ...]], *, sparse: bool) -> Mixture:
    """Weight one on a single candidate per edge; only that one runs if `sparse`."""
    cells = {}
    for kind, choice in active.items():
        ops = torch.zeros(len(choice), space.cells[kind].num_candidates, dtype=torch.float64)
        ops[range(len(choice)), list(choice)] = 1.0
        cells[kind] = CellMixture(ops, active=choice if sparse else None)
    return Mixture(cells).require_grad()


def random_choice(space: SearchSpace, seed: int, lowest: int = 0) -> dict[str, tuple[int, ...]]:
    source = generator(seed)
    return {
        kind: tuple(
            int(torch.randint(lowest, len(names), (), generator=source))
            for names in cell.candidates
        )
        for kind, cell in space.cells.items()
    }


def build(space: SearchSpace = SPACE, layout: Layout = LAYOUT) -> SuperNet:
    """A float64 supernet whose batch norms have seen data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = SuperNet(space, layout).double()
        for _ in range(2):
            net(
                torch.randn(4, 2, 8 * layout.stem.stride, 8 * layout.stem.stride).double(),
                random_mixture(space).detach(),
            )
    return net


def gradients(net: SuperNet, mixture: Mixture, logits: Tensor) -> dict[str, Tensor | None]:
    """Of a fixed linear function of the logits, by parameter and by leaf of the mixture."""
    upstream = torch.randn(logits.shape, dtype=torch.float64, generator=generator(2))
    named = dict(net.named_parameters())
    named |= {f"mixture {i}": leaf for i, leaf in enumerate(mixture.leaves())}
    values = torch.autograd.grad((logits * upstream).sum(), [*named.values()], allow_unused=True)
    return dict(zip(named, values, strict=True))


def candidates_of(net: SuperNet) -> Iterator[tuple[str, int, int, nn.Module]]:
    """(kind, edge, candidate, module) of every candidate of every cell."""
    for kind, cell in zip(net.layout.kinds, net.cells, strict=True):
        for edge, mixed in enumerate(cell.edges):
            for i, module in enumerate(mixed.candidates.values()):
                yield kind, edge, i, module


# The definition


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("edges", [False, True], ids=["no edge weights", "edge weights"])
@pytest.mark.parametrize(
    "layout",
    [LAYOUT, Layout(4, 2, 3, in_channels=2, stem=Stem.imagenet, reductions=(1,))],
    ids=["cifar", "imagenet"],
)
def test_logits_and_gradients_are_those_of_the_definition(
    layout: Layout, edges: bool, training: bool
):
    net = build(SPACE, layout).train(training)
    mixture = random_mixture(SPACE, edges=edges)
    x = images((9, 8)) if layout.stem is Stem.cifar else images((17, 24))
    logits, expected = net(x, mixture), supernet_logits(net, x, mixture)
    assert logits.shape == (3, 3)
    assert_close(logits, expected, **EXACT)
    expected_gradients = gradients(net, mixture, expected)
    for name, gradient in gradients(net, mixture, logits).items():
        assert gradient is not None, name
        assert_close(gradient, expected_gradients[name], **EXACT, msg=name)


@pytest.mark.parametrize("size", [(4, 4), (7, 13), (16, 16)], ids=str)
def test_runs_at_any_image_size(size: tuple[int, int]):
    net, mixture = build(), random_mixture(SPACE)
    assert_close(net(images(size), mixture), supernet_logits(net, images(size), mixture), **EXACT)


def test_none_only_scales_an_edge_down():
    """A weight on `none` reaches nothing: neither the logits nor a gradient."""
    net, mixture = build().eval(), random_mixture(SPACE)
    logits = net(images(), mixture)
    loss_gradients = gradients(net, mixture, logits)
    other = mixture.with_leaves([leaf.detach().clone() for leaf in mixture.leaves()])
    for i, cell in enumerate(other.values()):
        assert_close(loss_gradients[f"mixture {i}"][:, 0], torch.zeros(5).double(), **BITWISE)
        cell.ops[:, 0] = 7.0
    assert_close(net(images(), other), logits, **BITWISE)


def test_edge_weights_scale_every_candidate_of_their_edge():
    net, mixture = build().eval(), random_mixture(SPACE, edges=True)
    scaled = Mixture(
        {kind: CellMixture(cell.ops * cell.edges[:, None]) for kind, cell in mixture.items()}
    )
    assert_close(net(images(), mixture), net(images(), scaled), **EXACT)


def test_edge_weights_of_one_change_nothing():
    net, mixture = build().eval(), random_mixture(SPACE)
    ones = Mixture({k: CellMixture(c.ops, torch.ones(5).double()) for k, c in mixture.items()})
    assert_close(net(images(), mixture), net(images(), ones), **BITWISE)


# One active candidate per edge


@pytest.mark.parametrize("seed", range(4))
def test_running_the_active_candidate_equals_running_all_under_one_hot_weights(seed: int):
    """In evaluation; the two may be computed in different orders."""
    net, choice = build().eval(), random_choice(SPACE, seed)
    sparse, dense = one_hot(SPACE, choice, sparse=True), one_hot(SPACE, choice, sparse=False)
    assert_close(net(images(), sparse), net(images(), dense), **EXACT)


@pytest.mark.parametrize("seed", range(2))
def test_the_gradient_of_the_mixture_is_the_dense_one_at_the_active_candidates(seed: int):
    """dL/dweight = <upstream, o_k(x)> for the active k (FACTS 4.1), zero elsewhere."""
    net, choice = build().eval(), random_choice(SPACE, seed, lowest=1)
    sparse, dense = one_hot(SPACE, choice, sparse=True), one_hot(SPACE, choice, sparse=False)
    actual = gradients(net, sparse, net(images(), sparse))
    expected = gradients(net, dense, net(images(), dense))
    for i, mask in enumerate(sparse.leaves()):
        assert_close(actual[f"mixture {i}"], expected[f"mixture {i}"] * mask.detach(), **EXACT)
        assert (actual[f"mixture {i}"] != 0).sum() == len(mask)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_the_weight_of_the_active_candidate_multiplies_its_output(training: bool):
    """As if all other candidates' weights were zero."""
    net, choice = build().train(training), random_choice(SPACE, 5)
    dense = random_mixture(SPACE, edges=True)
    masks = one_hot(SPACE, choice, sparse=False)
    sparse = Mixture({k: CellMixture(c.ops, c.edges, choice[k]) for k, c in dense.items()})
    masked = Mixture(
        {k: CellMixture(c.ops * masks[k].ops.detach(), c.edges) for k, c in dense.items()}
    )
    assert_close(net(images(), sparse), supernet_logits(net, images(), masked), **EXACT)


def test_only_active_candidates_get_a_gradient():
    net, choice = build(), random_choice(SPACE, 6, lowest=1)
    net(images(), one_hot(SPACE, choice, sparse=True)).square().sum().backward()
    seen = set()
    for kind, edge, i, module in candidates_of(net):
        is_active = choice[kind][edge] == i
        for parameter in module.parameters():
            assert (parameter.grad is not None) == is_active
            seen.add(is_active)
    assert seen == {True, False}


def test_statistics_of_inactive_candidates_stand_still():
    net, choice = build().train(), random_choice(SPACE, 7, lowest=1)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net(images(), one_hot(SPACE, choice, sparse=True))
    after = dict(net.named_buffers())
    moved = {id(after[name]) for name in before if not torch.equal(after[name], before[name])}
    for kind, edge, i, module in candidates_of(net):
        for buffer in module.buffers():
            assert (id(buffer) in moved) == (choice[kind][edge] == i)
    assert all(id(after[name]) in moved for name in before if ".candidates." not in name)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_node_whose_edges_are_all_none_is_zero(training: bool):
    """The first node reads states 0 and 1 through edges 0 and 1."""
    net = build().train(training)
    choice = {kind: (0, 0, *rest[2:]) for kind, rest in random_choice(SPACE, 8, lowest=1).items()}
    sparse, dense = one_hot(SPACE, choice, sparse=True), one_hot(SPACE, choice, sparse=False)
    outputs: list[Tensor] = []
    hook = net.cells[1].register_forward_hook(lambda module, args, y: outputs.append(y))
    logits = net(images(), sparse)
    hook.remove()
    assert net.layout.kinds[1] == "reduce"
    width = outputs[0].shape[1] // 2
    assert_close(outputs[0][:, :width], torch.zeros_like(outputs[0][:, :width]), **BITWISE)
    assert outputs[0][:, width:].abs().max() > 0
    assert_close(logits, supernet_logits(net, images(), dense), **EXACT)


def test_with_none_everywhere_the_bias_is_left():
    net = build()
    choice = {kind: (0,) * 5 for kind in SPACE.cells}
    logits = net(images(), one_hot(SPACE, choice, sparse=True))
    assert_close(logits, net.classifier.bias.expand(3, -1), **BITWISE)
    logits.sum().backward()
    assert_close(net.classifier.bias.grad, torch.full((3,), 3.0).double(), **BITWISE)


# Candidates per edge


def ragged() -> SearchSpace:
    """One, two or three candidates per edge, `none` in the middle."""
    normal = CellSpace(
        (
            ("sep_conv_3x3",),
            ("skip_connect", "none"),
            ("max_pool_3x3", "none", "dil_conv_3x3"),
            ("avg_pool_3x3", "skip_connect"),
            ("none", "sep_conv_5x5"),
        ),
        num_nodes=2,
    )
    reduce = CellSpace(("skip_connect", "avg_pool_3x3"), num_nodes=1)  # type: ignore[arg-type]
    return SearchSpace({"normal": normal, "reduce": reduce})


def test_candidates_may_differ_between_edges_and_kinds():
    net, mixture = build(ragged()), random_mixture(ragged(), edges=True)
    logits, expected = net(images(), mixture), supernet_logits(net, images(), mixture)
    assert_close(logits, expected, **EXACT)
    expected_gradients = gradients(net, mixture, expected)
    for name, gradient in gradients(net, mixture, logits).items():
        assert_close(gradient, expected_gradients[name], **EXACT, msg=name)


def test_columns_beyond_an_edges_candidates_are_not_read():
    space = ragged()
    net, mixture = build(space).eval(), random_mixture(space)
    other = mixture.with_leaves([leaf.detach().clone() for leaf in mixture.leaves()])
    for kind, cell in space.cells.items():
        for edge, names in enumerate(cell.candidates):
            other[kind].ops[edge, len(names) :] = torch.nan
    assert_close(net(images(), other), net(images(), mixture), **BITWISE)


def test_one_of_few_candidates_can_be_active():
    space = ragged()
    net, choice = build(space).eval(), random_choice(ragged(), 9)
    sparse, dense = one_hot(space, choice, sparse=True), one_hot(space, choice, sparse=False)
    assert_close(net(images(), sparse), supernet_logits(net, images(), dense), **EXACT)


# What it owns


def conv_weights(name: str, channels: int, stride: int) -> int:
    """Of the DARTS candidates, without affine norms, in closed form."""
    c = channels
    if "conv" in name:
        layers, kernel = (2 if "sep" in name else 1), int(name[-1])
        return layers * (kernel**2 * c + c * c)
    return c * c if name == "skip_connect" and stride == 2 else 0


@pytest.mark.parametrize(("channels", "layers"), [(16, 8), (6, 5)])
def test_parameters_are_counted_in_closed_form(channels: int, layers: int):
    space = SearchSpace.named("darts")
    net = SuperNet.build(space, channels=channels, layers=layers)
    before = last = 3 * channels
    expected = 3 * 9 * last + 2 * last  # stem
    width = channels
    for position in range(layers):
        is_reduction = position in (layers // 3, 2 * layers // 3)
        width *= 2 if is_reduction else 1
        expected += (before + last) * width
        for _, source in space.edges:
            stride = 2 if is_reduction and source < 2 else 1
            names = space.cells["normal"].candidates[0]
            expected += sum(conv_weights(name, width, stride) for name in names)
        before, last = last, 4 * width
    expected += 10 * last + 10
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_the_darts_supernet_has_1_930_618_weights():
    net = SuperNet.build(SearchSpace.named("darts"))
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_930_618


def test_it_owns_weights_only():
    net = build()
    assert {name.split(".")[0] for name in net.state_dict()} == {"stem", "cells", "classifier"}
    assert not any("alpha" in name for name in net.state_dict())


def test_norms_inside_cells_learn_nothing():
    net = build()
    norms = [module for module in net.cells.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(norm.affine for norm in norms)
    assert net.stem.norm.affine


def test_a_forward_pass_draws_no_noise_and_leaves_the_mixture_alone():
    net, mixture = build(), random_mixture(SPACE, edges=True)
    values = [leaf.detach().clone() for leaf in mixture.leaves()]
    state = torch.get_rng_state()
    net(images(), mixture)
    assert torch.equal(torch.get_rng_state(), state)
    for leaf, value in zip(mixture.leaves(), values, strict=True):
        assert_close(leaf.detach(), value, **BITWISE)


def test_candidates_stand_in_the_order_of_the_space():
    for cell in build(ragged()).cells:
        for mixed, names in zip(cell.edges, cell.space.candidates, strict=True):
            assert tuple(mixed.candidates) == names


def test_build_names_the_numbers_of_a_layout():
    net = SuperNet.build(SPACE, channels=5, layers=4, num_classes=7, in_channels=2)
    assert net.layout == Layout(5, 4, 7, 2)
    assert net.space is SPACE
    assert SuperNet.build(SPACE).layout == Layout(16, 8, 10, 3)


# Error messages


def test_a_mixture_of_another_shape_is_an_error():
    mixture = Mixture({kind: CellMixture(torch.ones(4, 8)) for kind in SPACE.cells})
    with pytest.raises(ValueError, match=r"kind 'normal' must have shape \(5, 8\) .*got \(4, 8\)"):
        SuperNet(SPACE, LAYOUT)(torch.ones(1, 2, 8, 8), mixture)


def test_a_mixture_without_a_kind_is_an_error():
    mixture = Mixture({"normal": CellMixture(torch.ones(5, 8))})
    with pytest.raises(
        ValueError, match=r"kind 'reduce' .* \(5, 8\) \(edges, candidates\), got nothing"
    ):
        SuperNet(SPACE, LAYOUT)(torch.ones(1, 2, 8, 8), mixture)


def test_a_space_without_a_kind_that_the_layout_needs_is_an_error():
    space = SearchSpace({"normal": SPACE.cells["normal"]})
    with pytest.raises(
        ValueError, match=r"needs cells of kind \['reduce'\], the space has \['normal'\]"
    ):
        SuperNet(space, LAYOUT)
    SuperNet(space, Layout(4, 1, 3, reductions=()))


def test_a_space_with_an_unknown_operation_is_an_error():
    space = SearchSpace.darts(candidates=("none", "sep_conv_9x9"))
    with pytest.raises(
        ValueError,
        match=r"the normal cell's space\.candidates names unknown operations \['sep_conv_9x9'\]",
    ):
        SuperNet(space, LAYOUT)


@pytest.mark.parametrize("num_inputs", [1, 3])
def test_a_space_whose_cells_do_not_take_two_states_is_an_error(num_inputs: int):
    cell = CellSpace(
        ("skip_connect",),  # type: ignore[arg-type]
        num_nodes=2,
        num_inputs=num_inputs,
        keep=1,
    )
    with pytest.raises(ValueError, match="two states"):
        SuperNet(SearchSpace({"normal": cell, "reduce": cell}), LAYOUT)


@pytest.mark.parametrize("active", [(9,) * 5, (-1,) * 5, (0,), (0,) * 6], ids=str)
def test_active_must_name_a_candidate_of_every_edge(active: tuple[int, ...]):
    space = SearchSpace.darts(num_nodes=2, candidates=("none", "skip_connect"))
    cell = CellMixture(torch.ones(5, 2), active=active)
    with pytest.raises(ValueError, match="must name one candidate of each of the 5 edges"):
        SuperNet(space, LAYOUT)(torch.zeros(2, 3, 8, 8), Mixture({k: cell for k in space.cells}))
