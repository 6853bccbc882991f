"""How a network does on each class: what a single accuracy hides where classes differ in size."""

from collections.abc import Mapping
from typing import Any

from darts_gdas.report.markup import Markup, element, table
from darts_gdas.report.numbers import is_number
from darts_gdas.report.page import folded
from darts_gdas.report.record import Record

MOST_ROWS, MOST_COLUMNS = 100, 20
"""Classes up to which all have a row, and up to which the whole matrix is shown."""


def class_sections(record: Record) -> list[Markup]:
    """A row per class, the worst first, and the matrix; nothing where classes are not known."""
    told = record.result.get("classes", record.last.get("classes"))
    if not isinstance(told, Mapping):
        return []
    parts = [told.get(key) for key in ("names", "images", "accuracy")]
    columns = [part for part in parts if isinstance(part, list)]
    if len(columns) < len(parts) or len({*map(len, columns)}) > 1:
        return []
    names = [str(name) for name in columns[0]]
    matrix, rows = _matrix(told, len(names)), []
    for i, (name, count, value) in enumerate(zip(names, *columns[1:], strict=True)):
        shown = f"{100 * value:.2f}" if is_number(value) else "-"
        order = float(value) if is_number(value) else 2.0
        rows.append((order, [name, str(count), shown, _mistaken(i, names, matrix)]))
    rows.sort(key=lambda pair: pair[0])
    header = ["class", "images", "accuracy, %", "most often taken for"]
    found = [table(header, [row for _, row in rows[:MOST_ROWS]])]
    if len(rows) > MOST_ROWS:
        found.append(element("p", f"and {len(rows) - MOST_ROWS} classes with higher accuracies"))
    if matrix and len(names) <= MOST_COLUMNS:
        words = "confusion matrix: images by class and what they are taken for"
        found.append(folded(words, _shaded(names, matrix)))
    elif matrix:
        found.append(folded("the most frequent confusions", _most_frequent(names, matrix)))
    return found


def balanced_accuracy(record: Record) -> str | None:
    """The mean of the classes' accuracies, as text; None where it is not known."""
    told = record.result.get("test")
    value = told.get("balanced_accuracy") if isinstance(told, Mapping) else None
    for name in ("test/balanced_accuracy", "validation/balanced_accuracy"):
        value = record.last.get(name) if value is None else value
    return f"{100 * value:.2f} %" if is_number(value) else None


def _matrix(told: Mapping[str, Any], size: int) -> list[list[int]]:
    """The counts; empty where they are not whole numbers of a square."""
    rows = told.get("confusion")
    if not isinstance(rows, list) or len(rows) != size:
        return []
    is_square = all(isinstance(row, list) and len(row) == size for row in rows)
    return rows if is_square and all(isinstance(n, int) for row in rows for n in row) else []


def _shaded(names: list[str], matrix: list[list[int]]) -> Markup:
    """The counts as a table, each cell as dark as its share of the images of its class."""
    head = element("tr", *(element("th", n, scope="col") for n in ["class, taken for", *names]))
    rows = []
    for i, (name, counts) in enumerate(zip(names, matrix, strict=True)):
        cells = [
            element(
                "td",
                element("b", str(n)) if i == j else str(n),
                style=f"--share: {n / max(sum(counts), 1):.3f}",
            )
            for j, n in enumerate(counts)
        ]
        rows.append(element("tr", element("th", name, scope="row"), *cells))
    inside = element("thead", head), element("tbody", *rows)
    shown = element("table", *inside, class_="confusion")
    return element("div", shown, class_="scroll", tabindex=0, role="region", aria_label="confusion")


def _most_frequent(names: list[str], matrix: list[list[int]]) -> Markup:
    """The pairs of classes that are confused most often, with the share of the class."""
    pairs = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    rows = [
        [names[i], names[j], str(n), f"{100 * n / sum(matrix[i]):.2f}"]
        for n, i, j in pairs[:MOST_COLUMNS]
    ]
    return table(["class", "taken for", "images", "of the class, %"], rows)


def _mistaken(label: int, names: list[str], matrix: list[list[int]]) -> str:
    """The class that images of a class are most often taken for, itself apart."""
    others = [(n, -j) for j, n in enumerate(matrix[label] if matrix else []) if j != label and n]
    if not others:
        return "-"
    count, place = max(others)
    return f"{names[-place]} ({count})"
