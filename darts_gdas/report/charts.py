"""Charts: a static picture and its values, from which the page's script makes an interactive one.

The script (`assets/page.js`, with uPlot) takes colours, dashes and legend from the static picture,
which stays for print and for readers without JavaScript.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from darts_gdas.report.markup import EMPTY, Markup, element, join, values
from darts_gdas.report.numbers import powers, short, span, ticks

Point = tuple[float, float]


class Dot(NamedTuple):
    """A point, and what the page says of it where a reader points at it."""

    x: float
    y: float
    told: str = ""


NUM_COLORS = 8
GLYPHS = "\u25cf\u25b2\u25a0\u25c6\u25cb\u25b3\u25a1\u25c7"
"""Circle, triangle, square, diamond, then hollow: what tells dots apart beside their colours."""

WIDTH, HEIGHT = 360, 180
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 8, 20  # around the plane
LEAST = 0.1
"""An axis spans at least this share of its numbers, so that noise does not fill it."""


def line_chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    y: Point | None = None,
    x_label: str = "epoch",
    styles: Sequence[int] | None = None,
    about: Mapping[str, str] | None = None,
) -> Markup:
    """A figure with a curve per series; its legend has the last values.

    Args:
        title: The title above the panel, with the unit.
        series: Points of each curve by its name, from left to right.
        y: Range upwards; by default that of the values.
        x_label: What is from left to right.
        styles: Index of each curve's colour and dash; by default its place.
        about: Attributes of the figure for the page's script.
    """
    styles = styles or range(len(series))
    drawn = [(name, style, list(series[name])) for name, style in zip(series, styles, strict=True)]
    known = [point for _, _, points in drawn for point in points]
    x = span([px for px, _ in known], margin=0.0)
    y = y or span([py for _, py in known], margin=0.06, least=LEAST)
    told = [f"{n} from {short(p[0][1])} to {short(p[-1][1])}" for n, _, p in drawn if p]
    label = f"{title}, by {x_label}: {'; '.join(told) or 'no values'}"
    lines = [_line(points, style, x, y) for _, style, points in drawn if points]
    legend = [(n, style, short(p[-1][1]) if p else "") for n, style, p in drawn]
    data = {"x": x_label, "range": [*x, *y], "series": [_values(n, p) for n, _, p in drawn]}
    return _figure(title, label, [_axes(x, y, x_label), *lines], legend, data, about)


def scatter_chart(
    title: str,
    groups: Mapping[str, Sequence[Dot]],
    *,
    x_label: str,
    front: Sequence[Point] = (),
    styles: Sequence[int] | None = None,
    about: Mapping[str, str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    words: Sequence[str] = (),
    by_powers: bool = False,
) -> Markup:
    """A figure with a dot per point, in the colour and shape of its group; a front in steps.

    Args:
        title: The title above the panel.
        groups: Dots by the name of their group.
        x_label: What is from left to right.
        front: The points that nothing beats, from left to right.
        styles: Index of each group's colour and shape; by default its place.
        about: Attributes of the figure for the page's script.
        columns: Values of all dots, group by group, by name: readers choose the axes between them;
            None where a dot has none.
        words: What 0, 1, ... mean from left to right, where they are no numbers.
        by_powers: Whether dots stand at powers of ten; the axis then shows the numbers themselves.
    """
    styles = styles or range(len(groups))
    drawn = [(name, style, list(groups[name])) for name, style in zip(groups, styles, strict=True)]
    known = [dot for _, _, dots in drawn for dot in dots]
    x = span([dot.x for dot in known], margin=0.06, least=0.01)
    y = span([dot.y for dot in known], margin=0.06, least=0.01)
    parts = [_axes(x, y, x_label, words, by_powers), *_steps(front, x, y)]
    parts += [_dots(dots, style, x, y) for _, style, dots in drawn]
    left, right = (short(10**place if by_powers else place) for place in x)
    label = f"{title}: {len(known)} points; {x_label} from {left} to {right}"
    legend = [(name, style, "") for name, style, _ in drawn] if len(drawn) > 1 else []
    data = {
        "x": x_label, "range": [*x, *y], "dots": True, "front": [list(p) for p in front],
        "series": [_values(name, dots) for name, _, dots in drawn],
        **({"columns": columns} if columns else {}), "labels": {"x": list(words) or None},
        **({"powers": True} if by_powers else {}),
    }  # fmt: skip
    return _figure(title, label, parts, legend, data, about)


def color(index: int) -> str:
    """The class of a series' colour, dash and shape."""
    return f"s{index % NUM_COLORS}"


def _values(name: str, points: Sequence[Point | Dot]) -> dict[str, Any]:
    found = {"name": name, "x": [_few(p[0]) for p in points], "y": [_few(p[1]) for p in points]}
    told = [p.told for p in points if isinstance(p, Dot)]
    return found | ({"told": told} if any(told) else {})


def _few(value: float) -> float:
    return float(f"{value:.5g}")


def _figure(
    title: str,
    label: str,
    parts: Sequence[Markup],
    legend: Sequence[tuple[str, int, str]],
    data: Mapping[str, Any],
    about: Mapping[str, str] | None,
) -> Markup:
    picture = element(
        "svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label,
        class_="static",
    )  # fmt: skip
    items = []
    for name, style, told in legend:
        line = element("path", d="M0 6H22", class_=f"line {color(style)}")
        mark = _glyph(style, 11, 11) if "dots" in data else line
        key = element("svg", mark, viewBox="0 0 22 12", class_="key", aria_hidden="true")
        button = element("button", key, f"{name} ", element("b", told), type="button")
        items.append(element("li", button))
    caption = element("figcaption", title, " ", element("output"))
    names = element("ul", *items, class_="legend") if items else EMPTY
    return element("figure", caption, picture, names, values(data), class_="chart", **(about or {}))


def _at(point: Point | Dot, x: Point, y: Point) -> Point:
    across, up = (point[0] - x[0]) / (x[1] - x[0]), (point[1] - y[0]) / (y[1] - y[0])
    return LEFT + across * (WIDTH - RIGHT - LEFT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)


def _line(points: Sequence[Point], style: int, x: Point, y: Point) -> Markup:
    path = "L".join(f"{px:.1f} {py:.1f}" for px, py in (_at(p, x, y) for p in points))
    return element("path", d=f"M{path}h0", class_=f"line {color(style)}")


def _dots(dots: Sequence[Dot], style: int, x: Point, y: Point) -> Markup:
    return join(*(_glyph(style, px, py + 4) for px, py in (_at(dot, x, y) for dot in dots)))


def _glyph(style: int, x: float, y: float) -> Markup:
    shape = GLYPHS[style % NUM_COLORS]
    return element("text", shape, x=x, y=y, class_=f"glyph {color(style)}")


def _steps(front: Sequence[Point], x: Point, y: Point) -> list[Markup]:
    """The best that can be had for a cost, so it goes in steps."""
    if not front:
        return []
    (left, top), *rest = (_at(point, x, y) for point in front)
    path = "".join(f"H{px:.1f}V{py:.1f}" for px, py in rest)
    return [element("path", d=f"M{left:.1f} {top:.1f}{path}", class_="front")]


def _axes(
    x: Point, y: Point, x_label: str, words: Sequence[str] = (), by_powers: bool = False
) -> Markup:
    parts = []
    for level in ticks(*y):
        _, height = _at((x[0], level), x, y)
        parts.append(element("path", d=f"M{LEFT} {height:.1f}H{WIDTH - RIGHT}", class_="grid"))
        parts.append(element("text", short(level), x=LEFT - 5, y=height + 3.5, class_="tick y"))
    whole = bool(words) or x_label == "epoch"
    places = powers(*x) if by_powers else ticks(*x, most=5)
    for value in (v for v in places if v == int(v) or not whole):
        known = 0 <= value < len(words)
        number = short(10**value if by_powers else value)
        told = words[int(value)][: max(45 // len(words), 2)] if known else number
        across, _ = _at((value, y[0]), x, y)
        parts.append(element("text", told, x=across, y=HEIGHT - 6, class_="tick x"))
    return join(*parts)
