"""Penalties and perturbations from the command line, and the methods made of them."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from darts_gdas.config import SearchConfig, fingerprint, register, typed
from darts_gdas.nets import DerivedNet, Quantity, count_parameters
from darts_gdas.runtime.distributed import ALONE
from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.signals import StopRequest
from darts_gdas.runtime.task import Progress
from darts_gdas.runtime.terminal import PhaseLine, Terminal, Verbosity
from darts_gdas.runtime.work import Work
from darts_gdas.search import (
    AdversarialPerturbation,
    BetaDecay,
    Concrete,
    Cost,
    Dirichlet,
    DirichletKL,
    Linear,
    RandomPerturbation,
    Sigmoid,
    Softmax,
    ZeroOne,
)
from darts_gdas.search.affordable import most_probable
from darts_gdas.space import Genotype
from darts_gdas.tasks.conclusion import conclude

CONF = Path(__file__).parents[2] / "conf"
register()
TINY = ("net.channels=2", "batch_size=8", "dataset.test_fraction=0.9")
COST = ("penalties=[cost]", "penalties.cost.target=1e6")
NEW = ("snas", "fair_darts", "drnas", "sdarts_rs", "sdarts_adv", "beta_darts")


def search_config(*overrides: str) -> SearchConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("search", list(overrides)), SearchConfig)


def test_the_new_methods_have_their_papers_numbers():
    snas, fair, drnas, rs, adv, beta = (
        search_config(f"method={name}", "dataset=cifar10") for name in NEW
    )
    assert snas.relaxation == Concrete(Linear(1.0, 0.03)) and snas.epochs == 150
    assert fair.relaxation == Sigmoid() and fair.penalties == {"zero_one": ZeroOne(10.0)}
    assert (fair.optimizer.lr, fair.arch_optimizer.lr, fair.batch_size) == (0.005, 3e-3, 128)
    assert fair.arch_optimizer.betas == (0.9, 0.999)
    assert drnas.relaxation == Dirichlet() and drnas.penalties == {
        "dirichlet_kl": DirichletKL(1e-3)
    }
    assert (drnas.epochs, drnas.arch_optimizer.weight_decay) == (100, 0.0)
    epsilon = Linear(0.03, 0.3)
    assert rs.perturbation == RandomPerturbation(epsilon, renormalize=True)
    assert adv.perturbation == AdversarialPerturbation(epsilon, renormalize=True, steps=7)
    assert beta.penalties == {"beta_decay": BetaDecay(Linear(0.0, 50.0))}
    darts = search_config("method=darts", "dataset=cifar10")
    for config in (rs, adv, beta):
        assert config.relaxation == Softmax()
        assert (config.epochs, config.optimizer) == (darts.epochs, darts.optimizer)
        assert config.arch_optimizer == darts.arch_optimizer


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("method", NEW)
def test_every_new_method_takes_two_steps_on_both_spaces(method: str, space: str):
    small = ("space.num_nodes=1", "net.layers=3") if space == "darts" else ("net.layers=5",)
    task = search_config(f"method={method}", f"space={space}", *TINY, *small).build()
    for step in range(2):
        metrics = task.train_step(Progress(step, 2, 0, task.steps_per_epoch))
        assert all(torch.isfinite(value) for value, _ in metrics.values())
    assert {"beta_darts": "penalty/beta_decay", "drnas": "penalty/dirichlet_kl",
            "fair_darts": "penalty/zero_one"}.get(method, "train/loss") in metrics  # fmt: skip
    assert set(task.genotype().cells) == set(task.space.cells)


def test_nothing_is_configured_by_default():
    for method in ("darts", "darts_2nd", "gdas"):
        config = search_config(f"method={method}")
        assert config.penalties == {} and config.perturbation is None


def test_several_penalties_stand_side_by_side():
    config = search_config(
        "method=fair_darts", "penalties=[zero_one,cost]", "penalties.cost.target=1e6",
        "penalties.cost.quantity=multiply_adds", "penalties.zero_one.weight=2",
    )  # fmt: skip
    assert config.penalties == {
        "zero_one": ZeroOne(2.0), "cost": Cost(1e6, Quantity.multiply_adds),
    }  # fmt: skip


def test_a_methods_penalty_or_perturbation_can_be_switched_off():
    assert search_config("method=fair_darts", "penalties=[]").penalties == {}
    assert search_config("method=sdarts_rs", "perturbation=none").perturbation is None
    other = search_config("method=sdarts_rs", "perturbation=adversarial", "perturbation.steps=2")
    assert other.perturbation == AdversarialPerturbation(steps=2)


def test_a_target_is_for_the_whole_network():
    """The fixed part counts: the mean cost lies between the smallest and the largest network's."""
    config = search_config("space=nasbench201", *COST, *TINY, "method=darts")
    task = config.build()
    penalty = task.current.method.penalties["cost"]
    assert isinstance(penalty, Cost) and penalty.table is not None
    genotype = task.genotype()
    net = DerivedNet(genotype, task.current.supernet.layout)
    assert penalty.table.of(genotype) == count_parameters(net)


def test_a_target_can_be_for_the_network_to_be_retrained():
    overrides = ("method=darts", *COST, "penalties.cost.channels=6", "penalties.cost.layers=4")
    task = search_config(*overrides, *TINY).build()
    penalty = task.current.method.penalties["cost"]
    assert isinstance(penalty, Cost) and penalty.table is not None
    genotype = task.genotype()
    net = DerivedNet.build(genotype, channels=6, layers=4, in_channels=1, auxiliary=False)
    assert penalty.table.of(genotype) == count_parameters(net)


def test_a_share_is_one_of_what_the_operations_of_the_dearest_network_cost():
    """Two routes: the network of 3x3 convolutions alone, less that of nothing, counted whole."""
    overrides = (
        "method=darts",
        "space=nasbench201",
        "penalties=[cost]",
        "penalties.cost.share=0.5",
    )
    task = search_config(*overrides, *TINY).build()
    penalty, layout = task.current.method.penalties["cost"], task.current.supernet.layout
    assert isinstance(penalty, Cost)

    def parameters(op: str) -> int:
        cell = "+".join("|" + "".join(f"{op}~{i}|" for i in range(n)) for n in (1, 2, 3))
        return count_parameters(DerivedNet(Genotype.from_arch_string(cell), layout))

    none, dearest = parameters("none"), parameters("nor_conv_3x3")
    assert penalty.limit == none + (dearest - none) / 2
    dear = Genotype.from_arch_string(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|none~2|"
    )
    fits = Genotype.from_arch_string(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
    )
    assert penalty.allows(fits) and not penalty.allows(dear)


def test_what_a_search_finds_meets_the_target_whatever_its_alphas_say():
    """Alphas that favour the dearest operation: ArgMax alone is too dear, the answer is not."""
    share = ("penalties=[cost]", "penalties.cost.share=0.3")
    task = search_config("method=darts", "space=nasbench201", *share, *TINY).build()
    search = task.current
    names = task.space.cells["normal"].candidates[0]
    with torch.no_grad():
        search.alphas.logits["normal"][:, names.index("nor_conv_3x3")] = 3.0
    penalty = search.method.penalties["cost"]
    assert isinstance(penalty, Cost)
    free = search.method.discretizer(search.expected(), task.space)
    assert set(free.operations) == {"nor_conv_3x3"} and not penalty.allows(free)
    assert penalty.allows(task.genotype())
    assert count_parameters(DerivedNet(task.genotype(), search.supernet.layout)) <= penalty.limit
    # Three tenths of six equal edges are one of the favourites and more.
    assert [edge.op for node in task.genotype().cells["normal"].nodes for edge in node].count(
        "nor_conv_3x3"
    ) == 1


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_what_a_search_finds_meets_the_target_and_the_limit_of_skips(share: float):
    """Alphas that favour skips, then the dearest operation: neither is what both limits leave."""
    small = ("space.num_nodes=2", "net.layers=3", *TINY)
    limits = ("penalties=[cost]", f"penalties.cost.share={share}", "discretizer.max_skips=0")
    task = search_config("method=darts", *small, *limits).build()
    search = task.current
    names = task.space.cells["normal"].candidates[0]
    with torch.no_grad():
        search.alphas.logits["normal"][:, names.index("skip_connect")] = 3.0
        search.alphas.logits["normal"][:, names.index("sep_conv_5x5")] = 2.0
    penalty = search.method.penalties["cost"]
    assert isinstance(penalty, Cost)
    assert not penalty.allows(search.method.discretizer(search.expected(), task.space))
    assert penalty.allows(task.genotype())
    normal = task.genotype().cells["normal"]
    assert "skip_connect" not in [edge.op for node in normal.nodes for edge in node]


def test_a_tight_target_that_no_draw_meets_is_met_as_the_alphas_would():
    """Cells without any weight: few enough that 200 draws miss them."""
    small = ("space.num_nodes=3", "net.layers=3", *TINY)
    tight = ("penalties=[cost]", "penalties.cost.share=1e-6", "discretizer=best_of_draws")
    task = search_config("method=darts", *small, *tight, "discretizer.count=1").build()
    work = Work(PhaseLine(Terminal(Verbosity.quiet)), StopRequest(), ALONE, str)
    conclude(task, work, lambda state: Journal(None, state))
    penalty = task.current.method.penalties["cost"]
    assert isinstance(penalty, Cost) and penalty.table is not None
    limit, mixture = penalty.allowed, task.current.expected()
    assert task.answer == most_probable(mixture, penalty.table, limit)
    assert penalty.table.of(task.answer) == penalty.table.smallest


@pytest.mark.parametrize("change", [("penalties.cost.target=2e6",), ("penalties=[]",)], ids=str)
def test_the_fingerprint_knows_the_penalties(change: tuple[str, ...]):
    base = ("method=darts", *COST)
    changed = ("method=darts", *change) if "penalties=[]" in change else (*base, *change)
    assert fingerprint(search_config(*base)) != fingerprint(search_config(*changed))


REFUSED = [
    (["method=darts", "penalties=[zero_one]"], "penalties.zero_one .* needs relaxation=sigmoid"),
    (
        ["method=darts", "penalties=[dirichlet_kl]"],
        "=softmax: .* needs relaxation=dirichlet",
    ),
    (
        ["method=fair_darts", "penalties=[beta_decay]"],
        "=sigmoid: it holds a softmax's inputs",
    ),
    (
        ["method=drnas", "penalties=[beta_decay]"],
        "=dirichlet: it holds a softmax's inputs",
    ),
    (["method=gdas", "perturbation=random"], "relaxation=gumbel_hard runs one per edge"),
    (["method=random_ws", "perturbation=random"], "relaxation=uniform runs one per edge"),
    (["method=random_ws", "penalties=[beta_decay]"], "never steps; use penalties=\\[\\]$"),
    (
        ["method=random_ws", "penalties=[cost]", "penalties.cost.target=1e6"],
        "discretizer=best_of_samples does not ask it; use .* or penalties=\\[\\]$",
    ),
    (
        ["method=darts_pt", *COST],
        "^penalties.cost limits which cells may be found, and discretizer=perturbation does not "
        "ask it; use discretizer=argmax or best_of_draws, or penalties=\\[\\]$",
    ),
    (["method=fair_darts", "perturbation=random"], "perturbation.renormalize=true makes rows"),
    (["method=sdarts_adv", "compile=cuda_graphs"], "perturbation=adversarial several"),
    (["penalties=[cost]", "penalties.cost.target=0"], "penalties.cost.target must be positive"),
    (["penalties=[cost]", "penalties.cost.share=null"], "needs a target or a share, got null"),
    (["penalties=[cost]", "penalties.cost.share=1.5"], r"share must lie in \(0, 1\], got 1.5"),
    ([*COST, "penalties.cost.weight=-1"], "penalties.cost.weight must be positive, got -1"),
    ([*COST, "penalties.cost.channels=0"], "penalties.cost.channels must be at least 1, got 0"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=lambda case: str(case)[:50])
def test_combinations_without_meaning_are_refused(overrides: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        search_config(*overrides)


def test_a_target_that_no_cell_meets_is_refused_before_any_work():
    config = search_config("method=darts", "penalties=[cost]", "penalties.cost.target=10", *TINY)
    with pytest.raises(ValueError, match=r"penalties\.cost\.target=10 cannot be met: the smallest"):
        config.build()


def test_a_network_that_cannot_be_is_refused_with_its_key():
    config = search_config("method=darts", *COST, "penalties.cost.layers=2", *TINY)
    with pytest.raises(ValueError, match=r"^penalties\.cost\.layers=2: net\.layers"):
        config.build()
