"""The end of a search whose discretizer asks the trained supernet: selection, with tuning."""

import random
from collections.abc import Callable
from functools import partial

from darts_gdas.nets import Mixture
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.optim import set_learning_rate
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.selection import Selection, TrainedSupernet
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.stage import StageSearch

Report = Callable[[str, int, int], None]
"""Is told a phase, how much of it is done, and how much there is."""


def conclude(task: SearchTask, report: Report) -> dict[str, float]:
    """Let a selection choose the task's answer; nothing happens with another discretizer.

    A function of the state after the last epoch and of the seed. It changes the weights, so after
    an interruption it begins anew from the last checkpoint.

    Args:
        task: After its last epoch.
        report: Progress.

    Returns:
        Metrics of what was chosen: its validation accuracy under shared weights.
    """
    search = task.current
    selection = search.method.discretizer
    if not isinstance(selection, Selection):
        return {}
    ranks = task.compute.ranks

    def accuracy(mixture: Mixture) -> float:
        return ranks.from_first(lambda: search.probe.accuracy(mixture))

    trained = TrainedSupernet(
        space=search.space,
        mixture=search.expected(),
        accuracy=accuracy,
        tune=partial(tune, search),
        rng=random.Random(derive_seed(search.seed, "selection")),
        report=lambda done, total: report("selecting", done, total),
    )
    task.answer = selection.select(trained)
    if task.num_epochs == 0:
        return {}
    return {"search/selected_accuracy": accuracy(one_hot(task.answer, search.space))}


def tune(search: StageSearch, mixture: Mixture, *, lr: float, epoch: int, num_epochs: int) -> None:
    """Train the weights on, on the batches that follow; see `search.selection.Tune`."""
    rate = search.method.optimizer.schedule(lr, epoch=epoch, num_epochs=num_epochs)
    set_learning_rate(search.weight_step.optimizer, rate)
    mixture = mixture.with_leaves([leaf.to(search.compute.device) for leaf in mixture.leaves()])
    search.supernet.train()
    first = (search.num_epochs + epoch) * search.steps_per_epoch
    for step in range(first, first + search.steps_per_epoch):
        search.train_weights(search.data.weight_batches.batch(step), mixture)
