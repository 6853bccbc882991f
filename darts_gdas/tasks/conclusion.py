"""The end of a search whose discretizer asks the trained supernet: selection, with tuning."""

import logging
import random
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

from darts_gdas.nets import Mixture
from darts_gdas.runtime.checkpoint import CheckpointError, State, load, remove, save
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.distributed import digest
from darts_gdas.runtime.journal import Journal
from darts_gdas.runtime.optim import set_learning_rate
from darts_gdas.runtime.work import Work
from darts_gdas.scoring.scores import Candidate, score
from darts_gdas.scoring.warm_start import NtkWarmStart
from darts_gdas.search.one_hot import one_hot
from darts_gdas.search.selection import Selection, TrainedSupernet
from darts_gdas.space import Genotype
from darts_gdas.tasks.batches import random_images
from darts_gdas.tasks.initial import small_layout
from darts_gdas.tasks.search import SearchTask
from darts_gdas.tasks.stage import StageSearch

logger = logging.getLogger(__name__)

OpenJournal = Callable[[str], Journal]
"""From a digest of the state that is measured to where its measurements are kept."""

SCORE_IMAGES, SCORE_CHANNELS = NtkWarmStart.batch_size, NtkWarmStart.channels
"""Batch and first cells' channels of the networks that a selection scores, as a warm start's."""


def conclude(task: SearchTask, work: Work, open_journal: OpenJournal) -> dict[str, float]:
    """Let a selection choose the task's answer; nothing happens with another discretizer.

    A function of the state after the last epoch and of the seed. After an interruption it begins
    anew from the last checkpoint, and asks nothing that the journal knows.

    Args:
        task: After its last epoch.
        work: Progress, and requests to stop.
        open_journal: Called by the rank that measures, if anything is measured.

    Returns:
        Metrics of what was chosen: its validation accuracy under shared weights.
    """
    search = task.current
    selection = search.method.discretizer
    if not isinstance(selection, Selection):
        return {}
    penalties = search.method.penalties.values()
    measured = Measured(search, work, open_journal)
    trained = TrainedSupernet(
        space=search.space,
        mixture=search.expected(),
        accuracy=measured.accuracy,
        tune=measured.tune,
        rng=random.Random(derive_seed(search.seed, "selection")),
        report=measured.report,
        scores=measured.scores,
        allows=lambda genotype: all(penalty.allows(genotype) for penalty in penalties),
        likeliest=search.genotype,  # a selection without an answer derives as the alphas do
        known=task.known and task.known.accuracy,
    )
    task.answer = selection.select(trained)
    if task.num_epochs == 0:
        return {}
    accuracy = measured.accuracy(one_hot(task.answer, search.space))
    work.alone(measured.forget)
    return {"search/selected_accuracy": accuracy}


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


class Measured:
    """A trained supernet's accuracies, and its tuning, of which nothing is done twice.

    What was measured before an interruption stands in a journal, in the order in which it is asked
    for. Tuning waits until a question comes that the journal cannot answer; the state after each
    of its epochs is kept beside the journal, so that no more than one of them is repeated.

    Args:
        search: After its last epoch.
        work: As of `conclude`.
        open_journal: As of `conclude`.
    """

    def __init__(self, search: StageSearch, work: Work, open_journal: OpenJournal) -> None:
        self.search, self.work = search, work
        self._open_journal = open_journal
        self._asked, self._tuned = 0, 0
        self._to_tune: list[Callable[..., None]] = []
        self._is_new: bool | None = None  # what was asked for last; None before the first

    @cached_property
    def journal(self) -> Journal:
        """Where numbers are kept; the first rank alone asks for it."""
        search = self.search
        tensors = [*search.supernet.state_dict().values(), *search.alphas.parameters()]
        return self._open_journal(digest(tensors))

    def accuracy(self, mixture: Mixture) -> float:
        """As `SupernetProbe.accuracy`, on all ranks, after all tuning that was asked for."""
        self._asked += 1

        def measure() -> dict[str, float]:
            return {"accuracy": self.search.probe.accuracy(mixture, self.work.heed)}

        key = f"{self._asked}: {digest(mixture.leaves())[:16]}"
        return self._once(key, measure, self._catch_up)["accuracy"]

    def scores(self, genotype: Genotype, names: Sequence[str], repeat: int) -> dict[str, float]:
        """As `TrainedSupernet.scores`; no weight of the supernet matters."""

        def measure() -> dict[str, float]:
            self.work.heed()
            return untrained_scores(self.search, genotype, names, repeat)

        return self._once(f"{' '.join(names)} {repeat} {genotype.to_json()}", measure)

    def _once(
        self,
        key: str,
        measure: Callable[[], dict[str, float]],
        prepare: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """What the journal knows; else measured, on the first rank, after what all prepare."""
        found = self.work.alone(lambda: self.journal.find(key))
        self._is_new = found is None
        if found is None:
            prepare()

            def kept() -> dict[str, float]:
                numbers = measure()
                self.journal.add(key, numbers)
                return numbers

            found = self.work.alone(kept)
        return found

    def tune(self, mixture: Mixture, *, lr: float, epoch: int, num_epochs: int) -> None:
        """As `search.selection.Tune`, when it is needed."""
        self._to_tune.append(
            partial(tune, self.search, mixture, lr=lr, epoch=epoch, num_epochs=num_epochs)
        )

    def report(self, done: int, total: int) -> None:
        """Progress, where something new was measured."""
        if self._is_new is None:
            self._is_new = self.work.alone(lambda: len(self.journal) == 0)
        if self._is_new:
            self.work("selecting", done, total)

    def _catch_up(self) -> None:
        """Tune as often as was asked for, from the state that an earlier process has reached."""
        if self._to_tune and self._tuned == 0:
            state = self.work.alone(self._load)
            if state is not None and state["epochs"] <= len(self._to_tune):
                self.search.load_state_dict(state["search"])
                self._tuned = state["epochs"]
                del self._to_tune[: self._tuned]
        while self._to_tune:
            self._to_tune[0](between=self.work.heed)
            del self._to_tune[0]
            self._tuned += 1
            self.work.alone(self._save)

    @property
    def _path(self) -> Path | None:
        return self.journal.path and self.journal.path.with_suffix(".pt")

    def _load(self) -> State | None:
        """The tuned state of this very selection, if there is one."""
        if self._path is None or not self._path.exists():
            return None
        try:
            state = load(self._path)
        except CheckpointError as error:
            logger.warning("%s; tuning anew", error)
            return None
        return state if state.get("settings") == self.journal.settings else None

    def forget(self) -> None:
        """Remove the tuned state: whoever begins anew finds all answers, and tunes nothing."""
        if self._path is not None:
            remove(self._path)

    def _save(self) -> None:
        if self._path is not None:
            state = {
                "settings": self.journal.settings,
                "epochs": self._tuned,
                "search": self.search.state_dict(),
            }
            with self.journal.attempt("the tuned weights"):
                save(self._path, state)


def tune(
    search: StageSearch,
    mixture: Mixture,
    *,
    lr: float,
    epoch: int,
    num_epochs: int,
    between: Callable[[], None] = lambda: None,
) -> None:
    """Train the weights on, on the batches that follow; see `search.selection.Tune`.

    Args:
        search: Whose weights.
        mixture: Under which they are trained.
        lr: As the protocol has it.
        epoch: As the protocol has it.
        num_epochs: As the protocol has it.
        between: Called after each step, for whoever may want to leave.
    """
    rate = search.method.optimizer.schedule(lr, epoch=epoch, num_epochs=num_epochs)
    set_learning_rate(search.weight_step.optimizer, rate)
    mixture = mixture.with_leaves([leaf.to(search.compute.device) for leaf in mixture.leaves()])
    search.supernet.train()
    first = (search.num_epochs + epoch) * search.steps_per_epoch
    for step in range(first, first + search.steps_per_epoch):
        search.train_weights(search.data.weight_batches.batch(step), mixture)
        between()
