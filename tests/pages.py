"""Pages read back: what is in them, whether they are whole, and what their charts show."""

import glob
import json
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from darts_gdas.report.page import SCRIPTS

VOID = {"br", "img", "input", "meta"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
CACHES = ("chromium-*/chrome-linux*/chrome", "chromium_headless_shell-*/*/*headless*shell")


class Page(HTMLParser):
    """Elements with their attributes, and the text; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open[-1:] == ["script"] else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def assert_is_safe(page: Page) -> None:
    """Only our scripts run, nothing is loaded: no such element, no handler, no foreign address."""
    assert not {tag for tag, _ in page.elements} & {
        "link", "iframe", "object", "embed", "image", "use", "base", "form",
    }  # fmt: skip
    kinds = [attributes for tag, attributes in page.elements if tag == "script"]
    texts = dict(zip(page.scripts, kinds, strict=True))
    assert [text for text, kind in texts.items() if not kind] == SCRIPTS
    assert all(kind in ({}, {"type": "application/json"}) for kind in kinds)
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), attributes
        if tag == "img":  # a picture that stands in the page, with words in its place
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
            assert attributes["alt"]
        else:
            assert "src" not in attributes
        assert tag == "a" or "href" not in attributes
        assert ":" not in (attributes.get("href") or "")
        assert "url(" not in (attributes.get("style") or "")
    style = page.words[page.words.index(next(w for w in page.words if ":root" in w))]
    assert "url(" not in style and "@import" not in style


FIGURE = re.compile(r"<figure [^>]*>.*?</figure>", re.DOTALL)
SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)


def figures(html: str) -> dict[str, ET.Element]:
    """Charts by their titles, parsed as XML, without the values for the script."""
    found = [ET.fromstring(SCRIPT.sub("", text)) for text in FIGURE.findall(html)]
    return {"".join(figure[0].itertext()).strip(): figure for figure in found}


def chart_values(html: str) -> dict[str, Any]:
    """What charts hand to the script, by their titles."""
    found = [SCRIPT.search(text) for text in FIGURE.findall(html)]
    return dict(zip(figures(html), (json.loads(match[1]) for match in found if match), strict=True))


def curves(figure: ET.Element) -> list[list[tuple[float, float]]]:
    """The points of every curve of the static picture, in the numbers of its axes."""
    svg = picture(figure)
    lines = [path for path in svg.iter("path") if path.get("class", "").startswith("line")]
    found = [re.findall(r"[ML]([-\d.]+) ([-\d.]+)", line.get("d", "")) for line in lines]
    return [[read(svg, float(x), float(y)) for x, y in points] for points in found]


def dots(figure: ET.Element) -> list[tuple[str, float, float]]:
    """Class and place of every dot of the static picture, in the numbers of its axes."""
    svg = picture(figure)
    glyphs = [text for text in svg.iter("text") if "glyph" in text.get("class", "")]
    places = [read(svg, float(g.get("x", "")), float(g.get("y", "")) - 4) for g in glyphs]
    return [(g.get("class", "").split()[1], *p) for g, p in zip(glyphs, places, strict=True)]


def picture(figure: ET.Element) -> ET.Element:
    (svg,) = (svg for svg in figure.findall("svg") if svg.get("class") == "static")
    return svg


def read(svg: ET.Element, x: float, y: float) -> tuple[float, float]:
    """Numbers from a place: the labels of the axes tell them."""
    values = []
    for axis, place in (("x", x), ("y", y)):
        texts = [text for text in svg.iter("text") if text.get("class") == f"tick {axis}"]
        labels = [(float(text.get(axis, "")), number(text.text)) for text in texts]
        (first, a), (last, b) = labels[0], labels[-1]
        shift = 3.5 if axis == "y" else 0.0  # of the text below its line
        values.append(a + (place - (first - shift)) * (b - a) / (last - first))
    return values[0], values[1]


def number(text: str | None) -> float:
    match = re.fullmatch(r"(-?[\d.e-]+)([kMG]?)", text or "")
    assert match, text
    return float(match[1]) * {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]]


def browser() -> str | None:
    """A Chromium of the system, or one that playwright has installed."""
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    cache = Path.home() / ".cache" / "ms-playwright"
    found = [path for pattern in CACHES for path in glob.glob(str(cache / pattern))]
    return installed or next(iter(found), None)
