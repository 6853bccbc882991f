"""Derived networks: published sizes, the definition, drop-path and the auxiliary head."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.nets import DerivedNet, Layout, Stem, count_parameters
from darts_gdas.nets.blocks import AuxiliaryHead
from darts_gdas.nets.candidates import FactorizedReduce
from darts_gdas.nets.dropout import path_factors
from darts_gdas.space import CellGenotype, Edge, Genotype, published_names
from tests.oracles import derived_logits

SIZES = [(8, 8), (17, 17), (32, 32), (9, 14)]

# float64 sums in two orders, then through batch norms.
EXACT = {"rtol": 1e-9, "atol": 1e-11}
BITWISE = {"rtol": 0.0, "atol": 0.0}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def images(batch: int = 3, size: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.randn(batch, 3, *size, dtype=torch.float64)


def small(
    genotype: Genotype, *, auxiliary: bool = False, reductions: tuple[int, ...] | None = None
) -> DerivedNet:
    """A float64 network of four narrow cells whose batch norms have seen data."""
    layout = Layout(channels=4, layers=4, num_classes=5, reductions=reductions)
    net = DerivedNet(genotype, layout, auxiliary=auxiliary).double().train()
    for _ in range(2):
        net(images())
    return net


def one_operation(name: str, kinds: tuple[str, ...] = ("normal", "reduce")) -> Genotype:
    """Two nodes that read everything through the same operation."""
    nodes = (
        tuple(Edge(name, source) for source in range(2)),
        tuple(Edge(name, source) for source in range(3)),
    )
    return Genotype({kind: CellGenotype(nodes, (2, 3)) for kind in kinds})


def shapes_only(name: str, **numbers: object) -> DerivedNet:
    """A published network without storage."""
    with torch.device("meta"):
        return DerivedNet.build(Genotype.load(name), **numbers)  # type: ignore[arg-type]


# Published sizes


@pytest.mark.parametrize(
    ("name", "cifar", "imagenet"),
    [
        ("DARTS_V1", 3_169_414, 4_510_432),
        ("DARTS_V2", 3_349_342, 4_718_752),
        ("GDAS_V1", 3_368_782, 4_969_216),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(
    name: str, cifar: int, imagenet: int
):
    assert count_parameters(shapes_only(name)) == cifar
    large = shapes_only(name, channels=48, layers=14, num_classes=1000, stem="imagenet")
    assert count_parameters(large) == imagenet


def test_gdas_on_imagenet_has_50_channels_and_5_345_075_parameters():
    net = shapes_only(
        "GDAS_V1", channels=50, layers=14, num_classes=1000, auxiliary=False, stem=Stem.imagenet
    )
    assert count_parameters(net) == 5_345_075
    assert sum(parameter.numel() for parameter in net.parameters()) == 5_345_075


def test_darts_v2_for_100_classes_has_3_401_272_parameters():
    assert count_parameters(shapes_only("DARTS_V2", num_classes=100)) == 3_401_272


def test_the_auxiliary_head_has_476_426_parameters():
    """Convolutions 576 -> 128 (1x1) -> 768 (2x2), two norms, a classifier with bias."""
    head = shapes_only("DARTS_V2").auxiliary
    assert 128 * 576 + 2 * 128 + 768 * 128 * 4 + 2 * 768 + 768 * 10 + 10 == 476_426
    assert sum(parameter.numel() for parameter in head.parameters()) == 476_426


# The definition


@pytest.mark.parametrize("name", published_names())
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_published_networks_are_their_genotypes(name: str, training: bool):
    net = small(Genotype.load(name)).train(training)
    for size in SIZES:
        x = images(2, size)
        logits = net(x)
        assert logits.shape == (2, 5)
        assert_close(logits, derived_logits(net, x), **EXACT)


@pytest.mark.parametrize("size", [(32, 32), (33, 47)], ids=str)
def test_the_imagenet_network_is_its_genotype(size: tuple[int, int]):
    layout = Layout(channels=4, layers=4, num_classes=5, stem=Stem.imagenet)
    net = DerivedNet(Genotype.load("NASNet"), layout).double().eval()
    x = images(2, size)
    assert_close(net(x), derived_logits(net, x), **EXACT)


@pytest.mark.parametrize("stem", list(Stem))
def test_the_smallest_accepted_image_runs(stem: Stem):
    layout = Layout(channels=4, layers=4, num_classes=5, stem=stem)
    side = 4 * stem.stride
    layout.check_image_size(side, side)
    net = DerivedNet(Genotype.load("DARTS_V2"), layout, auxiliary=True).double()
    assert net(images(2, (side, side)))[0].isfinite().all()


@pytest.mark.parametrize("name", published_names())
def test_every_parameter_is_used(name: str):
    """Once the last cell reads all states; a state that nothing reads has no gradient."""
    genotype = Genotype.load(name)
    all_states = {
        kind: CellGenotype(cell.nodes, tuple(range(2, 2 + len(cell.nodes))))
        for kind, cell in genotype.cells.items()
    }
    net = small(Genotype(all_states), auxiliary=True)
    logits, auxiliary_logits = net(images())
    (logits.square().sum() + auxiliary_logits.square().sum()).backward()
    read = {
        (kind, edge.source)
        for kind, cell in genotype.cells.items()
        for edges in cell.nodes
        for edge in edges
    }
    for parameter_name, parameter in net.named_parameters():
        words = parameter_name.split(".")
        if words[0] == "cells" and words[2] == "inputs":
            kind = net.layout.kinds[int(words[1])]
            assert (parameter.grad is not None) == ((kind, int(words[3])) in read)
        else:
            assert parameter.grad is not None, parameter_name


def test_norms_are_affine_and_pooling_is_not_normalised():
    net = small(Genotype.load("DARTS_V1"))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(norm.affine for norm in norms)
    pools = [
        operation
        for cell in net.cells
        for operations in cell.nodes
        for operation in operations
        if isinstance(operation, nn.AvgPool2d | nn.MaxPool2d)
    ]
    assert len(pools) == 2 * (4 + 1)  # two reduction cells with 4 max and 1 average pooling


def test_build_names_the_numbers_of_a_layout():
    genotype = Genotype.load("DARTS_V2")
    net = shapes_only("DARTS_V2")
    assert net.layout == Layout(36, 20, 10, 3, Stem.cifar)
    assert net.auxiliary is not None
    assert net.genotype == genotype
    other = DerivedNet.build(
        genotype, channels=4, layers=5, num_classes=7, in_channels=2, auxiliary=False, stem="cifar"
    )
    assert other.layout == Layout(4, 5, 7, 2, Stem.cifar)
    assert other.auxiliary is None


# Auxiliary head


@pytest.mark.parametrize(("side", "stride"), [(8, 3), (7, 2)])
def test_auxiliary_pooling_is_the_published_one(side: int, stride: int):
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    assert_close(AuxiliaryHead.pool(x), nn.AvgPool2d(5, stride=stride)(x), **BITWISE)


@pytest.mark.parametrize("height", range(1, 21))
def test_auxiliary_pooling_gives_2x2_averages_at_any_size(height: int):
    for width in range(1, 21):
        x = torch.randn(1, 2, height, width, dtype=torch.float64)
        y = AuxiliaryHead.pool(x)
        assert y.shape == (1, 2, 2, 2)
        assert y.min() >= x.min() and y.max() <= x.max()
        assert_close(AuxiliaryHead.pool(torch.ones_like(x)), torch.ones_like(y))


@pytest.mark.parametrize("height", range(2, 21))
def test_auxiliary_windows_touch_all_four_corners(height: int):
    """The first window starts in the corner and the last one ends in it."""
    for width in range(2, 21):
        x = torch.zeros(1, 1, height, width)
        for row, column in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            x.zero_()[0, 0, -row, -column] = 1.0
            y = AuxiliaryHead.pool(x)[0, 0]
            assert y[row, column] > 0
            assert (y > 0).sum() == 1


@pytest.mark.parametrize("layers", [3, 4, 8])
def test_auxiliary_logits_are_the_heads_on_the_cell_at_two_thirds(layers: int):
    layout = Layout(channels=4, layers=layers, num_classes=5)
    net = DerivedNet(Genotype.load("DARTS_V2"), layout, auxiliary=True).double().train()
    states: list[Tensor] = []
    net.cells[int(2 * layers / 3)].register_forward_hook(lambda cell, args, y: states.append(y))
    logits, auxiliary_logits = net(images(4, (16, 16)))
    (state,) = states
    head = net.auxiliary
    pooled = AuxiliaryHead.pool(F.relu(state))
    assert logits.shape == auxiliary_logits.shape == (4, 5)
    assert_close(auxiliary_logits, head.classifier(head.features(pooled)[:, :, 0, 0]), **EXACT)


def test_two_logits_only_while_training_with_an_auxiliary_head():
    x = images()
    with_head, without = (small(Genotype.load("DARTS_V2"), auxiliary=a) for a in (True, False))
    assert isinstance(with_head.train()(x), tuple)
    assert isinstance(with_head.eval()(x), Tensor)
    assert isinstance(without.train()(x), Tensor)
    assert isinstance(without.eval()(x), Tensor)


def test_the_auxiliary_head_does_not_run_in_evaluation():
    net = small(Genotype.load("DARTS_V2"), auxiliary=True)
    calls: list[int] = []
    net.auxiliary.register_forward_hook(lambda head, args, y: calls.append(1))
    net.eval()(images())
    assert not calls
    net.train()(images())
    assert len(calls) == 1


def test_the_auxiliary_head_does_not_change_the_logits():
    net = small(Genotype.load("DARTS_V2"), auxiliary=True).train()
    x = images()
    assert_close(net(x)[0], derived_logits(net, x), **EXACT)


# Drop-path


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_drop_path_keeps_the_mean(probability: float):
    """A path's factor is 1 / q with chance q, else 0: mean 1, variance (1 - q) / q."""
    n, keep = 40_000, 1 - probability
    factors = path_factors(4, n // 4, probability, like=images())
    assert factors.unique().tolist() == pytest.approx([0, 1 / keep])
    sigma = ((1 - keep) / keep / n) ** 0.5
    assert_close(factors.mean(), torch.ones(()).double(), rtol=0, atol=4 * sigma)


def test_drop_path_of_probability_zero_is_the_identity():
    assert_close(path_factors(3, 4, 0.0, like=images()), torch.ones(3, 4, 1, 1, 1).double())


@pytest.mark.parametrize("name", ["DARTS_V2", "GDAS_V1", "NASNet"])
def test_drop_path_multiplies_every_path_by_its_factor(name: str):
    """Values and weight gradients are those of the definition with the same factors."""
    net, x = small(Genotype.load(name)).train(), images()
    net.drop_path_probability = 0.5
    torch.manual_seed(1)
    actual = net(x)
    torch.manual_seed(1)
    factors = path_factors(sum(cell.num_paths for cell in net.cells), len(x), 0.5, like=x)
    expected = derived_logits(net, x, factors)
    assert_close(actual, expected, **EXACT)
    weights = list(net.parameters())
    target = torch.randn_like(actual)
    for got, want in zip(
        torch.autograd.grad((actual * target).sum(), weights),
        torch.autograd.grad((expected * target).sum(), weights),
        strict=True,
    ):
        assert_close(got, want, **EXACT)


def test_a_new_network_drops_no_path():
    net = small(Genotype.load("DARTS_V2"))
    assert net.drop_path_probability == 0.0
    x = images()
    assert_close(net.train()(x), derived_logits(net, x), **EXACT)


def test_evaluation_never_drops_a_path():
    net, x = small(Genotype.load("DARTS_V2")).eval(), images()
    logits = net(x)
    net.drop_path_probability = 0.9
    assert_close(net(x), logits, **BITWISE)


def test_training_drops_paths():
    net, x = small(Genotype.load("DARTS_V2")).train(), images()
    logits = net(x)
    net.drop_path_probability = 0.5
    assert not torch.allclose(net(x), logits)


def test_identity_skips_are_exempt():
    net, x = small(one_operation("skip_connect", ("normal",)), reductions=()).train(), images()
    logits = net(x)
    net.drop_path_probability = 1 - 1e-9
    assert_close(net(x), logits, **BITWISE)


def test_strided_skips_are_not_exempt():
    """With every strided path gone the reduction cell's output is zero, and still finite."""
    net = small(one_operation("skip_connect"), reductions=(2,)).train()
    assert isinstance(net.cells[2].nodes[0][0], FactorizedReduce)
    outputs: list[Tensor] = []
    net.cells[2].register_forward_hook(lambda cell, args, y: outputs.append(y))
    net.drop_path_probability = 1 - 1e-9
    logits = net(images())
    assert_close(outputs[0], torch.zeros_like(outputs[0]), **BITWISE)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_5x5"])
def test_every_other_operation_is_dropped(name: str):
    net = small(one_operation(name, ("normal",)), reductions=()).train()
    net.drop_path_probability = 1 - 1e-9
    assert_close(net(images()), net.classifier.bias.expand(3, -1), **BITWISE)


def test_each_path_is_dropped_on_its_own():
    """Two pooled inputs of one node: with q = 1/2 a sample keeps 0, 1 or 2 of them, 1:2:1."""
    nodes = ((Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)),)
    genotype = Genotype({"normal": CellGenotype(nodes, (2,))})
    net = DerivedNet(genotype, Layout(4, 1, 5, reductions=())).double().train()
    cell, n = net.cells[0], 4000
    for module in cell.inputs:
        module.conv, module.norm = nn.Identity(), nn.Identity()
    ones = torch.ones(n, 4, 1, 1).double()
    factors = path_factors(cell.num_paths, n, 0.5, like=ones)
    kept = (cell((ones, ones), factors) * 0.5)[:, 0, 0, 0]
    frequency = torch.bincount(kept.long(), minlength=3).double() / n
    sigma = 0.5 / n**0.5  # at most
    assert_close(frequency, torch.tensor([0.25, 0.5, 0.25]).double(), rtol=0, atol=4 * sigma)


# Error messages


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_a_probability_that_leaves_nothing_is_an_error(probability: float):
    with pytest.raises(ValueError, match=rf"must lie in \[0, 1\), got {probability}"):
        path_factors(1, 1, probability, like=images())


def test_an_unknown_operation_is_an_error():
    with pytest.raises(
        ValueError, match=r"the genotype names unknown operations \['sep_conv_9x9'\]; known: none,"
    ):
        DerivedNet.build(one_operation("sep_conv_9x9"))


def test_a_missing_kind_is_an_error():
    genotype = one_operation("skip_connect", ("normal", "other"))
    with pytest.raises(
        ValueError,
        match=r"needs cells of kind \['reduce'\], the genotype has \['normal', 'other'\]",
    ):
        DerivedNet.build(genotype)


def test_a_cell_that_does_not_take_two_states_is_an_error():
    cell = CellGenotype(((Edge("skip_connect", 0),),), (1,), num_inputs=1)
    with pytest.raises(ValueError, match=r"feeds two states to a cell, the genotype takes \{'norm"):
        DerivedNet(Genotype({"normal": cell}), Layout(4, 1, 5, reductions=()))


def test_an_unknown_stem_is_an_error():
    with pytest.raises(ValueError, match="stem must be one of 'cifar', 'imagenet', got 'mnist'"):
        DerivedNet.build(Genotype.load("DARTS_V2"), stem="mnist")


def test_impossible_numbers_are_the_layouts_errors():
    with pytest.raises(ValueError, match=r"net\.layers must be at least 3, got 2"):
        DerivedNet.build(Genotype.load("DARTS_V2"), layers=2)


# NAS-Bench-201


def arch(*names: str) -> Genotype:
    """A cell of that space, its six operations in the order of its edges."""
    a, b, c, d, e, f = names * (6 // len(names))
    return Genotype.from_arch_string(f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("nor_conv_3x3", 1_531_546), ("none", 73_306), ("skip_connect", 73_306)],
)
def test_nas_bench_201_networks_have_their_published_size(name: str, parameters: int):
    """C=16, N=5, 10 classes: Dong and Yang 2020, the benchmark's own figures."""
    net = DerivedNet.build(arch(name), channels=16, layers=17, auxiliary=False)
    assert count_parameters(net) == parameters


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize(
    "genotype",
    [
        arch(
            "nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3"
        ),
        arch("none"),
        arch("none", "none", "none", "skip_connect", "none", "none"),
    ],
    ids=Genotype.to_arch_string,
)
@pytest.mark.parametrize("training", [True, False])
def test_nas_bench_201_networks_are_their_definition(
    genotype: Genotype, size: tuple[int, int], training: bool
):
    net = DerivedNet.build(genotype, channels=4, layers=5, num_classes=3, auxiliary=False).double()
    for images in (torch.randn(3, 3, *size, dtype=torch.float64) for _ in range(2)):
        assert_close(net.train(training)(images), derived_logits(net, images))


# In other people's training loops


@pytest.mark.parametrize("genotype", [Genotype.load("DARTS_V2"), arch("nor_conv_3x3")])
def test_features_and_head_make_the_network(genotype: Genotype):
    layers = 5 if len(genotype.cells) == 1 else 3
    net = DerivedNet.build(genotype, channels=4, layers=layers, num_classes=3).double().eval()
    x = images(2)
    features = net.forward_features(x)  # [2, 64, 2, 2] of DARTS_V2
    assert features.shape == (2, net.num_features, 2, 2)
    assert net.num_features == net.get_classifier().in_features
    assert_close(net.forward_head(features), net(x), **BITWISE)
    pooled = net.forward_head(features, pre_logits=True)
    assert_close(net.get_classifier()(pooled), net(x), **BITWISE)


def test_features_do_not_run_the_auxiliary_head():
    net = small(Genotype.load("DARTS_V2"), auxiliary=True)
    net.auxiliary.register_forward_hook(lambda head, args, y: pytest.fail("it ran"))
    net.train().forward_features(images())


def test_another_classifier_takes_the_same_features():
    net = small(Genotype.load("DARTS_V2"), auxiliary=True).eval()
    x = images()
    before = net.forward_features(x)
    net.reset_classifier(9)
    assert_close(net.forward_features(x), before, **BITWISE)
    assert net.num_classes == net.layout.num_classes == 9 and net.auxiliary is None
    assert net(x).shape == (3, 9) and net.get_classifier().weight.dtype is torch.float64
    net.reset_classifier(0)
    assert net.num_classes == 0
    assert_close(net(x), net.forward_features(x).mean(dim=(2, 3)), **BITWISE)


def test_a_classifier_of_one_class_is_an_error():
    with pytest.raises(ValueError, match=r"net\.num_classes must be at least 2, got 1"):
        small(Genotype.load("DARTS_V2")).reset_classifier(1)
