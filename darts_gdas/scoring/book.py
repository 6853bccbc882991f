"""Scores of many cells, kept one by one."""

from collections.abc import Callable, Sequence

from darts_gdas.runtime.journal import Journal, Numbers, Report
from darts_gdas.space import Genotype


def score_all(
    genotypes: Sequence[Genotype],
    repeats: int,
    journal: Journal,
    measure: Callable[[Genotype, int], Numbers],
    *,
    report: Report | None = None,
) -> list[list[Numbers]]:
    """Every cell's scores in every repeat; what the journal knows is not measured again.

    Args:
        genotypes: The cells; one that occurs twice is measured once.
        repeats: How often each.
        journal: Where scores are kept.
        measure: Scores of a cell in a repeat.
        report: Progress.

    Returns:
        [cells][repeats].
    """
    works = [(genotype, repeat) for genotype in genotypes for repeat in range(repeats)]
    keys = [f"repeat {repeat} of {genotype.to_json()}" for genotype, repeat in works]
    found = journal.measure_all(keys, lambda i: measure(*works[i]), report)
    return [found[i : i + repeats] for i in range(0, len(found), repeats)]
