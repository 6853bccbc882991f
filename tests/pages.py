"""Pages read back: what is in them, whether they are whole, and what their charts show."""

import glob
import re
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

VOID = {"br", "img", "meta"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
CACHES = ("chromium-*/chrome-linux*/chrome", "chromium_headless_shell-*/*/*headless*shell")


class Page(HTMLParser):
    """Elements with their attributes, and the text; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
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
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def assert_is_safe(page: Page) -> None:
    """Nothing runs, nothing is loaded: no such element, no handler, no address but of a page."""
    assert not {tag for tag, _ in page.elements} & {
        "script", "link", "iframe", "object", "embed", "image", "use", "base", "form",
    }  # fmt: skip
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


def figures(html: str) -> dict[str, ET.Element]:
    """Charts by their titles, parsed as XML."""
    found = [ET.fromstring(text) for text in re.findall(r"<figure>.*?</figure>", html, re.DOTALL)]
    return {"".join(figure[0].itertext()): figure for figure in found}


def curves(figure: ET.Element) -> list[list[tuple[float, float]]]:
    """The points of every curve, in the numbers of the axes: positions of two labels tell them."""
    (svg,) = figure.findall("svg")
    scales = []
    for axis in ("x", "y"):
        texts = [text for text in svg.iter("text") if text.get("class") == f"tick {axis}"]
        labels = [(float(text.get(axis, "")), number(text.text)) for text in texts]
        (first, a), (last, b) = labels[0], labels[-1]
        shift = 3.5 if axis == "y" else 0.0  # of the text below its line
        scales.append((first - shift, a, (b - a) / (last - first)))
    (x0, a, across), (y0, b, up) = scales
    return [
        [
            (a + (float(x) - x0) * across, b + (float(y) - y0) * up)
            for x, y in (pair.split(",") for pair in line.get("points", "").split())
        ]
        for line in svg.iter("polyline")
    ]


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
