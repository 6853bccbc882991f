"""What was typed, or follows from it, and has no effect on what a search finds or a ranking ranks.

A method's own parts that lie idle are passed over: nobody asked for them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hydra import compose

from darts_gdas.config.groups import name_of
from darts_gdas.config.score import ScoreConfig
from darts_gdas.config.search import SearchConfig
from darts_gdas.report.runs import DEFAULT_METHOD
from darts_gdas.search.judges import JudgedSelection
from darts_gdas.tasks.method import Order

OF_STEPS = (
    *("arch_optimizer", "diagnostics", "hypergradient", "operation_stop", "optimizer"),
    *("penalties", "perturbation"),
)
"""Settings that say how steps are taken, or what is measured between them."""


def of_judge(config: SearchConfig, said: Mapping[str, str]) -> Iterator[str]:
    """Epochs whose weights a judge that was typed does not ask; an error, for they may take hours.

    Args:
        config: Of the search.
        said: What was typed, by name.
    """
    discretizer = config.discretizer
    if not isinstance(discretizer, JudgedSelection) or "discretizer/judge" not in said:
        return
    if config.epochs and discretizer.needs_no_training:
        yield (
            f"epochs={config.epochs} train weights that discretizer/judge="
            f"{name_of('discretizer/judge', discretizer.the_judge)} does not ask; set epochs=0"
        )


def of_limit(said: Mapping[str, str]) -> Iterator[str]:
    """Two limits that were typed, of which a network can have one.

    Args:
        said: What was typed, by name.
    """
    names = [f"penalties.cost.{name}" for name in ("target", "share")]
    if all(said.get(name, "null") != "null" for name in names):
        both = " and ".join(f"{name}={said[name]}" for name in names)
        yield f"{both} both say what a network may cost; leave one of them out"


def without_effect(config: SearchConfig, said: Mapping[str, str]) -> Iterator[str]:
    """What is worth a warning alone, for a sweep over methods sets it for all of them.

    Args:
        config: Of the search.
        said: What was typed, by name.
    """
    cells = Counter(config.layout(num_classes=2, in_channels=1).kinds)
    reason = config.hypergradient.fits(cells)
    if reason is not None:
        name = name_of("hypergradient", config.hypergradient)
        yield (
            f"hypergradient={name} has no effect: {reason}; hypergradient=first_order does the "
            "same in less time"
        )
    if config.epochs and config.discretizer.needs_no_training:
        name = name_of("discretizer", config.discretizer)
        yield (
            f"epochs={config.epochs} train weights that discretizer={name} does not ask here; "
            "epochs=0 finds the same cell at once"
        )
    if not config.epochs:
        # A limit holds without steps, and penalties=[] may have lifted one.
        penalties = config.penalties.values()
        limits = not penalties or any(penalty.needs_whole_space for penalty in penalties)
        names = [name for name in OF_STEPS if name != "penalties" or not limits]
        yield from _idle(said, names, "epochs=0 takes no step")
    elif config.order is Order.weights_only:
        yield from _idle(said, ["arch_optimizer"], "order=weights_only takes no arch step")


def of_cells(config: ScoreConfig, said: Mapping[str, str]) -> Iterator[str]:
    """Where to draw cells from, beside a file of cells; a space may be that of known accuracies.

    Args:
        config: Of a ranking.
        said: What was typed, by name.
    """
    if config.cells is not None:
        names = ["count"] if config.benchmark else ["count", "space"]
        yield from _idle(said, names, f"cells={config.cells} says what is scored")


def _idle(said: Mapping[str, str], names: Sequence[str], why: str) -> Iterator[str]:
    idle = [
        f"{key}={value}"
        for key, value in said.items()
        if key.replace("/", ".").split(".")[0] in names
    ]
    if idle:
        yield f"{why}, so what has no effect is {', '.join(idle)}"


def left_out(config: SearchConfig, said: Mapping[str, str]) -> Iterator[str]:
    """The penalties of the method that others, which were typed, have taken the place of.

    `method=beta_darts penalties=[cost]` is DARTS with a limit, Beta-DARTS by name alone.
    `penalties=[]` says that none is wanted, and is passed over. Call it where hydra composes.

    Args:
        config: Of the search.
        said: What was typed, by name.
    """
    if "penalties" not in said or not config.penalties:
        return
    method = said.get("method", DEFAULT_METHOD)
    own = compose("search", [f"method={method}"]).penalties
    missing = [name for name in own if name not in config.penalties]
    if missing:
        both = ",".join([*config.penalties, *missing])
        yield (
            f"penalties={said['penalties']} takes the place of {', '.join(missing)}, which "
            f"method={method} has; penalties=[{both}] has both"
        )
