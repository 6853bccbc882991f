"""A page that is one file: nothing is loaded, nothing runs, all text is escaped."""

from collections.abc import Mapping

from darts_gdas.report.markup import EMPTY, Markup, element, join
from darts_gdas.report.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for a page: nothing; pictures stand in it. A script would not run."""


def document(title: str, *content: Markup) -> str:
    """The whole file."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    body = element("body", element("main", *content))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def heading(title: str, *lines: str) -> Markup:
    """The top of a page."""
    return element(
        "header", element("h1", title), *(element("p", line, class_="soft") for line in lines)
    )


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


def charts(*figures: Markup, small: bool = False) -> Markup:
    """Charts in as many columns as there is room for; nothing where there are none."""
    return element("div", *figures, class_="small" if small else "charts") if figures else EMPTY


def folded(summary: str, *content: str) -> Markup:
    """Content that opens with a click."""
    return element("details", element("summary", summary), *content)


def code(text: str) -> Markup:
    """Text as it would be typed."""
    return element("pre", text)


def command(what: str, line: str) -> Markup:
    """A command and what it is for."""
    return join(element("p", what), code(line))
