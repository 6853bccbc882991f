import pytest

from darts_gdas.report.charts import NUM_COLORS, Dot, line_chart, scatter_chart
from tests.pages import chart_values, curves, dots, figures

LOSS = [(1.0, 2.5), (2.0, 1.25), (3.0, 0.5), (4.0, 0.75)]
ACCURACY = [(1.0, 0.1), (3.0, 0.9)]


def test_curves_lie_where_the_axes_say():
    """The numbers are read back from positions: half of the last digit, 0.05, of 150 pixels."""
    chart = line_chart("a < b", {"loss": LOSS, "accuracy": ACCURACY})
    (figure,) = figures(chart).values()
    for points, expected in zip(curves(figure), (LOSS, ACCURACY), strict=True):
        assert [x for x, _ in points] == pytest.approx([x for x, _ in expected], abs=0.005)
        assert [y for _, y in points] == pytest.approx([y for _, y in expected], abs=0.005)


def test_the_script_gets_the_values_that_the_picture_shows():
    (values,) = chart_values(line_chart("x", {"loss": LOSS, "a": ACCURACY}, y=(0, 3))).values()
    assert values["series"] == [
        {"name": "loss", "x": [1, 2, 3, 4], "y": [2.5, 1.25, 0.5, 0.75]},
        {"name": "a", "x": [1, 3], "y": [0.1, 0.9]},
    ]
    assert values["x"] == "epoch" and values["range"] == [1, 4, 0, 3]


def test_legend_and_label_say_the_last_values():
    (figure,) = figures(line_chart("Loss", {"train": LOSS, "test": ACCURACY})).values()
    items = [" ".join("".join(item.itertext()).split()) for item in figure.iter("li")]
    assert items == ["train 0.75", "test 0.9"]
    (svg,) = (svg for svg in figure.findall("svg"))
    assert svg.get("aria-label") == ("Loss, by epoch: train from 2.5 to 0.75; test from 0.1 to 0.9")


def test_noise_does_not_fill_an_axis():
    """0.99997 to 1 is a flat line: the axis spans a tenth of its numbers."""
    (values,) = chart_values(line_chart("x", {"a": [(1.0, 0.99997), (2.0, 1.0)]})).values()
    _, _, low, high = values["range"]
    assert high - low == pytest.approx(0.1)


def test_one_point_no_point_and_equal_points_are_drawn():
    for points in ([(1.0, 0.0)], [], [(1.0, 5.0), (2.0, 5.0)], [(1.0, 1e-320)]):
        (figure,) = figures(line_chart("x", {"a": points})).values()
        lines = [p for p in figure[1].iter("path") if "line" in p.get("class", "")]
        assert len(lines) == min(len(points), 1)


def test_a_scatter_has_a_shape_per_group_and_a_front_in_steps():
    groups = {"cheap": [Dot(1.0, 1.0), Dot(2.0, 0.5)], "dear": [Dot(3.0, 2.0, "told")]}
    chart = scatter_chart("x", groups, x_label="cost", front=[(1.0, 1.0), (3.0, 2.0)])
    (figure,) = figures(chart).values()
    drawn = dots(figure)
    assert [style for style, _, _ in drawn] == ["s0", "s0", "s1"]
    places = [place for _, *place in drawn]
    assert places == [pytest.approx(p, abs=0.02) for p in [[1, 1], [2, 0.5], [3, 2]]]
    glyphs = [text.text for text in figure[1].iter("text") if "glyph" in text.get("class", "")]
    assert glyphs[0] == glyphs[1] != glyphs[2]
    (steps,) = (p.get("d", "") for p in figure[1].iter("path") if p.get("class") == "front")
    assert steps.count("H") == steps.count("V") == 1
    (values,) = chart_values(chart).values()
    assert values["front"] == [[1, 1], [3, 2]] and values["series"][1]["told"] == ["told"]


def test_words_stand_for_numbers_that_are_none():
    chart = scatter_chart(
        "x", {"a": [Dot(0.0, 1.0)], "b": [Dot(1.0, 2.0)]}, x_label="method",
        columns={"method": ["darts", "gdas"], "seconds": [None, 3.0]}, words=["darts", "gdas"],
    )  # fmt: skip
    (figure,) = figures(chart).values()
    assert [t.text for t in figure[1].iter("text") if t.get("class") == "tick x"] == [
        "darts", "gdas",
    ]  # fmt: skip
    (values,) = chart_values(chart).values()
    assert values["columns"]["seconds"] == [None, 3.0]


def test_more_series_than_colours_begin_again():
    chart = line_chart("x", {str(i): [(1.0, float(i))] for i in range(NUM_COLORS + 1)})
    assert chart.count('class="line s0"') == 2 * chart.count('class="line s7"')
    chosen = line_chart("x", {"a": LOSS, "b": LOSS}, styles=[3, 3])
    assert chosen.count("s3") == 4
