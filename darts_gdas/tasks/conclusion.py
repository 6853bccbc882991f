"""The end of a search whose discretizer asks the trained supernet: selection, with tuning."""

import random
from collections.abc import Callable, Sequence
from functools import partial

from darts_gdas.nets import Mixture
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.optim import set_learning_rate
from darts_gdas.scoring.scores import Candidate, score
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.selection import Selection, TrainedSupernet
from darts_gdas.space import Genotype
from darts_gdas.tasks.batches import random_images
from darts_gdas.tasks.initial import small_layout
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.stage import StageSearch

SCORE_CHANNELS, SCORE_IMAGES = 8, 32
"""Of the small networks that selections score; those of the warm start."""

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

    def scores(genotype: Genotype, names: Sequence[str], repeat: int) -> dict[str, float]:
        return ranks.from_first(lambda: untrained_scores(search, genotype, names, repeat))

    trained = TrainedSupernet(
        space=search.space,
        mixture=search.expected(),
        accuracy=accuracy,
        tune=partial(tune, search),
        rng=random.Random(derive_seed(search.seed, "selection")),
        report=lambda done, total: report("selecting", done, total),
        scores=scores,
        known=task.known and task.known.accuracy,
    )
    task.answer = selection.select(trained)
    if task.num_epochs == 0:
        return {}
    return {"search/selected_accuracy": accuracy(one_hot(task.answer, search.space))}


def untrained_scores(
    search: StageSearch, genotype: Genotype, names: Sequence[str], repeat: int
) -> dict[str, float]:
    """Scores of a cell in the smallest outer network of the search's form, on its own images.

    A function of the run's seed and the repeat; the supernet plays no part.
    """
    data, seed = search.data.weight_batches, derive_seed(search.seed, "selection scores", repeat)
    device = search.compute.device
    images = random_images(
        data.images, data.normalize, count=SCORE_IMAGES, seed=seed, device=device
    )
    layout = small_layout(search.supernet.layout, SCORE_CHANNELS)
    return score(Candidate(genotype, layout, images, seed % 2**32), names)


def tune(search: StageSearch, mixture: Mixture, *, lr: float, epoch: int, num_epochs: int) -> None:
    """Train the weights on, on the batches that follow; see `search.selection.Tune`."""
    rate = search.method.optimizer.schedule(lr, epoch=epoch, num_epochs=num_epochs)
    set_learning_rate(search.weight_step.optimizer, rate)
    mixture = mixture.with_leaves([leaf.to(search.compute.device) for leaf in mixture.leaves()])
    search.supernet.train()
    first = (search.num_epochs + epoch) * search.steps_per_epoch
    for step in range(first, first + search.steps_per_epoch):
        search.train_weights(search.data.weight_batches.batch(step), mixture)
