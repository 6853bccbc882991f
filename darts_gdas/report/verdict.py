"""Whether a run is good, in one line: for the top of its page and the end of its terminal."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darts_gdas.report.alphas import Moves
from darts_gdas.report.numbers import is_number
from darts_gdas.report.random_cells import random_accuracies
from darts_gdas.report.record import Record

LATE = 0.1
"""A cell that changed within this last share of the epochs has not settled."""

CLOSE_TO_RANDOM = (
    "this cell is close to a random one: the alphas hardly moved, on no edge have they ruled out a "
    "single candidate"
)
"""What a search warns of and its verdict says."""

HARDLY_MOVED, WITHOUT_ALPHAS = "hardly moved", "without alphas"

FROM_WARM_START = "this cell is the warm start's: the search has changed none of its operations"
"""Another such warning."""


@dataclass(frozen=True)
class Verdict:
    """What became of a search.

    Attributes:
        word: Of a search "collapsed", "without alphas", "hardly moved", "unchanged", "still
            changing" or "settled"; of a retraining "better than random cells" or "no better than
            random cells".
        reason: Why, in a sentence or two.
    """

    word: str
    reason: str

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"

    def beyond(self, warnings: Sequence[str]) -> list[str]:
        """What warnings say that this does not: without a first sentence that is the reason."""
        parts = [(text, *text.partition(". ")) for text in warnings]
        left = [rest if first in self.reason else text for text, first, _, rest in parts]
        return [text for text in left if text]


def verdict(record: Record) -> Verdict | None:
    """The verdict of a run, finished or not.

    Returns:
        None for a search that tells nothing of its alphas, for a retraining without random cells to
        compare it with, and for other programs.
    """
    if record.kind == "train":
        return _against_random(record)
    if record.kind != "search" or not record.lines:
        return None
    moved = _movement(record.moves) if record.moves else None
    found = _collapse(record) or _unchanged(record)
    learns = found is None or found.word != WITHOUT_ALPHAS
    if found is None or (learns and moved is not None and moved.word == HARDLY_MOVED):
        found = moved  # what alphas that say nothing have left is an accident
    if found is None:
        return None
    return Verdict(found.word, "; ".join([found.reason, *_standing(record)]))


def _against_random(record: Record) -> Verdict | None:
    tested = record.result.get("test")
    accuracy = tested.get("accuracy") if isinstance(tested, Mapping) else None
    if not is_number(accuracy) or not (others := random_accuracies(record)):
        return None
    mean, below = statistics.fmean(others), sum(other < accuracy for other in others)
    if len(others) == 1:
        more = "more" if below else "no more"
        rest = f"{more} than the one random cell reached that was retrained alike"
        reach = f"{100 * mean:.2f} %"
    else:
        rest = f"more than {below} of {len(others)} random cells reached that were retrained alike"
        reach = f"{100 * mean:.2f} % in the mean"
    reason = f"{100 * accuracy:.2f} % on the test set is {rest} ({reach})"
    word = "better than random cells" if 2 * below > len(others) else "no better than random cells"
    return Verdict(word, reason)


def _collapse(record: Record) -> Verdict | None:
    told = record.result.get("collapsed", record.last.get("collapsed"))
    if told is None and "collapsed" in record.last:
        return Verdict(WITHOUT_ALPHAS, "the cell is drawn, evolved or ranked; no alphas learn")
    if isinstance(told, Mapping) and told:
        return Verdict("collapsed", "; ".join(map(str, told.values())))
    return None


def _unchanged(record: Record) -> Verdict | None:
    """Alphas that a warm start has set may look decided though no step has moved them far."""
    warned = record.result.get("warnings", record.last.get("warnings"))
    told = any(FROM_WARM_START in str(text) for text in warned or ())
    return Verdict("unchanged", FROM_WARM_START) if told else None


def _movement(moves: Mapping[str, Moves]) -> Verdict:
    if all(kind.is_undecided for kind in moves.values()):
        return Verdict(HARDLY_MOVED, CLOSE_TO_RANDOM)
    total = max(kind.epochs[-1] for kind in moves.values())
    since = max(kind.unchanged_since for kind in moves.values())
    leads = [lead for kind in moves.values() for lead in kind.leads.values()]
    over = sorted(lead.over_next for lead in leads)[len(leads) // 2]
    margin = f"on half of the edges the lead is {100 * over:.2g} points or more"
    if total - since < LATE * total:
        return Verdict(
            "still changing", f"the cell last changed in epoch {since} of {total}; {margin}"
        )
    return Verdict("settled", f"the same cell since epoch {since} of {total}; {margin}")


def _standing(record: Record) -> list[str]:
    """Against known accuracies, where there is a table."""
    known = record.result.get("benchmark")
    known = known if isinstance(known, Mapping) else {}
    values = [known.get(name) for name in ("accuracy", "regret", "percentile")]
    if not all(map(is_number, values)):
        return []
    accuracy, regret, percentile = values
    return [
        f"known accuracy {accuracy:.2f} %, {regret:.2f} below the best and no worse than "
        f"{percentile:.1f} % of all cells"
    ]
