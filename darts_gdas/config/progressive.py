"""The stages of a progressive search: which lists of them have a meaning."""

from collections.abc import Sequence

from darts_gdas.config.pressure import Penalties
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.search.discretize import SKIP
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.method import Order, Stage
from darts_gdas.tasks.monitor import Diagnostics


def total_epochs(stages: Sequence[Stage]) -> int:
    """Epochs of all stages: `epochs: ${stage_epochs:${stages}}` in YAML."""
    return sum(stage.epochs for stage in stages)


def check_stages(stages: Sequence[Stage], space: SearchSpace, *, epochs: int) -> None:
    """Raise a `ValueError` unless the stages are a search of so many epochs over the space."""
    left = max(cell.num_candidates for cell in space.cells.values())
    has_skips = any(SKIP in row for cell in space.cells.values() for row in cell.candidates)
    for i, stage in enumerate(stages):
        name, count = f"stages.{i}", stage.candidates
        if stage.epochs < 1:
            raise ValueError(f"{name}.epochs must be at least 1, got {stage.epochs}")
        if not 0 <= stage.skip_dropout < 1:
            raise ValueError(f"{name}.skip_dropout must lie in [0, 1), got {stage.skip_dropout}")
        if stage.skip_dropout and not has_skips:
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


def check_beside_stages(
    stages: Sequence[Stage],
    *,
    order: Order,
    penalties: Penalties,
    diagnostics: Diagnostics,
    compilation: Compilation,
    partial_channels: int,
    arch_warmup_epochs: int,
) -> None:
    """Raise a `ValueError` where a setting has no meaning, or no effect, beside stages."""
    each = {
        "partial_channels": (partial_channels, 1),
        "arch_warmup_epochs": (arch_warmup_epochs, 0),
    }
    for name, (value, default) in each.items():
        if value != default:
            raise ValueError(
                f"{name}={value} has no effect beside stages, each of which has its own; set "
                f"stages.0.{name} and those of the others"
            )
    if order is Order.weights_only:
        raise ValueError(
            "order=weights_only never steps the alphas, by which stages choose the candidates that "
            "stay; leave stages out"
        )
    if penalties.cost is not None:
        raise ValueError(
            "penalties.cost.target is for all cells of a space, and a stage may leave none that "
            "meets it; leave cost out of penalties, or stages out"
        )
    if diagnostics.stop_below:
        raise ValueError(
            f"diagnostics.stop_below={diagnostics.stop_below} ends a search in the middle of its "
            "stages; set diagnostics.stop_below=0"
        )
    drops = any(stage.skip_dropout for stage in stages)
    if drops and compilation is not Compilation.none:
        raise ValueError(
            f"compile={compilation.name} cannot trace the masks of stages.N.skip_dropout; leave "
            "compile out"
        )
