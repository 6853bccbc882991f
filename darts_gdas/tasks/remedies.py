"""The words of a search's warnings: what is wrong with its cell, and what helps."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from darts_gdas.nets.layout import REDUCE
from darts_gdas.report.verdict import CLOSE_TO_RANDOM, FROM_WARM_START
from darts_gdas.search import ArgMax, Cost
from darts_gdas.search.diagnostics import is_parameter_free, num_learnt
from darts_gdas.space import CellGenotype, SearchSpace
from darts_gdas.space.networks import live_edges
from darts_gdas.tasks.method import Method

MOVING = "What lets the alphas move: a larger arch_optimizer.lr, more epochs"
CHANCE = "No alphas have led there, so another seed may find a better one"
UNDECIDED = f"{CLOSE_TO_RANDOM}. {MOVING}"
UNCHANGED = f"{FROM_WARM_START}. {MOVING}"
LARGEST = (
    "this cell is the largest of its space: none has more parameters, so counting them would have "
    "found it. What asks for more than size:"
)

FEW_SKIPS = 2
"""The limit that P-DARTS sets."""


def without_effect(kind: str, cell: CellGenotype) -> str:
    """How many operations of a cell add nothing learnt to its output, which, and what follows."""
    learnt, total = num_learnt(cell), sum(map(len, cell.nodes))
    names = Counter(edge.op for edge in chain(*cell.nodes) if is_parameter_free(edge.op))
    what = ", ".join(f"{count} {name}" for name, count in sorted(names.items()))
    text = (
        f"{total - learnt} of {total} operations of the {kind} cell have learnt nothing that "
        f"reaches its output ({what})"
    )
    if not live_edges(cell):
        text += "; no path leads from its inputs to its output"
    if kind != REDUCE:
        return f"{text}. Such cells look good under shared weights and mostly retrain badly"
    return f"{text}; the published reduction cell of DARTS_V1 is such a one, and retrains well"


def of_size(method: Method) -> str:
    """What to tell of the largest cell of a space."""
    if "cost" in method.penalties:
        return f"{LARGEST} a smaller penalties.cost.target or penalties.cost.share"
    return (
        f"{LARGEST} penalties=[cost] (the best cell with at most {Cost().share:g} of the "
        "parameters that the dearest one's operations have)"
    )


def remedies(method: Method, space: SearchSpace, *, stop_below: float) -> str:
    """The remedies of a method, in one sentence.

    What the method has not is told by the name of one that has; what it has, by its setting, where
    that can still go further.

    Args:
        method: In use.
        space: What it searches.
        stop_below: `diagnostics.stop_below`; 0 where nothing ends the search early.
    """
    return "What helps: " + ", ".join(_each(method, space, stop_below))


def _each(method: Method, space: SearchSpace, stop_below: float) -> Iterator[str]:
    chosen, moved = method.discretizer, method.perturbation
    if isinstance(chosen, ArgMax) and ArgMax(max_skips=FEW_SKIPS).fits(space) is None:
        limit = chosen.max_skips
        if limit is None:
            yield f"discretizer.max_skips={FEW_SKIPS} (in normal cells)"
        elif limit > 0:
            yield f"discretizer.max_skips below {limit}"
    if stop_below >= 1:
        yield "a larger optimizer.weight_decay"
    elif stop_below > 0:
        yield "diagnostics.stop_below nearer to 1, or a larger optimizer.weight_decay"
    else:
        yield "method=robust_darts (stops in time, decays the weights more)"
    if moved is not None:
        yield f"perturbation.epsilon.end above {moved.epsilon.end:g}"
    else:
        yield "method=sdarts_rs or sdarts_adv (trains the weights under disturbed mixtures)"
    if "beta_decay" in method.penalties:
        yield "a larger penalties.beta_decay.weight.end"
    else:
        yield "method=beta_darts (holds the alphas together)"
    if chosen.asks_weights:
        yield "more epochs, so that the weights which choose are trained"
    else:
        yield "method=darts_pt (asks the trained supernet, not the alphas, which operation to keep)"
