"""The end of a search whose discretizer asks the trained supernet: selection, with tuning."""

import random
from collections.abc import Callable

from darts_gdas.nets import Mixture
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.optim import set_learning_rate
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.selection import Probe, Selection
from darts_gdas.tasks.search import SearchTask

Report = Callable[[str, int, int], None]
"""Is told a phase, how much of it is done, and how much there is."""


def conclude(task: SearchTask, report: Report) -> dict[str, float]:
    """Let a selection choose the task's genotype; nothing happens with another discretizer.

    A function of the state after the last epoch and of the seed. It changes the weights, so after
    an interruption it begins anew from the last checkpoint.

    Args:
        task: After its last epoch.
        report: Progress.

    Returns:
        Metrics of what was chosen: its validation accuracy under shared weights.
    """
    selection = task.method.discretizer
    if not isinstance(selection, Selection):
        return {}
    tuning = Tuning(task)
    ranks = task.compute.ranks

    def accuracy(mixture: Mixture) -> float:
        return ranks.from_first(lambda: task.probe.accuracy(mixture))

    probe = Probe(
        space=task.space,
        mixture=task.method.relaxation.expected(task.arch),
        accuracy=accuracy,
        tune=tuning,
        rng=random.Random(derive_seed(task.seed, "selection")),
        report=lambda done, total: report("selecting", done, total),
    )
    genotype = selection.select(probe)
    task.monitor.chosen = genotype
    if task.num_epochs == 0:
        return {}
    return {"search/selected_accuracy": accuracy(one_hot(genotype, task.space))}


class Tuning:
    """Weight steps after the last epoch, by the search's optimiser, on the batches that follow."""

    def __init__(self, task: SearchTask) -> None:
        self.task = task
        self.step = task.num_epochs * task.steps_per_epoch

    def __call__(self, mixture: Mixture, *, lr: float, epoch: int, num_epochs: int) -> None:
        """One epoch; see `search.selection.Tune`."""
        task = self.task
        schedule = task.method.optimizer.schedule
        set_learning_rate(task.optimizer, schedule(lr, epoch=epoch, num_epochs=num_epochs))
        mixture = mixture.with_leaves([leaf.to(task.compute.device) for leaf in mixture.leaves()])
        task.supernet.train()
        for _ in range(task.steps_per_epoch):
            task.train_weights(task.data.weights.batch(self.step), mixture)
            self.step += 1
