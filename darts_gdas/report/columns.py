"""Columns of values as text: a CSV file, a table for the terminal."""

import csv
import io
from collections.abc import Mapping, Sequence


def csv_text(columns: Mapping[str, Sequence[object]]) -> str:
    """Columns of equal length as CSV with a header line.

    Raises:
        ValueError: If their lengths differ.
    """
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError(
            f"columns must be of one length, got { {k: len(v) for k, v in columns.items()} }"
        )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue()


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in plain text: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * len(lines[0].ljust(sum(widths) + 2 * (len(widths) - 1))))
    return lines
