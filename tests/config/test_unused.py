"""What was typed and has no effect: an error, a warning, or nothing to say."""

import pytest
from hydra import initialize_config_dir

from darts_gdas.config import ScoreConfig, said_values
from darts_gdas.config.unused import left_out, of_cells, of_judge, of_limit, without_effect
from darts_gdas.search import FirstOrder, LayerAlignment
from tests.test_config import CONF, options, search_config


def told(*overrides: str) -> list[str]:
    config, said = search_config(*overrides), said_values(overrides)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [*without_effect(config, said), *left_out(config, said)]


EPOCHS = (
    "epochs=5 train weights that discretizer={} does not ask here; epochs=0 finds the same cell "
    "at once"
)
WARNED = {
    "method=random epochs=5": EPOCHS.format("best_of_samples"),
    "method=te_nas perturbation=random operation_stop.threshold=0.4 arch_optimizer.lr=5": (
        "epochs=0 takes no step, so what has no effect is perturbation=random, "
        "operation_stop.threshold=0.4, arch_optimizer.lr=5"
    ),
    "method=te_nas penalties=[beta_decay] optimizer/schedule=decay": (
        "epochs=0 takes no step, so what has no effect is penalties=[beta_decay], "
        "optimizer/schedule=decay"
    ),
    "method=random_ws arch_optimizer.lr=0.1": (
        "order=weights_only takes no arch step, so what has no effect is arch_optimizer.lr=0.1"
    ),
    "method=lambda_darts space=chain": (
        "hypergradient=layer_alignment has no effect: it aligns the cells of a kind, and the "
        "network has one of each; hypergradient=first_order does the same in less time"
    ),
    "method=beta_darts penalties=[cost] penalties.cost.share=0.5": (
        "penalties=[cost] takes the place of beta_decay, which method=beta_darts has; "
        "penalties=[cost,beta_decay] has both"
    ),
    "relaxation=softmax penalties=[beta_decay]": (
        "penalties=[beta_decay] takes the place of cost, which method=ntk_gdas has; "
        "penalties=[beta_decay,cost] has both"
    ),
    "method=drnas penalties=[cost] penalties.cost.share=0.5": (
        "penalties=[cost] takes the place of dirichlet_kl, which method=drnas has; "
        "penalties=[cost,dirichlet_kl] has both"
    ),
}


@pytest.mark.parametrize("overrides", WARNED)
def test_what_a_sweep_may_set_for_all_is_warned_of(overrides: str):
    assert told(*overrides.split()) == [WARNED[overrides]]


@pytest.mark.parametrize(
    "overrides",
    [
        "method=te_nas penalties=[cost] penalties.cost.share=0.5",  # limits the answer
        "method=te_nas penalties=[cost,beta_decay]",
        "method=te_nas epochs=5 perturbation=random",
        "method=beta_darts penalties=[cost,beta_decay] penalties.cost.share=0.5",
        "method=beta_darts penalties=[]",
        "penalties=[]",
        "penalties.cost.target=9000",
        "method=darts penalties=[cost] penalties.cost.share=0.5",
        "method=evolution epochs=0 discretizer/judge=untrained",
        "method=evolution epochs=0 discretizer/judge=untrained penalties=[]",
        "method=random_ws epochs=5 optimizer.lr=0.1",
    ],
)
def test_what_has_an_effect_is_passed_over(overrides: str):
    assert told(*overrides.split()) == []


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_a_methods_own_idle_parts_are_passed_over(space: str, dataset: str):
    for method in options("method"):
        assert told(f"method={method}", f"space={space}", f"dataset={dataset}") == []


def test_epochs_for_a_judge_that_asks_no_weights_are_an_error():
    """Where the judge was typed: a preset's epochs beside a method's own judge are a warning."""
    typed = ("method=evolution", "discretizer/judge=untrained", "epochs=5")
    config = search_config(*typed)
    assert list(of_judge(config, said_values(typed))) == [
        "epochs=5 train weights that discretizer/judge=untrained does not ask; set epochs=0"
    ]
    assert list(of_judge(config, {"method": "my_evolution"})) == []
    assert list(without_effect(config, {})) == [EPOCHS.format("evolution")]
    for fine in (("epochs=0",), ("discretizer/judge=shared_weights",)):
        assert not list(of_judge(search_config(*typed, *fine), said_values([*typed, *fine])))


def test_cells_are_aligned_where_a_kind_is_there_twice():
    assert LayerAlignment().fits({"normal": 1, "reduce": 2}) is None
    reason = LayerAlignment().fits({"normal": 1, "reduce": 1})
    assert reason == "it aligns the cells of a kind, and the network has one of each"
    assert FirstOrder().fits({"normal": 1}) is None


def test_of_two_limits_that_were_typed_none_is_passed_over():
    two = {"penalties.cost.target": "9000", "penalties.cost.share": "0.5"}
    (text,) = of_limit(two)
    assert text.startswith("penalties.cost.target=9000 and penalties.cost.share=0.5 both say")
    for one in ({"penalties.cost.target": "9"}, two | {"penalties.cost.share": "null"}, {}):
        assert not list(of_limit(one))


def test_a_file_of_cells_leaves_nothing_to_draw():
    """But the space of known accuracies is asked for."""
    said = {"cells": "FILE", "count": "8", "space": "nasbench201", "channels": "4"}
    config = ScoreConfig(cells="FILE")
    (text,) = of_cells(config, said)
    assert text == (
        "cells=FILE says what is scored, so what has no effect is count=8, space=nasbench201"
    )
    config.benchmark = "TABLE"
    (text,) = of_cells(config, said)
    assert text.endswith("no effect is count=8")
    assert not [*of_cells(ScoreConfig(), said)]
