"""Every choice composes, carries its paper's numbers, and the fingerprint tells runs apart."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from darts_gdas.config import (
    SearchConfig,
    TrainConfig,
    fingerprint,
    register,
    typed,
)
from darts_gdas.runtime.datasets import Cifar10, Cifar100, Digits
from darts_gdas.runtime.formats import Torchvision
from darts_gdas.runtime.optim import SGD, Adam, Cosine, Decay
from darts_gdas.runtime.task import Progress
from darts_gdas.search import FirstOrder, GumbelHard, Linear, Softmax, Unrolled, UnrolledExact
from darts_gdas.space import CellSpace, Genotype, SearchSpace
from darts_gdas.tasks.initial import small_layout
from darts_gdas.tasks.method import Order

CONF = Path(__file__).parents[1] / "conf"
register()


def search_config(*overrides: str) -> SearchConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("search", list(overrides)), SearchConfig)


def train_config(*overrides: str) -> TrainConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("train", list(overrides)), TrainConfig)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("dataset", options("dataset"))
@pytest.mark.parametrize("method", options("method"))
def test_every_method_composes_with_every_space_and_dataset(method: str, dataset: str):
    """Every two of the three together: the space changes from one data set to the next."""
    place = options("method").index(method) + options("dataset").index(dataset)
    space = ("darts", "nasbench201")[place % 2]
    search_config(f"method={method}", f"space={space}", f"dataset={dataset}")


def test_nas_bench_201_has_its_papers_numbers():
    config = search_config("space=nasbench201", "dataset=cifar10")
    assert config.space.build() == SearchSpace.named("nasbench201")
    layout = config.layout(num_classes=10, in_channels=3)
    assert (layout.channels, layout.kinds.count("normal")) == (16, 15)
    assert search_config("space=nasbench201").net.layers == 5  # on digits, one cell per stage
    small = search_config("space=nasbench201", "space.candidates=[none,skip_connect]")
    assert small.space.build().cells["normal"].num_cells == 2**6


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4"])
def test_the_spaces_of_robust_darts_are_chosen_by_name(name: str):
    config = search_config(f"space={name}", "method=darts", "net.channels=2", "batch_size=4",
                           "dataset.test_fraction=0.9")  # fmt: skip
    assert config.space.build() == SearchSpace.named(name)
    if name in ("s2", "s3"):  # nothing but fewer candidates
        return
    task = config.build()
    metrics = task.train_step(Progress(0, config.epochs, 0, task.steps_per_epoch))
    assert torch.isfinite(metrics["arch/loss"][0])


def test_a_space_of_ones_own_is_what_it_would_be_in_python():
    config = search_config(
        "warm_start=none",
        "space=custom",
        "space.normal={candidates: [[skip_connect], [none, noise], [skip_connect]], num_nodes: 2, "
        "predecessors: [[0, 1], [2]], keep: 1, derives_none: true, ends_in_last_node: true}",
        "space.reduce={candidates: [skip_connect, max_pool_3x3]}",
    )
    normal = CellSpace(
        (("skip_connect",), ("none", "noise"), ("skip_connect",)), 2, 2, 1, True, True,
        ((0, 1), (2,)),
    )  # fmt: skip
    reduce = CellSpace(("skip_connect", "max_pool_3x3"))  # type: ignore[arg-type]
    assert config.space.build() == SearchSpace({"normal": normal, "reduce": reduce})
    settings = json.loads(fingerprint(config))
    assert settings["space.normal.predecessors"] == [[0, 1], [2]]


def test_places_of_reductions_are_settings():
    config = search_config("space=darts", "net.layers=4", "net.reductions=[3,0]")
    layout = config.layout(num_classes=3, in_channels=1)
    assert layout.kinds == ("reduce", "normal", "normal", "reduce")
    assert train_config("net.reductions=[]").net.reductions == []


def test_a_network_without_reductions_needs_normal_cells_alone():
    """Its small networks for scores have none either."""
    config = search_config(
        "space=custom", "space.reduce=null", "space.normal={candidates: [none, skip_connect]}",
        "net.reductions=[]", "net.layers=2",
    )  # fmt: skip
    layout = config.layout(num_classes=2, in_channels=1)
    assert layout.kinds == ("normal", "normal")
    assert small_layout(layout, 2).kinds == ("normal",) * 3
    wider = search_config("net.layers=4").layout(num_classes=2, in_channels=1)
    assert small_layout(wider, 2).kinds == ("normal", "reduce", "reduce")


def test_a_block_that_changes_its_shape_has_the_candidates_that_can():
    config = search_config("space=chain", "space.reductions=[1]", "space.widths=[1,2,2,3,3,3]")
    layout = config.layout(num_classes=2, in_channels=1)
    assert [plan.channels for plan in layout.plan({})] == [8, 16, 16, 24, 24, 24]
    cells = config.space.build().cells
    skips = ["skip_connect" in cell.candidates[0] for cell in cells.values()]
    assert skips == [True, False, True, False, True, True]
    assert [cell.num_candidates for cell in cells.values()] == [7 if skip else 6 for skip in skips]


def test_every_block_may_have_a_list_of_its_own():
    rows = "[[skip_connect],[mbconv3_3x3,mbconv6_3x3],[skip_connect,mbconv3_5x5]]"
    config = search_config(
        "space=chain", "net.layers=3", "space.reductions=[1]", f"space.candidates={rows}"
    )
    names = [cell.candidates[0] for cell in config.space.build().cells.values()]
    assert names == [
        ("skip_connect",), ("mbconv3_3x3", "mbconv6_3x3"), ("skip_connect", "mbconv3_5x5"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["space.candidates=[[skip_connect],[mbconv3_3x3]]"], "one such list for each of 6 blocks"),
        (["space.candidates=[mbconv3_3x3,[mbconv3_3x3]]"], "one such list for each of 6 blocks"),
        (
            ["net.layers=3", "space.candidates=[[skip_connect],[skip_connect],[mbconv3_3x3]]"],
            r"block 1 changes channels or resolution, so it cannot be one of \['skip_connect'\]",
        ),
        (["space.candidates=[skip_connect]"], "must offer something besides"),
        (["space.candidates=[mbconv4_3x3]"], r"names unknown operations \['mbconv4_3x3'\]"),
        (["space.candidates=[mbconv3_3x3,none]"], "there is no way around a block"),
        (["method=pdarts", "discretizer.max_skips=null"],
         r"stages\.1: net\.layers must be 6, got 5"),
        (["space.reductions=[6]"], r"space\.reductions must be distinct and lie in 0\.\.5"),
        (["net.reductions=[2]"], r"net\.reductions must be left out, got \[2\].*space\.reductions"),
        (["net.stem=imagenet"], "has its own stem"),
        (["discretizer.max_skips=1"],
         r"discretizer\.max_skips=1 is for normal cells, and the space has none; leave it out"),
        (["space.widths=[1,2]"], r"space\.widths must hold one number >= 1 for each of 6 blocks"),
    ],
)  # fmt: skip
def test_chains_that_cannot_be_are_errors(overrides: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        search_config("space=chain", *overrides)


@pytest.mark.parametrize("dataset", options("dataset"))
def test_retraining_composes_with_every_dataset(dataset: str):
    train_config(f"dataset={dataset}")


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes(experiment: str):
    train_config(f"+experiment={experiment}")


def test_darts_has_its_papers_numbers():
    """Liu et al., section 3.1.1 (FACTS: batch 64, 50 epochs, C=16, 8 cells)."""
    config = search_config("method=darts", "dataset=cifar10")
    assert (config.epochs, config.batch_size) == (50, 64)
    assert (config.net.channels, config.net.layers) == (16, 8)
    sgd, adam = config.optimizer, config.arch_optimizer
    assert (sgd.lr, sgd.momentum, sgd.nesterov, sgd.weight_decay, sgd.clip) == (
        0.025, 0.9, False, 3e-4, 5.0,
    )  # fmt: skip
    assert sgd.schedule == Cosine(end=0.001)
    assert (adam.lr, adam.betas, adam.weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert config.order is Order.arch_first
    assert config.relaxation == Softmax() and config.hypergradient == FirstOrder()
    assert config.weights_fraction == 0.5


def test_gdas_has_its_papers_numbers():
    config = search_config("method=gdas", "dataset=cifar10")
    assert (config.epochs, config.batch_size, config.optimizer.nesterov) == (250, 64, True)
    assert config.relaxation == GumbelHard(tau=Linear(10.0, 0.1))
    assert config.order is Order.weights_first


def test_gdas_frc_is_gdas_in_a_space_with_a_fixed_reduction_cell():
    plain, fixed = (
        json.loads(fingerprint(search_config(f"method={name}"))) for name in ("gdas", "gdas_frc")
    )
    changed = {key for key in plain.keys() | fixed.keys() if plain.get(key) != fixed.get(key)}
    assert changed == {"space.fixed_reduction"}
    space = search_config("method=gdas_frc").space.build()
    assert list(space.cells) == ["normal"]
    assert space.fixed == {"reduce": Genotype.load("GDAS_FRC").cells["reduce"]}


@pytest.mark.parametrize("method", ["gdas_frc", "pc_darts", "darts_pt", "random_ws", "darts_2nd"])
def test_every_kind_of_search_takes_steps_with_a_fixed_reduction_cell(method: str):
    """Only normal alphas exist, and the result is whole: it can be retrained."""
    config = search_config(
        f"method={method}", "space=darts_frc", "batch_size=4", "net.channels=8",
        "dataset.test_fraction=0.9", "space.num_nodes=1",
    )  # fmt: skip
    task = config.build()
    assert [tuple(p.shape) for p in task.current.alphas.parameters() if p.dim() > 1] == [(2, 8)]
    for epoch in range(2):
        metrics = task.train_step(Progress(epoch, config.epochs, 0, task.steps_per_epoch))
        assert torch.isfinite(metrics["train/loss"][0])
    genotype = task.genotype()
    assert genotype.cells["reduce"] == Genotype.load("GDAS_FRC").cells["reduce"]
    assert train_config("dataset=digits", "net.channels=2", "net.layers=3").build(genotype)


def test_pc_darts_has_its_papers_numbers():
    """Xu et al., section 4.2 (FACTS: K=4, batch 256, lr 0.1 -> 0, A lr 6e-4, frozen 15 of 50)."""
    config = search_config("method=pc_darts", "dataset=cifar10")
    assert (config.epochs, config.batch_size, config.arch_warmup_epochs) == (50, 256, 15)
    assert config.partial_channels == 4 and config.edge_normalization
    assert (config.net.channels, config.net.layers) == (16, 8)
    assert config.optimizer == SGD(0.1, 0.9, False, 3e-4, 5.0, Cosine(end=0.0))
    assert config.arch_optimizer == Adam(6e-4, (0.5, 0.999), 1e-3)
    assert config.relaxation == Softmax() and config.hypergradient == FirstOrder()


@pytest.mark.parametrize(
    ("space", "relaxation"), [("darts", "softmax"), ("nasbench201", "gumbel_hard")]
)
def test_pc_darts_takes_steps_on_every_space(space: str, relaxation: str):
    config = search_config(
        "method=pc_darts", f"space={space}", f"relaxation={relaxation}", "batch_size=4",
        "dataset.test_fraction=0.9",
    )  # fmt: skip
    task = config.build()
    alphas = list(task.current.alphas.parameters())
    before = [p.clone() for p in alphas]
    for epoch in (14, 15):  # the last without and the first with a step of the alphas
        metrics = task.train_step(Progress(epoch, config.epochs, 0, task.steps_per_epoch))
        loss, count = metrics["train/loss"]
        assert torch.isfinite(loss) and count == 4
        moved = [not torch.equal(p, q) for p, q in zip(before, alphas, strict=True)]
        assert any(moved) == (epoch == 15)
    assert task.genotype().cells["normal"].num_inputs == (2 if space == "darts" else 1)


def test_the_second_order_is_darts_with_another_hypergradient():
    assert search_config("method=darts_2nd").hypergradient == Unrolled(epsilon=0.01)
    exact = search_config("method=darts_2nd", "hypergradient=unrolled_exact")
    assert exact.hypergradient == UnrolledExact()
    first, second = (
        json.loads(fingerprint(search_config(f"method={name}"))) for name in ("darts", "darts_2nd")
    )
    changed = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    assert changed == {"hypergradient", "hypergradient.epsilon"}


@pytest.mark.parametrize("method", options("method"))
def test_the_digits_preset_scales_without_touching_the_method(method: str):
    paper, digits = (
        json.loads(fingerprint(search_config(f"method={method}", f"dataset={dataset}")))
        for dataset in ("image_folder", "digits")
    )
    scale = ("epochs", "batch_size", "threads", "net.", "dataset")
    of_stages = (".epochs", ".arch_warmup_epochs", ".layers", ".channels")
    changed = {key for key in paper if paper[key] != digits.get(key)}
    method = {key for key in changed if not key.startswith(scale)}
    assert changed and all(key.startswith("stages.") and key.endswith(of_stages) for key in method)


def test_methods_mix_on_the_command_line():
    config = search_config("method=gdas", "relaxation=softmax", "optimizer/schedule=decay")
    assert config.relaxation == Softmax() and config.optimizer.schedule == Decay()


def test_a_small_set_scales_what_a_space_and_a_method_need_beside_it():
    """Whatever the order on the command line; another set of images leaves the papers' numbers."""
    for given in (("space=nasbench201", "method=te_nas"), ("method=te_nas", "space=nasbench201")):
        config = search_config(*given)
        assert (config.epochs, config.net.channels, config.net.layers) == (0, 8, 5)
        config = search_config(*given, "dataset=cifar10")
        assert (config.epochs, config.net.channels, config.net.layers) == (0, 16, 17)
    assert [stage.epochs for stage in search_config("method=pdarts").stages] == [3, 3, 3]
    assert search_config("method=pdarts", "dataset=cifar10").stages[0].epochs == 25


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_retraining_has_the_papers_numbers(name: str):
    config = train_config(f"dataset={name}")
    assert (config.epochs, config.batch_size) == (600, 96)
    assert (config.net.channels, config.net.layers) == (36, 20)
    assert config.optimizer.schedule == Cosine(end=0.0) and config.optimizer.lr == 0.025
    kind = {"cifar10": Cifar10, "cifar100": Cifar100}[name]
    assert isinstance(config.dataset, kind) and config.dataset.augment.cutout == 16
    assert (config.regularization.auxiliary_weight, config.regularization.drop_path) == (0.4, 0.2)


def test_digits_are_the_default():
    assert isinstance(search_config().dataset, Digits)
    assert isinstance(train_config().dataset, Digits)


def test_the_fingerprint_tells_apart_what_changes_results_and_nothing_else():
    base = fingerprint(search_config())
    for same in ("device=cpu", "threads=2", "run_dir=x", "resume=auto", "outputs=elsewhere"):
        assert fingerprint(search_config(same)) == base, same
    for other in ("seed=1", "relaxation=softmax", "dataset=cifar10", "net.stem=imagenet"):
        assert fingerprint(search_config(other)) != base, other
    cifar = [fingerprint(search_config(f"dataset=cifar{n}")) for n in (10, 100)]
    assert cifar[0] != cifar[1]


@pytest.mark.parametrize(
    "typed",
    [
        ["dataset.options={split: letters,partition: 2}"],
        ["dataset.options.split=letters", "+dataset.options.partition=2"],
        ["dataset.options={split: digits,partition: 2}", "dataset.options.split=letters"],
    ],
    ids=str,
)
def test_names_in_a_mapping_are_the_users_own(typed: list[str]):
    dataset = search_config("dataset=torchvision", *typed).dataset
    assert isinstance(dataset, Torchvision)
    assert dataset.options == {"split": "letters", "partition": 2}


@pytest.mark.parametrize("program", ["search", "train"])
def test_critical_weights_have_a_variance_of_two_over_their_fan_in(program: str):
    """He et al.: chi_1 = 1 for ReLU; k^2 inputs for a depthwise kernel."""
    tiny = ("dataset=digits", "net.channels=16", "net.layers=3", "net.initialization=critical")
    if program == "search":
        net = search_config(*tiny).build().current.supernet
    else:
        net = train_config(*tiny).build(Genotype.load("DARTS_V2")).net
    scaled: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            scaled[weight.shape[1] == 1].append((weight * weight[0].numel() ** 0.5).flatten())
    for weights in map(torch.cat, scaled.values()):
        five_sigma = 5 * (2 * 2.0**2 / len(weights)) ** 0.5  # of a mean of squared normals
        assert weights.square().mean().item() == pytest.approx(2.0, abs=five_sigma)
