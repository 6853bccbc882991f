"""What a retraining found out beside one accuracy: classes, calibration, worst mistakes.

The parts bring their own look, so that a page takes them over as they are.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any

from darts_gdas.report.classes import class_sections
from darts_gdas.report.markup import EMPTY, Markup, element, join, table
from darts_gdas.report.numbers import is_number
from darts_gdas.report.page import folded, section
from darts_gdas.report.record import Record

PICTURE_BYTES, ALL_BYTES = 20_000, 250_000
"""Sizes up to which a picture, and all of them, come into the page; others are told by name."""

PNG = b"\x89PNG\r\n\x1a\n"
SIZE, LEFT, BELOW, ROOM = 220, 34, 34, 8  # of the diagram's plane, its margins

STYLE = """
.diagram svg { display: block; width: 100%; max-width: 320px; height: auto; }
.diagram { max-width: none; display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: start; }
.diagram figcaption { flex: 1 1 220px; font-weight: 400; }
.diagram rect { fill: var(--s0, #2a78d6); }
.diagram .even { stroke: var(--ink, CanvasText); stroke-dasharray: 4 3; }
.confusion td { background: color-mix(in srgb, var(--s0, #2a78d6) calc(var(--share) * 45%),
  transparent); }
.mistakes { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr));
  list-style: none; padding: 0; margin: 0; }
.mistakes li { font-size: .82rem; min-width: 0; overflow-wrap: anywhere; }
.mistakes img { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated;
  display: block; background: var(--page, Canvas); border: 1px solid var(--line, GrayText); }
"""


def retraining_sections(record: Record) -> list[Markup]:
    """Sections of a page; those of what is not known, or damaged, are left out."""
    found = [
        section("Against the search", *_against_the_search(record)),
        section("Classes", *class_sections(record)),
        section("Calibration", *_calibration(record.result.get("calibration"))),
        section("Worst mistakes", *_mistakes(record)),
    ]
    return [element("style", Markup(STYLE)), *found] if any(found) else []


def _against_the_search(record: Record) -> list[Markup]:
    """The test accuracy beside the accuracy under the search's shared weights."""
    search = record.result.get("search", record.last.get("search"))
    test = record.result.get("test")
    reached = (
        test.get("accuracy") if isinstance(test, Mapping) else record.last.get("test/accuracy")
    )
    if not isinstance(search, Mapping) or not is_number(reached):
        return []
    where = f"the search {search.get('folder')}"
    names = {
        "accuracy": "all cells together, under shared weights",
        "selected_accuracy": "this cell, under shared weights",
    }
    rows = [
        [
            f"{where}: {what}",
            "validation",
            _percent(search[name]),
            f"{_points(reached, search[name])}",
        ]
        for name, what in names.items()
        if is_number(search.get(name))
    ]
    if not rows:
        return []
    header = ["network", "images", "accuracy, %", "this retraining, points"]
    found = [table(header, [["this retraining", "test", _percent(reached), ""], *rows])]
    if search.get("same_data") is not True:
        found.append(element("p", "The search was on other data: the numbers do not compare."))
    return found


def _points(reached: float, other: float) -> str:
    return f"{100 * (reached - other):+.2f}"


def _percent(value: object) -> str:
    return f"{100 * value:.2f}" if is_number(value) else "-"


def _calibration(told: object) -> list[Markup]:
    """The verdict, the reliability diagram, and its numbers."""
    if not isinstance(told, Mapping) or not all(
        is_number(told.get(k)) for k in ("error", "excess")
    ):
        return []
    columns = [told.get(name) for name in ("images", "confidence", "accuracy")]
    lists = [column for column in columns if isinstance(column, list)]
    if len(lists) < len(columns) or len({*map(len, lists)}) != 1 or not lists[0]:
        return []
    error, excess = float(told["error"]), float(told["excess"])
    manner = "surer than it is right" if excess > 0 else "less sure than it is right"
    said = (
        f"Expected calibration error {100 * error:.2f} %. On average the network is "
        f"{100 * abs(excess):.2f} % {manner}."
    )
    rows = []
    for i, (images, sure, right) in enumerate(zip(*lists, strict=True)):
        reach = f"{100 * i / len(lists[0]):.1f} to {100 * (i + 1) / len(lists[0]):.1f} %"
        rows.append([reach, str(images), _percent(sure), _percent(right)])
    how = (
        "Bars: how often answers of a confidence are right. On the dashed line confidence is true."
    )
    caption = element("figcaption", element("p", said), element("p", how, class_="soft"))
    header = ["confidence", "images", "mean confidence, %", "accuracy, %"]
    figure = element("figure", _diagram(lists[2], said), caption, class_="diagram")
    return [figure, folded("the numbers of the diagram", table(header, rows))]


def _diagram(accuracy: list[Any], said: str) -> Markup:
    """A bar per bin, as high as its accuracy, and the line of perfect calibration."""
    width = SIZE / len(accuracy)
    bars = [
        element("rect", x=LEFT + i * width + 1, y=ROOM + SIZE * (1 - value),
                width=width - 2, height=SIZE * value)
        for i, value in enumerate(accuracy)
        if is_number(value) and 0 <= value <= 1
    ]  # fmt: skip
    bottom, right = ROOM + SIZE, LEFT + SIZE
    marks = [
        mark
        for share in (0.0, 0.5, 1.0)
        for mark in (
            element("text", f"{100 * share:.0f}", x=LEFT + SIZE * share, y=bottom + 14,
                    text_anchor="middle", class_="tick"),
            element("text", f"{100 * share:.0f}", x=LEFT - 6, y=ROOM + 4 + SIZE * (1 - share),
                    text_anchor="end", class_="tick"),
        )
    ]  # fmt: skip
    even = element("line", x1=LEFT, y1=bottom, x2=right, y2=ROOM, class_="even")
    name = element("text", "confidence, %; upwards: accuracy, %", x=LEFT, y=bottom + 28)
    box = f"0 0 {right + 2 * ROOM} {bottom + BELOW}"
    label = f"Reliability diagram. {said}"
    return element("svg", *bars, even, *marks, name, viewBox=box, role="img", aria_label=label)


def _mistakes(record: Record) -> list[Markup]:
    """The pictures that are most surely taken for something else."""
    told, left = record.result.get("mistakes"), ALL_BYTES
    items = []
    for mistake in told if isinstance(told, list) else ():
        if not isinstance(mistake, Mapping) or not is_number(mistake.get("confidence")):
            continue
        label, said = (str(mistake.get(name)) for name in ("class", "said"))
        name = str(mistake.get("file", f"image {mistake.get('index')}"))
        sure = f"{100 * mistake['confidence']:.2f} %"
        content = _picture(record, mistake.get("picture"))
        picture = EMPTY
        if content is not None and len(content) <= left:
            left -= len(content)
            data = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            picture = element("img", src=data, alt=f"{name}: {label}, taken for {said}")
        words = join(element("b", label), " taken for ", element("b", said), f", {sure}")
        items.append(element("li", picture, words, element("div", name, class_="soft")))
    if not items:
        return []
    how = "Test images that are taken for another class, the surest first, with the confidence."
    return [element("p", how, class_="soft"), element("ul", *items, class_="mistakes")]


def _picture(record: Record, path: object) -> bytes | None:
    """A picture of the run's own folder, if it is there and small."""
    if not isinstance(path, str) or not re.fullmatch(r"mistakes/[0-9]+\.png", path):
        return None
    try:
        if (record.folder / path).stat().st_size > PICTURE_BYTES:
            return None
        content = (record.folder / path).read_bytes()
    except OSError:
        return None
    return content if content.startswith(PNG) else None
