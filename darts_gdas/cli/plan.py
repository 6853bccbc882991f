"""What a study varies and what it does not: settings in hydra's words, as Optuna takes them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, OverrideParseException

from darts_gdas import config as configuration
from darts_gdas.cli.ranges import CALLS, as_typed, distribution_of, ends, in_words, number, whole
from darts_gdas.cli.wording import one_line
from darts_gdas.config.composition import MANNER
from darts_gdas.config.objective import OF_SEARCH, OF_TRAINING, Objective, directions_of, names_of

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
    """

    program: str
    fixed: tuple[str, ...]
    space: Mapping[str, "BaseDistribution"]
    objectives: tuple[str, ...]

    @classmethod
    def of(cls, program: str, settings: Sequence[str]) -> "Plan":
        """Read settings, of which at least one is varied, and try every choice.

        Args:
            program: "search" or "train".
            settings: `name=value`, or hydra's `choice(...)`, `range(...)`, `interval(...)`,
                `tag(log, interval(...))`.

        Raises:
            ValueError: If nothing is varied, a setting stands twice, or a value has no meaning.
        """
        placed = [item for item in settings if item.startswith(("run_dir=", "resume="))]
        if placed:
            raise ValueError(f"{placed[0]}: the runs of a study lie below its folder; leave it out")
        check_said_once(settings)
        parsed = [_parsed(item) for item in configuration.only_set(settings)]
        check_objective(parsed)
        space = {o.get_key_element(): distribution_of(o) for o in parsed if _varies(o)}
        if not space:
            raise ValueError(
                "nothing is varied: give at least one setting a range, such as "
                "'optimizer.lr=tag(log, interval(0.01,0.1))' or method=choice(gdas,darts)"
            )
        fixed = tuple(str(item.input_line) for item in parsed if not _varies(item))
        with configuration.composing():
            _check(program, fixed, space)
            cfg = compose(program, [*fixed, *settings_of(next(iter(_corners(space))))])
        values = configuration.to_values(cfg)
        names = names_of(values["objective"], OBJECTIVES[program])
        return cls(program, fixed, space, tuple(names))

    def num_epochs(self, params: Mapping[str, Any]) -> int:
        """Epochs of a run with these values of what varies, which a method may change too."""
        with configuration.composing():
            cfg = compose(self.program, [*self.fixed, *settings_of(params)])
            return int(configuration.to_values(cfg)["epochs"])

    @property
    def directions(self) -> list[str]:
        """Of the objectives, as Optuna calls them."""
        return directions_of(self.objectives, OBJECTIVES[self.program])

    @property
    def curve(self) -> str | None:
        """What `metrics.jsonl` calls the objective; None where there is no one running value."""
        is_running = self.objectives == (RUNNING[self.program],)
        return CURVES[self.program] if is_running else None

    def ranges(self) -> dict[str, str]:
        """What is varied, in words."""
        return {name: in_words(distribution) for name, distribution in self.space.items()}

    def even(self) -> list[str]:
        """The settings whose ranges are even over orders of magnitude."""
        return [name for name, one in self.space.items() if getattr(one, "log", False)]

    def told(self) -> list[str]:
        """What changes results, as it is typed, to compare with what a study was begun with."""
        manner = {name for name in MANNER if name != "objective"}
        fixed = [
            item for item in self.fixed if not configuration.said_values([item]).keys() <= manner
        ]
        varied = [f"{name}={as_typed(distribution)}" for name, distribution in self.space.items()]
        return [f"--program {self.program}", *sorted(fixed), *sorted(varied)]


def check_objective(parsed: Sequence[Override]) -> None:
    """Raise a `ValueError` if what runs are judged by varies, which would mean several objectives.

    Args:
        parsed: Settings, of which some may vary.
    """
    for item in parsed:
        if item.get_key_element() == "objective" and _varies(item):
            names = ",".join(item.sweep_string_iterator())
            raise ValueError(
                f"{item.input_line}: what runs are judged by cannot vary; several objectives at "
                f"once are a list: objective=[{names}]"
            )


def check_said_once(settings: Sequence[str]) -> None:
    """Raise a `ValueError` if a setting stands twice, where only one of its values would count.

    Args:
        settings: As they are typed.
    """
    first: dict[str, str] = {}
    for item in settings:
        name = item.partition("=")[0].strip().lstrip("+")
        if name in first:
            raise ValueError(
                f"{name} is set twice, {first[name]} and {item}; leave one of them out"
            )
        first[name] = item


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """Values of what is varied, as they are typed."""
    return [f"{name}={value}" for name, value in values.items()]


def _parsed(item: str) -> Override:
    """A setting as hydra reads it.

    Raises:
        ValueError: If it is something else, such as an option of the programs, or has no meaning.
    """
    name, is_set, _ = item.partition("=")
    if not is_set or name.startswith("-"):
        raise ValueError(
            f"{item!r} is no setting; a setting is NAME=VALUE, such as method=gdas or "
            "net.layers=range(3,9)"
        )
    try:
        return OverridesParser.create().parse_override(item)
    except HydraException:
        raise ValueError(_unread(item)) from None


def _unread(item: str) -> str:
    """What is wrong with a setting that hydra cannot read."""
    name, _, value = item.partition("=")
    if name != name.strip() or value != value.strip():
        return f"{item!r} is no setting; write NAME=VALUE, without blanks around the ="
    if re.match(r"\w+\(", value):
        return f"{item}: this range cannot be read; there are {', '.join(CALLS.values())}"
    told = one_line(OverrideParseException(override=item, message=""))
    return f"{told}, or write values as {name}=a,b" if "," in value else told


def _varies(override: Override) -> bool:
    return override.is_sweep_override()


def _check(program: str, fixed: Sequence[str], space: Mapping[str, Any]) -> None:
    """Compose runs with every choice and both ends of every range.

    Raises:
        ValueError: If a value cannot be, with the setting's name, or two are the same.
    """
    known: dict[tuple[str, Any], tuple[Any, Any]] = {}
    for values in _corners(space):
        config = _built(program, fixed, space, values)
        if program == "search" and config.epochs == 0 and RUNNING[program] in config.objective:
            raise ValueError(
                f"{' '.join(settings_of(values))}: a run without epochs has no {RUNNING[program]}, "
                "by which its study would judge it; choose objective=NAME"
            )
        for name, value in values.items():
            other, built = known.setdefault((name, number(value)), (value, config))
            if other != value and built == config:
                raise ValueError(f"{name}: {other} and {value} are the same; leave one of them out")


def _built(program: str, fixed: Sequence[str], space: Mapping[str, Any], values: Any) -> Any:
    """The configuration of a run, every value checked.

    Raises:
        ValueError: If a value cannot be.
    """
    try:
        return configuration.check(program, [*fixed, *settings_of(values)])
    except Exception as error:  # whatever hydra says of a wrong setting
        told = one_line(error)
        name = str(getattr(error.__cause__, "full_key", None))
        if name in space and " must be a whole number, got " in told:
            right = whole(space[name])
            told = f"{name} takes whole numbers"
            likely = f", such as {name}=range(1,3), not {values[name]}"
            told += f": {name}={right}" if right else likely
        if not any(varied in told for varied in space):
            told = f"{' '.join(settings_of(values))}: {told}"
        raise ValueError(told) from None


def _corners(space: Mapping[str, "BaseDistribution"]) -> list[dict[str, Any]]:
    """Values that together hold every choice and both ends of every range, others at the first."""
    tried = {name: ends(distribution) for name, distribution in space.items()}
    first = {name: values[0] for name, values in tried.items()}
    return [first, *({**first, name: v} for name, values in tried.items() for v in values[1:])]
