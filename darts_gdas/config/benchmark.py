"""Known accuracies as a setting: a table's path and column."""

from darts_gdas.scoring.table import AccuracyTable
from darts_gdas.space import SearchSpace


def check_column(benchmark: str | None, column: str | None) -> None:
    """Raise a `ValueError` if there is a column but no table."""
    if column is not None and benchmark is None:
        raise ValueError("benchmark_column has no effect without benchmark=PATH")


def load_table(
    benchmark: str | None, column: str | None, space: SearchSpace, *, complete: bool
) -> AccuracyTable | None:
    """The table, checked against the space; None where there is none.

    Args:
        benchmark: Its path: .npz, .csv, or NATS-Bench's files.
        column: Which accuracies; may be None where there is only one kind.
        space: What it must speak of.
        complete: Whether every cell of the space must be in it.
    """
    if benchmark is None:
        return None
    table = AccuracyTable.load(benchmark, column)
    table.check_space(space)
    if complete:
        table.check_complete(space)
    return table
