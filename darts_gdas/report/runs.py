"""Finished runs as values: what was run, and what came out."""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

import darts_gdas
from darts_gdas.reasons import reason
from darts_gdas.report.numbers import few_digits
from darts_gdas.report.source import search_folder, source_name
from darts_gdas.runtime.terminal import complain

ACCURACY, PARAMETERS, MULTIPLY_ADDS, SECONDS = "accuracy", "parameters", "multiply-adds", "seconds"
BENCHMARK, REGRET, PERCENTILE = "benchmark accuracy", "benchmark regret", "benchmark percentile"
LATENCY = "latency"
MEASURES = (
    *(ACCURACY, PARAMETERS, MULTIPLY_ADDS, LATENCY, SECONDS),
    *(BENCHMARK, REGRET, PERCENTILE),
)
"""What runs are compared by, in the order of the table; accuracies in percent, latencies in ms."""

EXEMPT = (
    *("run_dir", "outputs", "resume", "device", "threads", "kernels", "workers", "benchmark"),
    *("benchmark_column", "genotype", "checkpoint_cells", "compile", "dataset.root"),
    *("dataset.download", "dataset.workers", "dataset.cache", "rank_timeout_minutes"),
    *("on_nonfinite", "max_skips", "keep_checkpoints", "checkpoint_every", "on_save_error"),
    *("verbosity", "logger", "objective"),
)
"""Settings that do not change what a run computes.

A resumed run may change them, and runs that differ in them alone are compared as the same.
"""

DEFAULT_METHOD, DEFAULT_DATASET = "ntk_gdas", "digits"
"""What `conf/search.yaml` takes where the user names none."""

VERSIONS = ("python", "torch", "darts_gdas")
"""What closing figures say of the software, by name."""


def versions_here() -> dict[str, str]:
    """`VERSIONS` of this process."""
    found = (platform.python_version(), torch.__version__, darts_gdas.__version__)
    return dict(zip(VERSIONS, found, strict=True))


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: Where it lies.
        kind: "search" or "train".
        method: The search's method; for a retraining, the genotype and the search that found it.
        choices: What the user set, besides the method, by name.
        settings: Everything that the result depends on but the seed, by dotted name.
        seed: The run's seed.
        measures: Those of `MEASURES` that the run has, by name.
        aim: What its search was to cost: a quantity by its name, and the target, or what the share
            of the dearest network came to; None if that was left open or cannot be known.
        classes: Names of the classes of its images, sorted; none where it does not say.
        dataset: The name of its data set.
        root: Where its images lay; empty where they are not of a place.
    """

    folder: Path
    kind: str
    method: str
    choices: Mapping[str, str]
    settings: Mapping[str, Any]
    seed: int | None
    measures: Mapping[str, float]
    aim: tuple[str, float] | None = None
    classes: tuple[str, ...] = ()
    dataset: str = ""
    root: str = ""


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone, under a name that tells them from the others."""

    label: str
    kind: str
    runs: tuple[Run, ...]

    def values(self, measure: str) -> list[float]:
        """The measure's values, over all runs that have it."""
        return [run.measures[measure] for run in self.runs if measure in run.measures]


def find_folders(path: Path) -> tuple[list[Path], list[Path]]:
    """The run folders at a path or below it: finished and unfinished ones.

    Raises:
        ValueError: If there is none, or the path does not exist.
    """
    finished, begun = folders_with(path, "result.json", "overrides.yaml")
    return sorted(finished), sorted(begun - finished)


def folders_with(path: Path, *names: str) -> list[set[Path]]:
    """For each name of a file, the folders at a path or below it that hold one.

    Raises:
        ValueError: If there is none of any name, or the path does not exist.
    """
    if not path.is_dir():
        raise ValueError(f"{str(path)!r} is no folder; name run folders, or a folder of them")
    found = [{mark.parent for mark in path.rglob(name)} for name in names]
    if not any(found):
        raise ValueError(f"{str(path)!r} is no run folder and holds none")
    return found


def read_run(folder: Path) -> Run:
    """One finished run.

    Args:
        folder: Holds `result.json`, `config.yaml` and `overrides.yaml`.

    Raises:
        ValueError: If the folder holds something else, or a file is damaged.
    """
    result = read_file(folder / "result.json", json.loads, dict)
    if result.get("kind") not in ("search", "train"):
        raise ValueError(f"{str(folder)!r} is a run of kind {result.get('kind')!r}")
    config = read_file(folder / "config.yaml", yaml.safe_load, dict)
    choices = user_choices(folder)
    if result["kind"] == "search":
        method, aim = choices.get("method", DEFAULT_METHOD), _aim(config, result)
    else:
        source = str(result.get("genotype_source"))
        method, aim = method_of(source), _aim_of(source)
    settings = {key: value for key, value in flat(config) if key != "seed" and matters(key)}
    kept = {k: v for k, v in choices.items() if k not in ("method", "seed") and matters(k)}
    name, dataset = choices.get("dataset", DEFAULT_DATASET), config.get("dataset")
    root = str(dataset.get("root") or "") if isinstance(dataset, Mapping) else ""
    of_run = folder, result["kind"], method, kept, settings, config.get("seed")
    return Run(*of_run, measures_of(result), aim, _classes(result), name, root)


def _classes(result: Mapping[str, Any]) -> tuple[str, ...]:
    told = result.get("classes")
    names = told.get("names") if isinstance(told, Mapping) else None
    return tuple(sorted(map(str, names))) if isinstance(names, list) else ()


def matters(setting: str) -> bool:
    """Whether what a run computes depends on a setting, by its dotted name."""
    return setting not in EXEMPT and not setting.startswith("logger.")


def run_in(folder: Path, *, otherwise: str) -> Run | None:
    """The finished search or retraining in a folder; if it is none, a warning says what becomes."""
    try:
        return read_run(folder)
    except ValueError as error:
        complain(f"{error}; {otherwise}", "warning")
        return None


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Runs that differ in nothing but the seed, together, in the order of their first run.

    Settings do not say which images they are, so data set and classes must be the same, too.

    A label is the method and what the user chose, as far as the runs of its kind differ in it,
    numbers in as few digits as tell them apart.
    """
    together: dict[tuple, list[Run]] = {}
    for run in runs:
        settings = json.dumps(run.settings, sort_keys=True, default=str)
        key = (run.kind, run.method, run.dataset, run.classes, settings)
        together.setdefault(key, []).append(run)
    shared = {
        kind: _shared([group[0].choices for group in together.values() if group[0].kind == kind])
        for kind in {kind for kind, *_ in together}
    }
    pairs = [pair for group in together.values() for pair in group[0].choices.items()]
    told = {name: few_digits(v for k, v in pairs if k == name) for name, _ in pairs}
    groups: list[Group] = []
    for members in together.values():
        first = members[0]
        apart = [pair for pair in first.choices.items() if pair[0] not in shared[first.kind]]
        chosen = [f"{name}={told[name][value]}" for name, value in apart]
        label = " ".join((first.method, *chosen))
        same = sum(g.kind == first.kind and g.label.split(" #")[0] == label for g in groups)
        label = f"{label} #{same + 1}" if same else label
        groups.append(Group(label, first.kind, tuple(members)))
    return groups


def _shared(choices: Sequence[Mapping[str, str]]) -> set[str]:
    """Names that all have with the same value."""
    common = set.intersection(*(set(each.items()) for each in choices))
    return {name for name, _ in common}


def user_choices(folder: Path) -> dict[str, str]:
    """What the user said, by name; of two values the later one."""
    found = read_file(folder / "overrides.yaml", yaml.safe_load, list)
    pairs = (str(item).partition("=") for item in found)
    return {key.lstrip("+"): value for key, _, value in pairs if not key.startswith("hydra")}


def method_of(source: str) -> str:
    """The method of the search that found a retraining's genotype; if there is none, its source."""
    folder = search_folder(source)
    if folder is None:
        return source_name(source)
    return user_choices(folder).get("method", DEFAULT_METHOD)


def _aim_of(source: str) -> tuple[str, float] | None:
    """What the search of a retraining's genotype was to cost."""
    folder = search_folder(source)
    if folder is None or not (folder / "config.yaml").exists():
        return None
    config = read_file(folder / "config.yaml", yaml.safe_load, dict)
    return _aim(config, read_file(folder / "result.json", json.loads, dict))


def _aim(config: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, float] | None:
    """The limit that the run found where a share of the dearest network was set."""
    cost = (config.get("penalties") or {}).get("cost")
    if not cost:
        return None
    limit = (result.get("cost") or {}).get("target", cost.get("target"))
    return None if limit is None else (str(cost["quantity"]), float(limit))


def measures_of(result: Mapping[str, Any]) -> dict[str, float]:
    """What closing figures say of each of `MEASURES`."""
    accuracy = (
        (result.get("metrics") or {}).get("validation/accuracy")
        if result["kind"] == "search"
        else (result.get("test") or {}).get("accuracy")
    )
    benchmark, cost = (result.get(name) or {} for name in ("benchmark", "cost"))
    found = {
        ACCURACY: None if accuracy is None else 100 * accuracy,
        PARAMETERS: result.get("parameters"),
        MULTIPLY_ADDS: result.get("multiply_adds"),
        LATENCY: cost.get("found") if cost.get("quantity") == "latency" else None,
        SECONDS: result.get("seconds"),
        BENCHMARK: benchmark.get("accuracy"),
        REGRET: benchmark.get("regret"),
        PERCENTILE: benchmark.get("percentile"),
    }
    return {name: float(value) for name, value in found.items() if value is not None}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Settings by their dotted names.

    Example:
        >>> dict(flat({"seed": 1, "net": {"layers": 8}}))
        {'seed': 1, 'net.layers': 8}
    """
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_file(path: Path, parse: Any, kind: type) -> Any:
    """The contents of a file of a run.

    Args:
        path: The file.
        parse: From text to a value.
        kind: What that must be.

    Raises:
        ValueError: If it cannot be read, or holds something else.
    """
    try:
        data = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{str(path)!r} cannot be read: {reason(error)}") from None
    if not isinstance(data, kind):
        raise ValueError(f"{str(path)!r} is damaged: it must hold a {kind.__name__}")
    return data
