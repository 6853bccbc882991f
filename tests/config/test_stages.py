"""Progressive searches as configuration: the papers' numbers, and lists that make no sense."""

import json
import re
from dataclasses import replace

import pytest
import torch

from darts_gdas.config import SearchConfig, fingerprint
from darts_gdas.config.network import DartsSpace, PublishedSpace
from darts_gdas.config.stages import total_epochs
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.optim import SGD, Adam, Cosine
from darts_gdas.runtime.task import Progress
from darts_gdas.search import ArgMax, BestOfSamples, Cost, Dirichlet, FirstOrder, Softmax
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.method import Order, Stage
from tests.test_config import search_config

TINY = ("space.num_nodes=2", "net.channels=4", "batch_size=16", "dataset.test_fraction=0.95")
TWO = "stages=[{epochs: 1}, {epochs: 1, layers: 4, candidates: 3, skip_dropout: 0.5}]"


def test_pdarts_has_its_papers_numbers():
    """Chen et al., section 4.2: 5, 11, 17 cells; 8, 5, 3 candidates; dropout 0, 0.4, 0.7; M = 2."""
    config = search_config("method=pdarts", "dataset=cifar10")
    assert [(s.epochs, s.arch_warmup_epochs) for s in config.stages] == [(25, 10)] * 3
    assert [stage.layers for stage in config.stages] == [5, 11, 17]
    assert [stage.candidates for stage in config.stages] == [None, 5, 3]
    assert [stage.skip_dropout for stage in config.stages] == [0.0, 0.4, 0.7]
    assert (config.epochs, config.batch_size, config.net.channels) == (75, 96, 16)
    assert config.discretizer == ArgMax(max_skips=2)
    assert config.relaxation == Softmax() and config.hypergradient == FirstOrder()
    assert config.optimizer == SGD(0.025, 0.9, False, 3e-4, 5.0, Cosine(end=0.0))
    assert config.arch_optimizer == Adam(6e-4, (0.5, 0.999), 1e-3)


def test_progressive_drnas_has_its_papers_numbers():
    """Chen et al.: half of the operations leave, the network is widened twice (K 6 to 3)."""
    config = search_config("method=drnas_progressive", "dataset=cifar10")
    common = {"epochs": 25, "layers": 20, "channels": 36, "arch_warmup_epochs": 10}
    assert config.stages == [
        Stage(**common, partial_channels=6),
        Stage(**common, partial_channels=3, candidates=4),
    ]
    assert (config.epochs, config.batch_size) == (50, 64)
    assert config.relaxation == Dirichlet() and [*config.penalties] == ["dirichlet_kl"]
    assert config.optimizer == SGD(0.1, 0.9, False, 3e-4, 5.0, Cosine(end=0.0))
    assert config.arch_optimizer == Adam(6e-4, (0.5, 0.999), 0.0)


def test_epochs_follow_the_stages():
    assert search_config("method=pdarts", "dataset=cifar10", "stages.1.epochs=30").epochs == 80
    assert search_config("method=darts", "epochs=2", TWO).epochs == 2
    a, b = (json.loads(fingerprint(search_config("method=pdarts", f"stages.1.epochs={n}")))
            for n in (4, 7))  # fmt: skip
    changed = {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
    assert changed == {"epochs", "stages.1.epochs"}


def test_a_stage_is_a_search_of_its_own_with_its_own_random_numbers():
    config = search_config("method=darts", "epochs=2", "seed=3", TWO)
    first, second = config.of_stage(0), config.of_stage(1)
    assert (first.epochs, first.net.layers, first.seed) == (1, config.net.layers, 3)
    assert (second.epochs, second.net.layers, second.net.channels) == (1, 4, config.net.channels)
    assert second.seed not in (3, search_config("method=darts", "epochs=2", TWO).of_stage(1).seed)


def test_stages_share_the_halves_of_the_data_and_nothing_else():
    task = search_config("method=darts", "epochs=2", TWO, *TINY).build()
    first = task.current
    for epoch in range(2):
        task.train_step(Progress(epoch, 2, 0, task.steps_per_epoch))
    second = task.current
    assert second is not first and second.supernet.layout.layers == 4
    assert task.data_digest == first.data.digest
    assert torch.equal(first.data.validation.images, second.data.validation.images)
    assert not torch.equal(
        first.data.weight_batches.batch(0)[0], second.data.weight_batches.batch(0)[0]
    )
    assert not torch.equal(first.noise.get_state(), second.noise.get_state())


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
@pytest.mark.parametrize("method", ["pdarts", "drnas_progressive"])
def test_each_method_goes_through_its_stages_on_every_space(method: str, space: str):
    small = {"darts": ("space.num_nodes=1",), "nasbench201": ()}[space]
    sizes = ("stages.0.channels=12", "stages.1.channels=12")
    config = search_config(f"method={method}", f"space={space}", *small, *sizes, *TINY[2:])
    task = config.build()
    epoch = 0
    for stage in config.stages:
        progress = Progress(epoch + stage.epochs - 1, task.num_epochs, 0, 1)
        metrics = task.train_step(progress)
        assert torch.isfinite(metrics["arch/loss"][0])
        task.evaluate(progress)
        epoch += stage.epochs
    left = task.current.space.cells["normal"].num_candidates
    assert left == min(config.stages[-1].candidates or 0, task.space.cells["normal"].num_candidates)
    assert task.current.supernet.partial_channels == config.stages[-1].partial_channels


@pytest.fixture(scope="module")
def pdarts() -> SearchConfig:
    return search_config("method=pdarts")


NO_SKIPS = DartsSpace(candidates=["none", "noise", "dil_conv_3x3", "sep_conv_3x3", "sep_conv_5x5"])


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        (1, {"epochs": 0}, "stages.1.epochs must be at least 1, got 0"),
        (2, {"candidates": 0}, "stages.2.candidates must be at least 2, got 0"),
        (2, {"candidates": 1}, "with fewer there is nothing to search"),
        (2, {"candidates": 6}, "stages.2.candidates=6 is more than the 5 that the stage before"),
        (0, {"candidates": 9}, "stages.0.candidates=9 is more than the 8 that the space has"),
        (0, {"candidates": 5}, "stages.0.candidates must be null or 8, the whole space, got 5"),
        (1, {"skip_dropout": 1.0}, "stages.1.skip_dropout must lie in [0, 1), got 1.0"),
        (1, {"skip_dropout": -0.1}, "stages.1.skip_dropout must lie in [0, 1), got -0.1"),
        (1, {"partial_channels": 3}, "stages.1: net.channels must be a multiple of partial_chan"),
        (1, {"partial_channels": 0}, "stages.1: partial_channels must be at least 1"),
        (1, {"layers": 2}, "stages.1: net.layers must be at least 3, got 2"),
        (1, {"layers": 0}, "stages.1: net.layers must be at least 1, got 0"),
        (1, {"channels": 1}, "stages.1: net.channels must be at least 2, got 1"),
        (0, {"arch_warmup_epochs": 3}, "stages.0: arch_warmup_epochs must lie between 0 and epoc"),
    ],
)
def test_a_stage_that_makes_no_sense_is_named(
    pdarts: SearchConfig, stage: int, changes: dict, message: str
):
    stages = list(pdarts.stages)
    stages[stage] = replace(stages[stage], **changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(pdarts, stages=stages, epochs=total_epochs(stages))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 20}, "epochs=20 contradicts stages, which take 3 + 3 + 3 = 9"),
        ({"space": PublishedSpace("s2")}, "stages.1.candidates=5 is more than the 2"),
        ({"space": NO_SKIPS}, "stages.1.skip_dropout=0.4 has no effect, for no edge of the space"),
        ({"partial_channels": 2}, "partial_channels=2 has no effect beside stages"),
        ({"arch_warmup_epochs": 1}, "set stages.0.arch_warmup_epochs and those of the others"),
        (
            {"order": Order.weights_only, "discretizer": BestOfSamples()},
            "order=weights_only never steps the alphas, by which stages choose",
        ),
        ({"penalties": {"cost": Cost(1e6)}}, "a stage may leave none that meets it"),
        (
            {"diagnostics": Diagnostics(eigenvalue_every=1, stop_below=0.75)},
            "diagnostics.stop_below=0.75 ends a search in the middle of its stages",
        ),
        ({"compile": Compilation.inductor}, "compile=inductor cannot trace the masks"),
    ],
)
def test_what_has_no_meaning_beside_stages_is_refused(
    pdarts: SearchConfig, changes: dict, message: str
):
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(pdarts, **changes)


def test_what_each_stage_takes_from_the_rest_of_the_search_may_be_changed():
    plain = ("method=darts", "epochs=2", TWO)
    assert search_config(*plain, "compile=none", "edge_normalization=true").edge_normalization
    assert search_config("method=gdas", "epochs=2", TWO, "warm_start=ntk").stages
    assert search_config(*plain, "discretizer=perturbation", "optimizer.lr=auto").stages
