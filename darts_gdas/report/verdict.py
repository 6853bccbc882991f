"""Whether a search is good, in one line: for the top of its page and the end of its terminal."""

from collections.abc import Mapping
from dataclasses import dataclass

from darts_gdas.report.alphas import Moves
from darts_gdas.report.numbers import is_number
from darts_gdas.report.record import Record

LATE = 0.1
"""A cell that changed within this last share of the epochs has not settled."""

CLOSE_TO_RANDOM = (
    "this cell is close to a random one: the alphas hardly moved, on no edge have they ruled out a "
    "single candidate"
)
"""What a search warns of and its verdict says."""


@dataclass(frozen=True)
class Verdict:
    """What became of a search.

    Attributes:
        word: One of "collapsed", "drawn", "hardly moved", "still changing", "settled".
        reason: Why, in a sentence or two.
    """

    word: str
    reason: str

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}"


def verdict(record: Record) -> Verdict | None:
    """The verdict of a search, finished or not; None where nothing is known of its alphas."""
    if record.kind != "search" or not record.lines:
        return None
    found = _collapse(record) or (_movement(record.moves) if record.moves else None)
    if found is None:
        return None
    return Verdict(found.word, "; ".join([found.reason, *_standing(record)]))


def _collapse(record: Record) -> Verdict | None:
    told = record.result.get("collapsed", record.last.get("collapsed"))
    if told is None and "collapsed" in record.last:
        return Verdict("drawn", "the cell is drawn at random or by rank, no alphas learn")
    if isinstance(told, Mapping) and told:
        return Verdict("collapsed", "; ".join(map(str, told.values())))
    return None


def _movement(moves: Mapping[str, Moves]) -> Verdict:
    if all(kind.is_undecided for kind in moves.values()):
        return Verdict("hardly moved", CLOSE_TO_RANDOM)
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
