"""Where there is no tangent kernel to ask.

Noise differs from one place in a batch to the next, so of networks that hold it there is no kernel
of two images.
"""

from collections.abc import Iterable, Iterator, Sequence

from darts_gdas.scoring.scores import KERNELS
from darts_gdas.scoring.warm_start import NtkWarmStart, WarmStart
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.method import Method

NOISE = "noise"
WHY = f"the candidate {NOISE} is no function of the image, so there is no kernel"


def of_scores(names: Sequence[str], operations: Iterable[str], where: str) -> Iterator[str]:
    """Scores that ask for a kernel.

    Args:
        names: Of the scores.
        operations: What the networks may be made of.
        where: The setting that names the scores.
    """
    asked = [name for name in names if name in KERNELS]
    if asked and NOISE in operations:
        others = [name for name in names if name not in KERNELS] or ["naswot", "synflow"]
        use = f"[{','.join(others)}]" if where.endswith("scores") else others[0]
        yield f"{WHY} that {where}={','.join(asked)} could ask; use {where}={use}"


def of_kernels(space: SearchSpace, method: Method, warm_start: WarmStart) -> Iterator[str]:
    """Parts of a search that ask for a kernel."""
    drawn = {op for cell in space.cells.values() for edge in cell.candidates for op in edge}
    if isinstance(warm_start, NtkWarmStart):
        yield from of_scores(warm_start.scores, drawn, "warm_start.scores")
    yield from of_scores(method.discretizer.asked_scores, drawn, method.discretizer.scores_setting)
    if NOISE not in drawn:
        return
    if warm_start.finds_a_cell:
        yield f"{WHY} that warm_start=te_nas could prune by; use warm_start=none"
    if method.optimizer.rate is None:
        yield f"{WHY} that optimizer.lr=auto could ask; use optimizer.lr=0.025"
