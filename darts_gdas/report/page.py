"""A page that is one file: nothing is loaded, only its own script runs, all text is escaped."""

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources

from darts_gdas.report.markup import EMPTY, Markup, element, join

ASSETS = resources.files("darts_gdas.report") / "assets"
STYLE, *SCRIPTS = (
    (ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "uPlot.js", "page.js")
)


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    f"script-src {' '.join(map(_hash, SCRIPTS))}"
)
"""What a browser may load and run for a page: its own two scripts, known by their hashes.
Pictures stand in it."""


def document(title: str, *content: Markup, refresh: float | None = None) -> str:
    """The whole file.

    Args:
        title: The page's name.
        content: Its parts.
        refresh: Seconds after which it reads itself again; None where nothing will change.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    scripts = [element("script", Markup(script)) for script in SCRIPTS]
    body = element("body", element("main", *content), *scripts, data_refresh=refresh)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def heading(title: str, *lines: str) -> Markup:
    """The top of a page."""
    return element(
        "header", element("h1", title), *(element("p", line, class_="soft") for line in lines)
    )


def pause(seconds: float | None) -> Markup:
    """Says that the page follows its run, and lets the reader stop that; nothing for None."""
    if seconds is None:
        return EMPTY
    box = element("input", type="checkbox", id="pause")
    told = f" stay as it is (else this page reads itself again every {seconds:.0f} s)"
    return element("p", element("label", box, told), class_="soft needs-script")


def section(title: str, *content: str, style: str | None = None) -> Markup:
    """A part of a page; nothing where it has no content."""
    if not any(content):
        return EMPTY
    return element("section", element("h2", title), *content, class_=style)


def facts(pairs: Mapping[str, str | None]) -> Markup:
    """Names and values side by side; what is None is left out."""
    items = [
        element("div", element("dt", name), element("dd", value))
        for name, value in pairs.items()
        if value is not None
    ]
    return element("dl", *items, class_="facts") if items else EMPTY


def charts(*figures: Markup, choose: str | None = None) -> Markup:
    """Charts in as many columns as there is room for; nothing where there are none.

    Args:
        figures: The charts.
        choose: What the reader chooses between them by; None shows them all.
    """
    style = "together" if choose else "charts"
    return element("div", *figures, class_=style, data_choose=choose) if figures else EMPTY


def how_to() -> Markup:
    """What charts let readers do."""
    told = (
        "Point at a chart to read its values; drag over a part to enlarge it, double-click to go "
        "back; a name in a legend hides its curve."
    )
    return element("p", told, class_="soft needs-script")


def folded(summary: str, *content: str) -> Markup:
    """Content that opens with a click."""
    return element("details", element("summary", summary), *content)


def code(text: str) -> Markup:
    """Text as it would be typed."""
    return element("pre", text)


def command(what: str, line: str) -> Markup:
    """A command and what it is for."""
    return join(element("p", what), code(line))
