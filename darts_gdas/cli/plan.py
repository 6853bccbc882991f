"""What a study varies and what it does not: settings in hydra's words, as Optuna takes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from darts_gdas import config as configuration
from darts_gdas.config.composition import MANNER
from darts_gdas.config.objective import OF_SEARCH, OF_TRAINING, Objective, names_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution  # pyright: ignore[reportMissingImports]

OBJECTIVES: dict[str, Mapping[str, Objective]] = {"search": OF_SEARCH, "train": OF_TRAINING}
"""Of each program that can be tuned."""

RUNNING = {"search": "validation_accuracy", "train": "accuracy"}
"""The objective that a run measures after every epoch, by which it can be pruned."""

CURVES = {"search": "validation/accuracy", "train": "test/accuracy"}
"""The same in `metrics.jsonl`."""


@dataclass(frozen=True)
class Plan:
    """What the trials of a study have in common.

    Attributes:
        program: "search" or "train".
        fixed: Settings of all runs, as they are typed.
        space: What is varied, by the names of settings.
        objectives: What the runs are judged by.
        num_epochs: Epochs of a run.
    """

    program: str
    fixed: tuple[str, ...]
    space: Mapping[str, "BaseDistribution"]
    objectives: tuple[str, ...]
    num_epochs: int

    @classmethod
    def of(cls, program: str, settings: Sequence[str]) -> "Plan":
        """Read settings, of which at least one is varied, and try every choice.

        Args:
            program: "search" or "train".
            settings: `name=value`, or hydra's `choice(...)`, `range(...)`, `interval(...)`,
                `tag(log, interval(...))`.

        Raises:
            ValueError: If nothing is varied, or a value has no meaning.
        """
        placed = [item for item in settings if item.startswith(("run_dir=", "resume="))]
        if placed:
            raise ValueError(f"{placed[0]}: the runs of a study lie below its folder; leave it out")
        parsed = OverridesParser.create().parse_overrides(list(settings))
        space = {item.get_key_element(): _distribution(item) for item in parsed if _varies(item)}
        if not space:
            raise ValueError(
                "nothing is varied: give at least one setting a range, such as "
                "'optimizer.lr=tag(log, interval(0.01,0.1))' or method=choice(gdas,darts)"
            )
        fixed = tuple(str(item.input_line) for item in parsed if not _varies(item))
        with configuration.composing():
            for values in _corners(space):
                configuration.check(program, [*fixed, *settings_of(values)])
            cfg = compose(program, [*fixed, *settings_of(next(iter(_corners(space))))])
        values = configuration.to_values(cfg)
        names = names_of(values["objective"], OBJECTIVES[program])
        return cls(program, fixed, space, tuple(names), int(values["epochs"]))

    @property
    def directions(self) -> list[str]:
        """Of the objectives, as Optuna calls them."""
        known = OBJECTIVES[self.program]
        return ["minimize" if known[name].is_cost else "maximize" for name in self.objectives]

    @property
    def curve(self) -> str | None:
        """What `metrics.jsonl` calls the objective; None where there is no one running value."""
        is_running = self.objectives == (RUNNING[self.program],)
        return CURVES[self.program] if is_running else None

    def ranges(self) -> dict[str, str]:
        """What is varied, in words."""
        return {name: _range(distribution) for name, distribution in self.space.items()}

    def told(self) -> dict[str, Any]:
        """What changes results, as plain values, to compare with what a study was begun with."""
        manner = {name for name in MANNER if name != "objective"}
        fixed = [item for item in self.fixed if not configuration.said_names([item]) <= manner]
        space = {name: repr(distribution) for name, distribution in self.space.items()}
        return {"program": self.program, "fixed": sorted(fixed), "space": space}


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """Values of what is varied, as they are typed."""
    return [f"{name}={value}" for name, value in values.items()]


def _varies(override: Override) -> bool:
    return override.is_sweep_override()


def _distribution(override: Override) -> "BaseDistribution":
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high, is_log = value.start, value.end, "log" in value.tags
        assert low is not None and high is not None
        if isinstance(low, int) and isinstance(high, int):
            return distributions.IntDistribution(low, high, log=is_log)
        return distributions.FloatDistribution(low, high, log=is_log)
    items = list(override.sweep_string_iterator())
    if isinstance(value, RangeSweep) and isinstance(value.step, int) and all(map(_is_int, items)):
        return distributions.IntDistribution(int(items[0]), int(items[-1]), step=abs(value.step))
    return distributions.CategoricalDistribution(items)


def _is_int(text: str) -> bool:
    return text.lstrip("-").isdigit()


def _corners(space: Mapping[str, "BaseDistribution"]) -> list[dict[str, Any]]:
    """Values that together hold every choice and both ends of every range, others at the first."""
    ends = {name: _ends(distribution) for name, distribution in space.items()}
    first = {name: values[0] for name, values in ends.items()}
    return [first, *({**first, name: v} for name, values in ends.items() for v in values[1:])]


def _range(distribution: Any) -> str:
    from optuna.distributions import CategoricalDistribution  # pyright: ignore[reportMissingImports]

    if isinstance(distribution, CategoricalDistribution):
        return "one of " + ", ".join(map(str, distribution.choices))
    even = ", even over orders of magnitude" if distribution.log else ""
    return f"{distribution.low} to {distribution.high}{even}"


def _ends(distribution: Any) -> list[Any]:
    from optuna.distributions import CategoricalDistribution  # pyright: ignore[reportMissingImports]

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    return [distribution.low, distribution.high]
