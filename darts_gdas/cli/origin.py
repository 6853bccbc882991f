"""What is known of a cell from the run that it comes from."""

import logging
from collections.abc import Iterable
from pathlib import Path

from darts_gdas.report.record import is_run, read_record
from darts_gdas.space import Genotype

logger = logging.getLogger(__name__)


def origin_warnings(sources: Iterable[str | None], genotype: Genotype) -> list[str]:
    """What the run warned of that a genotype is the answer of, in the same words.

    Args:
        sources: Where the genotype may come from; the first run folder that has warnings counts.
            Names of published cells, other files and other cells' runs have none.
        genotype: What was found there.
    """
    for source in filter(None, sources):
        path = Path(source)
        folder = path if path.is_dir() else path.parent
        if not path.exists() or not is_run(folder):
            continue
        record = read_record(folder)
        told = record.result.get("warnings", record.last.get("warnings"))
        if record.genotype == genotype and isinstance(told, list) and told:
            return [str(text) for text in told]
    return []


def tell(warnings: Iterable[str]) -> None:
    """Say at the beginning of a training what its cell comes with."""
    for text in warnings:
        logger.warning("the run that this cell comes from warned: %s", text)
