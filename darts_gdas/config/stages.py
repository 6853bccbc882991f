"""The stages of a progressive search: which lists of them have a meaning."""

from collections.abc import Sequence

from darts_gdas.space import SKIP, SearchSpace
from darts_gdas.tasks.method import Stage


def total_epochs(stages: Sequence[Stage]) -> int:
    """Epochs of all stages: `epochs: ${stage_epochs:${stages}}` in YAML."""
    return sum(stage.epochs for stage in stages)


def check_stages(stages: Sequence[Stage], space: SearchSpace, *, epochs: int) -> None:
    """Raise a `ValueError` unless the stages are a search of so many epochs over the space."""
    left = max(cell.num_candidates for cell in space.cells.values())
    for i, stage in enumerate(stages):
        name, count = f"stages.{i}", stage.candidates
        if stage.epochs < 1:
            raise ValueError(f"{name}.epochs must be at least 1, got {stage.epochs}")
        if not 0 <= stage.skip_dropout < 1:
            raise ValueError(f"{name}.skip_dropout must lie in [0, 1), got {stage.skip_dropout}")
        if stage.skip_dropout and not space.offers(SKIP):
            raise ValueError(
                f"{name}.skip_dropout={stage.skip_dropout} has no effect, for no edge of the space "
                f"offers {SKIP}; leave it out"
            )
        if count is None:
            continue
        if count < 2:
            raise ValueError(
                f"{name}.candidates must be at least 2, got {count}: with fewer there is nothing "
                "to search"
            )
        if count > left:
            before = "the stage before leaves" if i else "the space has"
            raise ValueError(
                f"{name}.candidates={count} is more than the {left} that {before} on each edge; "
                "candidates only leave"
            )
        if i == 0 and count < left:
            raise ValueError(
                f"{name}.candidates must be null or {left}, the whole space, got {count}: "
                "nothing is known yet that could choose among candidates"
            )
        left = count
    total = total_epochs(stages)
    if epochs != total:
        terms = " + ".join(str(stage.epochs) for stage in stages)
        raise ValueError(
            f"epochs={epochs} contradicts stages, which take {terms} = {total}; change "
            f"stages.0.epochs and those of the others, or set epochs={total}"
        )
