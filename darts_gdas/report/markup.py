"""HTML and SVG as text that cannot be broken by what stands in it."""

import html
import json


class Markup(str):
    """Text that is markup already; any other text is escaped where it enters an element."""

    __slots__ = ()


EMPTY = Markup("")
VOID = ("br", "img", "input", "meta")


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """An element: children that are no `Markup` are escaped, and so are all attributes.

    Args:
        name: The element's name.
        children: Its content.
        attributes: By name; `class_` is `class`, other underscores are hyphens, None is left out.

    Example:
        >>> element("p", "1 < 2", element("b", "!"), class_="a")
        '<p class="a">1 &lt; 2<b>!</b></p>'
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*parts: str) -> Markup:
    """Parts one after the other, escaped unless they are markup."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(p) for p in parts))


def values(data: object) -> Markup:
    r"""Values for the page's script, as JSON that no text in it can end.

    Example:
        >>> values({"a": "</script>"})
        '<script type="application/json">{"a":"\\u003c/script>"}</script>'
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Markup(f'<script type="application/json">{text}</script>')


def table(header: list[str], rows: list[list[str]], **attributes: str) -> Markup:
    """A table that scrolls by itself where it is too wide; the first column names the rows."""
    head = element("tr", *(element("th", name, scope="col") for name in header))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", c) for c in row[1:]))
        for row in rows
    ]
    inside = element("table", element("thead", head), element("tbody", *body), **attributes)
    return element("div", inside, class_="scroll", tabindex=0, role="group", aria_label="table")


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
