from xml.etree import ElementTree

import pytest

from darts_gdas.report.charts import line_chart, scatter_chart, strip_chart
from tests.pages import curves, figures, number

LOSS = [(1.0, 2.5), (2.0, 1.25), (3.0, 0.5), (4.0, 0.75)]
ACCURACY = [(1.0, 0.1), (3.0, 0.9)]


@pytest.mark.parametrize("small", [False, True])
def test_curves_lie_where_the_axes_say(small: bool):
    """The numbers are read back from positions: half of the last digit, 0.05, of 70 pixels."""
    chart = line_chart("a < b", {"loss": LOSS, "accuracy": ACCURACY}, small=small)
    (figure,) = figures(chart).values()
    drawn = curves(figure)
    for points, expected in zip(drawn, (LOSS, ACCURACY), strict=True):
        assert [x for x, _ in points] == pytest.approx([x for x, _ in expected], abs=0.005)
        assert [y for _, y in points] == pytest.approx([y for _, y in expected], abs=0.005)


def test_the_legend_names_every_curve_with_its_last_value():
    chart = ElementTree.fromstring(line_chart("x", {"loss": LOSS, "accuracy": ACCURACY}))
    items = [" ".join("".join(item.itertext()).split()) for item in chart.iter("li")]
    assert items == ["loss 0.75", "accuracy 0.9"]
    assert next(iter(figures(line_chart("x", {"loss": LOSS})))) == "x"
    assert "<li>" not in line_chart("x", {"loss": LOSS}, small=True)


def test_one_point_no_point_and_equal_points_are_drawn():
    for points in ([(1.0, 0.0)], [], [(1.0, 5.0), (2.0, 5.0)], [(1.0, 1e-320)]):
        chart = ElementTree.fromstring(line_chart("x", {"a": points}))
        assert len(list(chart.iter("circle"))) == min(len(points), 1)


def test_more_series_than_colours_are_dashed():
    chart = line_chart("x", {str(i): [(1.0, float(i))] for i in range(9)})
    assert "curve s0 dashed" in chart and "curve s7 dashed" not in chart


def test_a_scatter_rings_the_front_and_joins_it_in_steps():
    groups = {"cheap": [(1.0, 1.0), (2.0, 0.5)], "dear": [(3.0, 2.0)]}
    chart = ElementTree.fromstring(
        scatter_chart("x", groups, x_label="cost", front=[(1.0, 1.0), (3.0, 2.0)])
    )
    dots = [dot.get("class") for dot in chart.iter("circle")]
    assert dots == ["dot s0", "dot s0", "dot s1", "dot ring", "dot ring"]
    (steps,) = curves(chart)
    assert steps == [pytest.approx(p, abs=0.01) for p in [(1.0, 1.0), (3.0, 1.0), (3.0, 2.0)]]


def test_a_strip_has_a_dot_per_value_and_a_bar_at_the_mean():
    groups = {"darts": [90.0, 94.0], "gdas": [92.0], "none": []}
    chart = ElementTree.fromstring(strip_chart("accuracy", groups))
    *rows, scale = chart.iter("svg")
    labels = {number(t.text): float(t.get("x", "")) for t in scale.iter("text")}
    least, most = min(labels), max(labels)
    per_unit = (labels[most] - labels[least]) / (most - least)
    for row, values in zip(rows, groups.values(), strict=True):
        dots = [float(dot.get("cx", "")) for dot in row.iter("circle")]
        assert dots == pytest.approx(
            [labels[least] + (v - least) * per_unit for v in values], abs=0.1
        )
        bars = [float(b.get("x1", "")) for b in row.iter("line") if b.get("class") == "mean"]
        assert bars == pytest.approx([sum(dots) / len(dots)] if dots else [], abs=0.1)
