import base64
import hashlib
import re

from darts_gdas.report.charts import NUM_COLORS
from darts_gdas.report.markup import EMPTY, element
from darts_gdas.report.page import (
    ASSETS,
    SCRIPTS,
    STYLE,
    charts,
    command,
    document,
    facts,
    folded,
    heading,
    pause,
    section,
)
from darts_gdas.report.text import PILLS
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


LIGHT, DARK, PRINT = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)


def colors_of(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#\w{6})", block))


def test_text_and_curves_can_be_read_in_all_schemes():
    """Text needs a contrast of 4.5, lines 3 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    for colors in map(colors_of, (LIGHT, DARK, PRINT)):
        for ground in ("card", "page"):
            for ink in ("ink", "soft", "accent"):
                assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
            for i in range(NUM_COLORS):
                assert contrast(colors[f"s{i}"], colors[ground]) >= 3, (i, ground)
        assert contrast(colors["ink"], colors["warn"]) >= 4.5
        assert contrast(colors["node-ink"], colors["node"]) >= 4.5


def test_numbers_can_be_read_on_every_shade():
    """The deepest shade is 48 % of its colour on the card."""
    for colors in map(colors_of, (LIGHT, DARK, PRINT)):
        for tint in ("s0", "s3"):
            parts = [[int(colors[n][i : i + 2], 16) for i in (1, 3, 5)] for n in (tint, "card")]
            mixed = [round(0.48 * a + 0.52 * b) for a, b in zip(*parts, strict=True)]
            shade = "#" + "".join(f"{value:02x}" for value in mixed)
            assert contrast(colors["ink"], shade) >= 4.5, (tint, shade)


def test_every_colour_that_is_used_is_defined_and_all_change_in_the_dark():
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE)) - {"share", "tint"}
    defined = [set(re.findall(r"--([\w-]+):", block)) for block in (LIGHT, DARK, PRINT)]
    assert used == defined[0] == defined[1] == defined[2]


def test_colours_are_never_the_only_cue():
    """Where two colours are alike to some eyes, their dashes differ: red, orange; both greens."""
    dashes = dict(re.findall(r"\.line\.(s\d) \{[^}]*stroke-dasharray: ([^;]+);", STYLE))
    assert len(dashes) == NUM_COLORS
    for first, second in (("s1", "s7"), ("s2", "s6"), ("s1", "s6"), ("s3", "s6"), ("s2", "s4")):
        pair = dashes[first], dashes[second]
        assert pair[0] != pair[1] or first == "s3", pair


def test_families_look_on_pages_as_in_pictures():
    for family, (fill, line, _) in PILLS.items():
        assert (
            f".edge.{family.value} .pill {{ fill: {fill.lower()}; stroke: {line.lower()}; }}"
            in STYLE
        )


def test_only_its_own_scripts_may_run_in_a_page():
    html = document("x")
    for script in SCRIPTS:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"&#x27;sha256-{digest}&#x27;" in html and f"<script>{script}</script>" in html
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)[0]
    assert "unsafe-eval" not in policy and "script-src &#x27;unsafe" not in policy
    assert not any("</script" in script for script in SCRIPTS)


def test_the_library_stands_with_its_licence_and_version():
    assert (ASSETS / "uPlot.LICENSE").read_text().startswith("The MIT License")
    assert "uPlot (v1.6.32)" in SCRIPTS[0][:100]


def test_a_page_reads_itself_again_only_where_it_should():
    assert "data-refresh" not in document("x") and pause(None) == EMPTY
    assert '<body data-refresh="10">' in document("x", refresh=10.0)
    assert "every 10 s" in pause(10.0)
