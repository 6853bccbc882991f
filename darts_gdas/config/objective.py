"""What a run is judged by where something optimises it: hydra's sweepers, and studies."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
"""The closing figures of a run, as `result.json` holds them."""


@dataclass(frozen=True)
class Objective:
    """A number that a run ends with.

    Attributes:
        read: Finds it among the closing figures; None where the run has none.
        is_cost: Whether less of it is better.
    """

    read: Callable[[Result], float | None]
    is_cost: bool = False


def _metric(name: str) -> Objective:
    return Objective(lambda result: result.get("metrics", {}).get(name))


def _test(name: str) -> Objective:
    return Objective(lambda result: result.get("test", {}).get(name))


COSTS = {
    "parameters": Objective(lambda result: result.get("parameters"), is_cost=True),
    "multiply_adds": Objective(lambda result: result.get("multiply_adds"), is_cost=True),
    "seconds": Objective(lambda result: result.get("seconds"), is_cost=True),
}
OF_SEARCH = {
    "validation_accuracy": _metric("validation/accuracy"),
    "selected_accuracy": _metric("search/selected_accuracy"),
    "known_accuracy": Objective(lambda result: result.get("benchmark", {}).get("accuracy")),
    **COSTS,
}
"""Objectives of a search by name; accuracies lie in [0, 1], known ones are per cent."""

OF_TRAINING = {
    "accuracy": _test("accuracy"),
    "balanced_accuracy": _test("balanced_accuracy"),
    **COSTS,
}
"""Objectives of a retraining by name; accuracies are those on the test images, in [0, 1]."""


def names_of(value: Any, known: Mapping[str, Objective]) -> list[str]:
    """The objectives that the setting `objective` names.

    Raises:
        ValueError: If one is not known, or there is none, or one stands twice.
    """
    names = value if isinstance(value, list) else [value]
    if not names or any(name not in known for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"objective={value} must be one, or a list of different ones, of {', '.join(known)}"
        )
    return names


def directions_of(names: Sequence[str], known: Mapping[str, Objective]) -> list[str]:
    """Which way each objective is better: "minimize" or "maximize", as Optuna calls them."""
    return ["minimize" if known[name].is_cost else "maximize" for name in names]


def values_of(
    value: Any, known: Mapping[str, Objective], result: Result
) -> float | tuple[float, ...]:
    """What hydra gets of a finished run: a number, or one for each of several objectives.

    Returns:
        NaN in place of what the run has not measured.
    """
    found = [known[name].read(result) for name in names_of(value, known)]
    numbers = tuple(math.nan if number is None else float(number) for number in found)
    return numbers if isinstance(value, list) else numbers[0]
