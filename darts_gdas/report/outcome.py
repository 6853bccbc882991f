"""What TensorBoard shows of a finished run: its settings with its figures, its network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
from torch.utils.tensorboard.summary import hparams, scalar
from torch.utils.tensorboard.writer import FileWriter

from darts_gdas.report.graph import derived_graph
from darts_gdas.report.runs import flat, measures_of
from darts_gdas.space import Genotype

SUFFIX = ".outcome"


def write_outcome(
    folder: Path,
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    genotype: Genotype,
    *,
    kinds: Sequence[str],
    step: int,
) -> None:
    """Write settings and final figures ("hparams"), and the graph, in an event file of their own.

    A run that is killed right after this and resumed writes it again, in place of the first.

    Args:
        folder: Where the events go.
        config: The run's settings.
        result: Its closing figures.
        genotype: The cells of its network.
        kinds: The kinds of the network's cells, in order.
        step: The last training step.
    """
    for earlier in folder.glob(f"events*{SUFFIX}"):
        earlier.unlink()
    figures = {f"final/{name}": value for name, value in closing_figures(result).items()}
    settings = {name: _plain(value) for name, value in flat(config)}
    writer = FileWriter(str(folder), filename_suffix=SUFFIX)
    try:
        graph = derived_graph(genotype, kinds).SerializeToString()
        writer.add_event(Event(graph_def=graph), step)
        for summary in hparams(settings, figures):
            writer.add_summary(summary, step)
        for name, value in figures.items():
            writer.add_summary(scalar(name, value), step)
    finally:
        writer.close()


def closing_figures(result: Mapping[str, Any]) -> dict[str, float]:
    """What a finished run is compared by, by names without blanks; shares are in percent.

    Args:
        result: Its closing figures.
    """
    found = {name.replace(" ", "_"): value for name, value in measures_of(result).items()}
    test, trust = (result.get(name) or {} for name in ("test", "calibration"))
    more = {
        "balanced_accuracy": test.get("balanced_accuracy"),
        "calibration_error": trust.get("error"),
        "selected_accuracy": (result.get("metrics") or {}).get("search/selected_accuracy"),
    }
    return found | {name: 100 * value for name, value in more.items() if value is not None}


def _plain(value: object) -> float | str:
    """What hparams can hold; true and false would become 1 and 0."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float) else str(value)
