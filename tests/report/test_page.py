import re

from darts_gdas.report.charts import NUM_COLORS
from darts_gdas.report.markup import EMPTY, element
from darts_gdas.report.page import charts, command, document, facts, folded, heading, section
from darts_gdas.report.style import COLORS, DARK, STYLE
from tests.pages import Page, assert_is_safe


def contrast(first: str, second: str) -> float:
    """WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of the relative luminances."""
    lights = []
    for color in (first, second):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_a_document_is_whole_and_safe():
    parts = (
        heading("a < b", "c & d"),
        section("facts", facts({"x": "1", "y": None})),
        section("more", charts(element("figure")), folded("s", "t"), command("do", "a 'b'")),
    )
    page = Page(document("<title>", *parts))
    assert_is_safe(page)
    assert page.count("section") == 2 and "a < b c & d" in page.text and "y" not in page.words
    policy = next(a for t, a in page.elements if a.get("http-equiv"))
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_what_is_empty_is_left_out():
    assert section("title", charts(), facts({"x": None})) == EMPTY


def test_text_and_curves_can_be_read_in_both_schemes():
    """Text needs a contrast of 4.5, lines 3 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    for scheme in (COLORS, COLORS + DARK):
        colors = dict(re.findall(r"--([\w-]+): (#\w{6})", scheme))
        for ground in ("card", "page"):
            for ink in ("ink", "soft", "accent"):
                assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
            for i in range(NUM_COLORS):
                assert contrast(colors[f"s{i}"], colors[ground]) >= 3, (i, ground)
        assert contrast(colors["ink"], colors["warn"]) >= 4.5
        assert contrast(colors["node-ink"], colors["node"]) >= 4.5


def test_every_colour_that_is_used_is_defined_and_all_change_in_the_dark():
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE)) - {"share"}
    defined = set(re.findall(r"--([\w-]+):", COLORS))
    assert used == defined == set(re.findall(r"--([\w-]+):", DARK))
