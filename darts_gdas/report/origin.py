"""Where a cell is from, on which data, and what its search warned of, in words."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from darts_gdas.report.numbers import is_number
from darts_gdas.report.record import Record, is_run, read_record
from darts_gdas.report.runs import DEFAULT_METHOD, read_file, user_choices
from darts_gdas.report.source import folder_of, source_name
from darts_gdas.space import Genotype


def data_name(
    config: Mapping[str, Any], said: Mapping[str, str], num_classes: int | None = None
) -> str | None:
    """The data set that the user chose; else told by its settings, which stand without its name.

    Args:
        config: A run's whole configuration.
        said: What the user set, by name.
        num_classes: Of the data set, where that is known.
    """
    settings = config.get("dataset") or {}
    if "skip_corrupt" in settings:
        return f"images of {Path(str(settings.get('root'))).name}"
    if settings.get("name"):  # of a set that is one of many
        return settings["name"]
    if "test_split" in settings:
        return f"{said.get('dataset', 'images')} {Path(str(settings.get('root'))).name}"
    if "dataset" in said:
        return said["dataset"]
    if "test_fraction" in settings:
        return "digits"
    return (
        {10: "cifar10", 100: "cifar100"}.get(num_classes or 0) if "download" in settings else None
    )


def origin_of(source: str, config: Mapping[str, Any], said: Mapping[str, str]) -> str:
    """Where a cell is from, for people: which search found it, and whether on the same data.

    Args:
        source: What named the genotype.
        config: The whole configuration of the run that is to train it.
        said: What the user set in it, by name.
    """
    folder = folder_of(source)
    names = ("config.yaml", "overrides.yaml")
    if folder is None or not all((folder / name).is_file() for name in names):
        return f"the cell is {source_name(source)}"
    then, chosen = read_file(folder / "config.yaml", yaml.safe_load, dict), user_choices(folder)
    method = chosen.get("method", DEFAULT_METHOD)
    text = f"the cell is {source}, found by {method} (seed {then.get('seed')})"
    found, here = (_data_in_words(*run) for run in ((then, chosen), (config, said)))
    same = "the same data" if found == here else f"other data than here, {here}"
    return f"{text} on {found}: {same}"


def origin_told(
    sources: Iterable[str | None],
    genotype: Genotype,
    config: Mapping[str, Any],
    said: Mapping[str, str],
) -> dict[str, Any]:
    """What the search of a genotype has left to tell its retraining; empty where it is not known.

    Args:
        sources: Where the genotype may come from. Names of published cells, other files and other
            cells' runs tell nothing; a retraining tells what it was told.
        genotype: What was found there.
        config: The whole configuration of the run that is to train it.
        said: What the user set in it, by name.

    Returns:
        "warnings": what the search warned of, in the same words. "search": its folder, its
        accuracies on its validation images, and whether they are of the same data.
    """
    found: dict[str, Any] = {}
    for source in filter(None, sources):
        folder = folder_of(source)
        if folder is None or not Path(source).exists() or not is_run(folder):
            continue
        record = read_record(folder)
        if record.genotype == genotype:
            data = [_data_in_words(config, said), _data_in_words(record.config, _said(record))]
            search = _told(record, "search", dict)
            if record.kind == "search":
                search = _search(record, same_data=data[0] == data[1])
            warnings = [str(text) for text in _told(record, "warnings", list) or ()]
            told = {"warnings": warnings, "search": search}
            found = {**{key: value for key, value in told.items() if value}, **found}
    return found


def _search(record: Record, *, same_data: bool) -> dict[str, Any]:
    figures = {**record.last, **(_told(record, "metrics", dict) or {})}
    names = ("validation/accuracy", "search/selected_accuracy")
    known = {
        name.partition("/")[2]: figures[name] for name in names if is_number(figures.get(name))
    }
    return {"folder": str(record.folder), "same_data": same_data, **known} if known else {}


def _told(record: Record, name: str, kind: type) -> Any:
    value = record.result.get(name, record.last.get(name))
    return value if isinstance(value, kind) else None


def _said(record: Record) -> dict[str, str]:
    return dict(text.lstrip("+").split("=", 1) for text in record.overrides or () if "=" in text)


def _data_in_words(config: Mapping[str, Any], said: Mapping[str, str]) -> str:
    settings = config.get("dataset") or {}
    kept = ("root", "image_size", "image_width", "channels", "test_fraction", "seed")
    shown = [f"{key}={settings[key]}" for key in kept if settings.get(key) is not None]
    name = data_name(config, said) or "a data set"
    return f"{name} ({', '.join(shown)})" if shown else name
