"""The parts of a page that show a ranking of untrained cells."""

import math
from collections.abc import Sequence

from darts_gdas.report.cell_svg import draw_cells
from darts_gdas.report.charts import Dot, scatter_chart
from darts_gdas.report.markup import Markup, element, table
from darts_gdas.report.page import charts, section
from darts_gdas.report.record import Record
from darts_gdas.space import Genotype

ERROR, REMARK = " standard error", "remark"
COUNTS = ("params", "macs")
SHOWN = 10


def score_sections(record: Record) -> list[Markup]:
    """The best cells, every score against what it is held against, and how well it orders."""
    columns = dict(record.scores)
    if not {"rank", "cell"} <= columns.keys() or not columns["cell"]:
        return []
    names = [name for name in columns if name not in ("rank", "cell", REMARK) and ERROR not in name]
    remarks = columns.get(REMARK, [""] * len(columns["cell"]))
    header = ["cell", *names]
    rows = [
        [
            f"{columns['cell'][i]} {remarks[i]}".strip(),
            *(_shown(name, columns[name][i]) for name in names),
        ]
        for i in range(min(SHOWN, len(columns["cell"])))
    ]
    against = "accuracy" if "accuracy" in columns else "params"
    figures = [
        scatter_chart(f"{against} against {name}", {name: points}, x_label=name)
        for name in names
        if name != against and (points := _points(columns[name], columns.get(against, ())))
    ]
    return [
        section("Best cells", *_drawn(columns["cell"][0]), _how(record), table(header, rows)),
        section("Scores", charts(*figures)),
        section("Kendall's tau with the known accuracies", *_taus(record)),
    ]


def _how(record: Record) -> Markup:
    ranked_by = record.result.get("scores")
    by = f" of {', '.join(map(str, ranked_by))}" if isinstance(ranked_by, list) else ""
    return element("p", f"Ranked by the sum of the ranks{by}; the more, the better, of each.")


def _drawn(cell: str) -> list[Markup]:
    try:
        is_json = cell.startswith("{")
        genotype = Genotype.from_json(cell) if is_json else Genotype.from_arch_string(cell)
    except ValueError:
        return []
    return [element("div", *draw_cells(genotype), class_="kinds")]


def _taus(record: Record) -> list[Markup]:
    taus = record.result.get("kendall_tau")
    if not isinstance(taus, dict) or not taus:
        return []
    rows = [[str(name), *map(_rounded, map(str, values))] for name, values in taus.items()]
    return [table(["score", "tau", "low (95 %)", "high (95 %)"], rows)]


def _points(across: Sequence[str], up: Sequence[str]) -> list[Dot]:
    pairs = [(_number(x), _number(y)) for x, y in zip(across, up, strict=False)]
    return [Dot(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _shown(name: str, text: str) -> str:
    """Once such columns were logarithms."""
    return f"{int(text):,}" if name in COUNTS and text.isdecimal() else _rounded(text)


def _rounded(text: str) -> str:
    value = _number(text)
    return text if math.isnan(value) else f"{value:.4g}"
