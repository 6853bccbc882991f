"""Text in drawings: its font, its width before it is drawn, readable names."""

import re
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

FONT, FONT_SIZE = "DejaVu Sans", 9.0  # points
INK = "#14202C"


def text_style(size: float = FONT_SIZE) -> dict[str, Any]:
    """How text in a picture is set; no part of it is mathematics."""
    return {"family": FONT, "size": size, "color": INK, "parse_math": False, "usetex": False}


def operation_label(name: str) -> str:
    """A short readable label: "sep_conv_3x3" becomes "sep conv 3x3", with a times sign."""
    words = name.replace("skip_connect", "skip").removeprefix("nor_").replace("_", " ")
    return re.sub(r"(\d)x(?=\d)", "\\1\N{MULTIPLICATION SIGN}", words)


def text_width(text: str, size: float) -> float:
    """Width in inches of a text without mathematics, in points `size`."""
    font = FontProperties(family=FONT, size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72
