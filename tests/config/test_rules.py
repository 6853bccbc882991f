"""Methods beyond their steps: what they are, that they run, and which mixtures make no sense."""

import json
import random
from dataclasses import dataclass, replace

import pytest
import torch

from darts_gdas.config import fingerprint
from darts_gdas.config.rules import of_network
from darts_gdas.nets import DerivedNet, Layout
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.distributed import ALONE
from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.signals import StopRequest
from darts_gdas.runtime.task import Progress
from darts_gdas.runtime.terminal import PhaseLine, Terminal, Verbosity
from darts_gdas.runtime.work import Work
from darts_gdas.search import (
    ArgMax,
    BestOfSamples,
    Concrete,
    Dirichlet,
    Evolution,
    FirstOrder,
    GumbelHard,
    PerturbationSelection,
    RandomPerturbation,
    Relaxation,
    Sigmoid,
    Softmax,
    Uniform,
    Untrained,
)
from darts_gdas.space import CellGenotype, Edge, Genotype, SearchSpace
from darts_gdas.tasks.conclusion import conclude
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.method import Order
from tests.test_config import search_config

TINY = ("net.channels=2", "batch_size=16", "dataset.test_fraction=0.95")


def changed(method: str, other: str) -> set[str]:
    a, b = (json.loads(fingerprint(search_config(f"method={m}"))) for m in (method, other))
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def test_robust_darts_is_darts_with_an_early_stop_and_more_decay():
    """Zela et al.: k = 5, a ratio of 0.75, weight decay up to 81e-4."""
    assert changed("darts", "robust_darts") == {
        "optimizer.weight_decay",
        "diagnostics.eigenvalue_every",
        "diagnostics.stop_below",
    }
    config = search_config("method=robust_darts")
    assert config.optimizer.weight_decay == 81e-4
    assert config.diagnostics == Diagnostics(
        eigenvalue_every=1, stop_below=0.75, stop_window=5, stop_first_epoch=10
    )
    assert isinstance(config.discretizer, ArgMax)


def test_darts_pt_is_darts_with_another_discretizer():
    names = {"discretizer", "discretizer.tune_epochs", "discretizer.tune_lr"}
    assert changed("darts", "darts_pt") == names
    config = search_config("method=darts_pt")
    assert config.discretizer == PerturbationSelection(tune_epochs=5, tune_lr=0.025 / 10)
    assert search_config("method=darts_pt", "order=weights_only").order is Order.weights_only


def test_random_search_trains_paths_and_steps_no_alpha():
    config = search_config("method=random_ws", "dataset=cifar10")
    assert config.relaxation == Uniform() and config.hypergradient == FirstOrder()
    assert config.discretizer == BestOfSamples(count=1000)
    assert config.order is Order.weights_only and config.epochs == 50
    assert changed("random_ws", "random") == {"epochs", "discretizer.count"}
    assert search_config("method=random").epochs == 0


def test_nothing_is_measured_that_costs_unless_asked():
    for method in ("darts", "gdas", "darts_2nd", "darts_pt", "random_ws"):
        assert search_config(f"method={method}").diagnostics == Diagnostics()
    assert Diagnostics() == Diagnostics(eigenvalue_every=0, gap_every=0, stop_below=0.0)


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("method", ["robust_darts", "darts_pt", "random_ws", "random"])
def test_each_takes_two_steps_and_finds_a_cell_of_its_space(method: str, space: str):
    small = {"darts": ("net.layers=3", "space.num_nodes=1"), "nasbench201": ()}[space]
    choice = {"darts_pt": ("discretizer.tune_epochs=0",), "random_ws": ("discretizer.count=3",)}
    overrides = (f"method={method}", f"space={space}", *small, *TINY, *choice.get(method, ()))
    task = search_config(*overrides).build()
    if task.num_epochs > 0:
        for step in range(2):
            task.train_step(Progress(0, 1, step, 2))
        metrics = task.evaluate(Progress(0, 1, 2, 2))
        assert ("search/eigenvalue" in metrics) == (method == "robust_darts")
    work = Work(PhaseLine(Terminal(Verbosity.quiet)), StopRequest(), ALONE, str)
    conclude(task, work, lambda state: Journal(None, state))
    for kind, cell in task.space.cells.items():
        found = task.genotype().cells[kind]
        assert len(found.nodes) == cell.num_nodes and found.output == cell.output


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("epochs=0",), "only method=te_nas, method=random, and"),
        (("method=random_ws", "epochs=0"), "table or untrained, find a cell untrained"),
        (("method=te_nas", "discretizer=perturbation"), "epochs must be at least 1, got 0"),
        (
            ("method=darts", "relaxation=uniform"),
            "depends on no alpha, order=arch_first steps them",
        ),
        (("method=darts", "order=weights_only"), "leaves the alphas as they begin"),
        (
            ("method=darts_pt", "order=weights_only", "hypergradient=unrolled"),
            "takes no arch step, so the hypergradient has no effect",
        ),
        (("method=robust_darts", "discretizer=perturbation"), "an earlier epoch, a selection asks"),
        (("method=darts_pt", "compile=inductor"), "selections at the end take others"),
        (("method=darts", "diagnostics.gap_every=1", "compile=inductor"), "compile=inductor runs"),
        (("method=random_ws", "compile=inductor"), "relaxation=uniform runs others each time"),
        (("method=darts", "diagnostics.stop_below=0.75"), "no effect without the eigenvalue"),
        (
            ("method=random_ws", "warm_start=ntk"),
            "warm_start=ntk measures what the alphas begin with, which relaxation=uniform does not "
            "ask; set warm_start=none",
        ),
        (
            ("method=random", "warm_start=te_nas"),
            "which discretizer=best_of_samples does not ask; set warm_start=none",
        ),
        (
            ("method=random_ws", "edge_normalization=true"),
            "edge_normalization=true weighs edges by parameters that order=weights_only never "
            "steps; leave it out",
        ),
    ],
)
def test_what_makes_no_sense_together_is_refused(overrides: tuple[str, ...], message: str):
    with pytest.raises(Exception) as caught:
        search_config(*overrides)
    told = f"{caught.value} {caught.value.__cause__}"
    assert message in " ".join(told.split())


def test_an_untrained_search_without_alphas_is_still_te_nas():
    config = search_config("method=te_nas")
    assert config.epochs == 0 and config.relaxation == Softmax()


@dataclass
class Pair(Relaxation):
    """A user's own: the likelier of an edge's candidates alone, after noise. It states nothing."""

    def relax(self, logits, *, progress, rng):
        chosen = (logits + torch.rand(logits.shape, generator=rng)).argmax(-1)
        hard = torch.nn.functional.one_hot(chosen, logits.shape[-1]).to(logits)
        soft = logits.softmax(-1)
        return hard + soft - soft.detach(), tuple(chosen.tolist())

    def expectation(self, logits):
        return logits.softmax(-1)


def test_a_path_of_ones_own_is_known_without_being_stated():
    pair = Pair()
    assert pair.samples_one_path and pair.uses_alphas and pair.rows_are_distributions
    config = replace(search_config("method=darts"), relaxation=pair)
    with pytest.raises(ValueError, match="relaxation=Pair runs others each time"):
        replace(config, compile=Compilation.inductor)
    with pytest.raises(ValueError, match="relaxation=Pair runs one per edge"):
        replace(config, perturbation=RandomPerturbation())


def test_parts_say_what_they_are():
    parts = (Softmax(), Concrete(), GumbelHard(), Sigmoid(), Dirichlet(), Uniform())
    assert [p.samples_one_path for p in parts] == [False, False, True, False, False, True]
    assert [p.uses_alphas for p in parts] == [True, True, True, True, True, False]
    assert [p.rows_are_distributions for p in parts] == [True, True, True, False, True, True]
    assert [p.has_softmax for p in parts] == [True, True, True, False, False, False]


def test_the_fingerprint_of_a_search_without_penalties_is_that_of_old_checkpoints():
    found = json.loads(fingerprint(search_config("method=darts")))
    said = {key: value for key, value in found.items() if key.startswith("penalties")}
    names = ("zero_one", "beta_decay", "dirichlet_kl", "cost")
    assert said == {"penalties": "Penalties", **{f"penalties.{name}": None for name in names}}
    costly = search_config("method=darts", "penalties=[cost]", "penalties.cost.target=1e6")
    found = json.loads(fingerprint(costly))
    assert found["penalties.cost"] == "CostConfig" and found["penalties.cost.target"] == 1e6
    assert "penalties.cost.table" not in found


def test_relatives_of_darts_are_darts_with_another_part():
    assert changed("darts", "darts_minus") == {
        "relaxation", "relaxation.beta", "relaxation.beta.start", "relaxation.beta.end"
    }  # fmt: skip
    names = {"hypergradient", "hypergradient.weight", "hypergradient.step"}
    assert changed("darts", "lambda_darts") == names
    assert changed("darts", "oles") == {"operation_stop.threshold"}
    config = search_config("method=evolution", "discretizer/judge=untrained", "epochs=0")
    assert config.discretizer == Evolution(judge=Untrained()) and config.epochs == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method=evolution", "discretizer/judge=table"), "asks known accuracies; pass benchmark"),
        (
            ("method=evolution", "discretizer/judge=untrained", "discretizer.judge.score=foo"),
            "discretizer.judge.score must be distinct names out of",
        ),
        (("method=reinforce", "epochs=0"), "epochs must be at least 1, got 0"),
        (("method=darts_minus", "space.candidates=[none,sep_conv_3x3]"), "no edge of the space"),
        (("method=darts_minus", "perturbation=random"), "relaxation=auxiliary_skip are not"),
        (("method=lambda_darts", "accumulate=2"), "batches of hypergradient=layer_alignment"),
        (("method=lambda_darts", "precision=bf16"), "layer_alignment needs precision=fp32"),
        (("method=random_ws", "operation_stop.threshold=0.4"), "order=weights_only never takes"),
        (("method=oles", "compile=inductor"), "compile=inductor holds which weights learn"),
    ],
)
def test_relatives_refuse_what_they_cannot(overrides: tuple[str, ...], message: str):
    test_what_makes_no_sense_together_is_refused(overrides, message)


def test_edges_are_not_weighed_where_every_node_has_one():
    with pytest.raises(ValueError, match=r"edge_normalization=true weighs .* leave it out"):
        search_config("space=chain", "method=darts", "edge_normalization=true")


def test_what_has_no_effect_on_the_network_is_told():
    """A chain has its own number of layers; skip connections alone have no path to drop."""
    chain = SearchSpace.chain([["mbconv3_3x3"]] * 3, (1,), (1, 2, 2)).sample(random.Random(0))
    net = DerivedNet(chain, Layout.of(chain, 4, 9, 10, 1))
    assert list(of_network(net, {"net.layers": 3})) == list(of_network(net, {})) == []
    (told,) = of_network(net, {"net.layers": 9})
    assert told.startswith("net.layers=9 has no effect: the genotype is a chain of 3 blocks")
    skip = CellGenotype(((Edge("skip_connect", 1),),), output=(2,))
    skips = DerivedNet(Genotype({"normal": skip}), Layout(4, 3, 10, 1, reductions=()))
    (told,) = of_network(skips, {"regularization.drop_path": 0.2})
    assert told.startswith("regularization.drop_path=0.2 has no effect")
    darts = DerivedNet(Genotype.load("DARTS_V2"), Layout(4, 3, 10, 1))
    assert not list(of_network(darts, {"regularization.drop_path": 0.2, "net.layers": 3}))
