"""Charts as inline SVG: their colours come from the page, their text keeps its size.

A chart is drawn for the width that it has on a telephone, so that nothing shrinks there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from darts_gdas.report.markup import Markup, element, join
from darts_gdas.report.numbers import short, span, ticks, told_apart

Point = tuple[float, float]

NUM_COLORS = 8
"""How many colours the page has; further series repeat them, dashed."""

WIDTH, HEIGHT, SMALL_WIDTH, SMALL_HEIGHT = 320, 170, 180, 104
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 8, 20  # around the plane
ROOM = 0.04  # share of a range that dots leave free beside them


@dataclass(frozen=True)
class Plane:
    """A rectangle that numbers are drawn in.

    Attributes:
        x: Least and largest number from left to right.
        y: Least and largest number upwards.
        width: Width of the chart, margins included.
        height: Height of the chart, margins included.
        left: Margin for the numbers of the axis.
    """

    x: Point
    y: Point
    width: float
    height: float
    left: float = LEFT

    def at(self, point: Point) -> Point:
        """Where a pair of numbers is drawn."""
        across, up = (
            (v - lo) / (hi - lo) for v, (lo, hi) in zip(point, (self.x, self.y), strict=True)
        )
        right, bottom = self.width - RIGHT, self.height - BOTTOM
        return self.left + across * (right - self.left), bottom - up * (bottom - TOP)


def line_chart(
    title: str,
    series: Mapping[str, Sequence[Point]],
    *,
    y: Point | None = None,
    small: bool = False,
    x_label: str = "epoch",
) -> Markup:
    """A figure with a curve per series, and below it a legend with the last values.

    Args:
        title: The title above the panels.
        series: Points of each curve by its name, from left to right.
        y: Range upwards; by default that of the values.
        small: Half as wide, without a legend: one of many that share one.
        x_label: What is from left to right.
    """
    points = [point for curve in series.values() for point in curve]
    width, height = (SMALL_WIDTH, SMALL_HEIGHT) if small else (WIDTH, HEIGHT)
    plane = _plane(points, y, width, height, left=28 if small else LEFT)
    parts = [_axes(plane, x_label, most=2 if small else 4)]
    for i, (name, curve) in enumerate(series.items()):
        if curve:
            parts.append(_curve(plane, name, curve, color(i)))
    caption = element("figcaption", title)
    drawn = _svg(plane, *parts, label=title)
    return element("figure", caption, drawn, *([] if small else [_legend(series)]))


def scatter_chart(
    title: str,
    groups: Mapping[str, Sequence[Point]],
    *,
    x_label: str,
    front: Sequence[Point] = (),
) -> Markup:
    """A figure with a dot per point in the colour of its group; a front is ringed, in steps."""
    plane = _plane(
        [p for points in groups.values() for p in points], None, WIDTH, 1.25 * HEIGHT, room=ROOM
    )
    parts = [_axes(plane, x_label)]
    if front:
        corners = [front[0]]
        for before, after in pairwise(front):
            corners += [(after[0], before[1]), after]
        parts.append(element("polyline", points=_path(plane, corners), class_="front"))
    for i, points in enumerate(groups.values()):
        parts += [_dot(plane, point, color(i), "3.5") for point in points]
    parts += [_dot(plane, point, "ring", "6") for point in front]
    legend = _legend({name: () for name in groups}) if len(groups) > 1 else Markup("")
    return element("figure", element("figcaption", title), _svg(plane, *parts, label=title), legend)


def strip_chart(title: str, groups: Mapping[str, Sequence[float]]) -> Markup:
    """A figure with a line per group: a dot per value, a bar at their mean, one common scale."""
    values = [(value, 0.5) for group in groups.values() for value in group]
    plane = _plane(values, (0.0, 1.0), WIDTH, TOP + BOTTOM + 14.0, RIGHT, ROOM)
    rows = []
    for name, group in groups.items():
        parts = [element("line", x1=RIGHT, x2=WIDTH - RIGHT, y1=15.0, y2=15.0, class_="grid")]
        parts += [_dot(plane, (value, 0.5), color(0), "4", opacity="0.65") for value in group]
        if group:
            x, y = plane.at((sum(group) / len(group), 0.5))
            parts.append(element("line", x1=x, x2=x, y1=y - 7, y2=y + 7, class_="mean"))
        row = _svg(plane, *parts, label=f"{title}: {name}", height=30.0)
        rows.append(element("div", element("span", name), row, class_="strip"))
    below = replace(plane, height=BOTTOM + 2.0)
    scale = _svg(below, _axes(below, "", upright=False), label="scale")
    return element("figure", element("figcaption", title), *rows, scale)


def color(index: int) -> str:
    """The class of a series' colour."""
    return f"s{index % NUM_COLORS}" + (" dashed" if index >= NUM_COLORS else "")


def shared_legend(names: Sequence[str]) -> Markup:
    """The legend of many small charts."""
    return _legend({name: () for name in names})


def _plane(
    points: Sequence[Point],
    y: Point | None,
    width: float,
    height: float,
    left: float = LEFT,
    room: float = 0.0,
) -> Plane:
    across = span([x for x, _ in points], margin=room)
    return Plane(across, y or span([y for _, y in points], margin=0.06), width, height, left)


def _svg(plane: Plane, *parts: Markup, label: str, height: float | None = None) -> Markup:
    box = f"0 0 {plane.width:g} {height or plane.height:g}"
    return element("svg", *parts, viewBox=box, role="img", aria_label=label)


def _axes(plane: Plane, x_label: str, *, most: int = 4, upright: bool = True) -> Markup:
    parts = []
    bottom, right = plane.height - BOTTOM, plane.width - RIGHT
    levels = ticks(*plane.y, most=most) if upright else []
    for value, told in zip(levels, told_apart(levels), strict=True):
        _, y = plane.at((plane.x[0], value))
        parts.append(element("line", x1=plane.left, x2=right, y1=y, y2=y, class_="grid"))
        text = element("text", told, x=plane.left - 4, y=y + 3.5, class_="tick y")
        parts.append(text)
    for value in ticks(*plane.x, most=most if x_label != "epoch" else most + 1):
        if x_label == "epoch" and value != int(value):
            continue
        x, _ = plane.at((value, plane.y[0]))
        parts.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 3, class_="axis"))
        parts.append(element("text", short(value), x=x, y=bottom + 14, class_="tick x"))
    parts.append(element("line", x1=plane.left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    if x_label not in ("", "epoch"):
        parts.append(element("text", x_label, x=right, y=bottom - 4, class_="tick name"))
    return join(*parts)


def _curve(plane: Plane, name: str, curve: Sequence[Point], style: str) -> Markup:
    told = element("title", f"{name}: {short(curve[0][1])} to {short(curve[-1][1])}")
    line = element("polyline", told, points=_path(plane, curve), class_=f"curve {style}")
    return join(line, _dot(plane, curve[-1], style, "2"))


def _path(plane: Plane, curve: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(plane.at, curve))


def _dot(plane: Plane, point: Point, style: str, radius: str, **more: str) -> Markup:
    x, y = plane.at(point)
    told = element("title", f"{short(point[0])}, {short(point[1])}")
    return element("circle", told, cx=x, cy=y, r=radius, class_=f"dot {style}", **more)


def _legend(series: Mapping[str, Sequence[Point]]) -> Markup:
    items = []
    for i, (name, curve) in enumerate(series.items()):
        swatch = element("i", class_=f"swatch {color(i)}")
        last = [element("b", short(curve[-1][1]))] if curve else []
        items.append(element("li", swatch, f"{name} ", *last))
    return element("ul", *items, class_="legend")
