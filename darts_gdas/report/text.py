"""Operations in drawings: readable names, their font and width before they are drawn, colours."""

import re
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from darts_gdas.space import Family

FONT, FONT_SIZE = "DejaVu Sans", 9.0  # points
INK = "#14202C"
PILLS = {  # fill, outline, text
    Family.none: ("#FFFFFF", "#D5DADF", "#8A949E"),
    Family.skip: ("#E6E9EC", "#7C8894", INK),
    Family.pool: ("#F7E6A1", "#A98B14", INK),
    Family.separable: ("#BAD7F2", "#2F74AE", INK),
    Family.dilated: ("#FAC9A8", "#C8622B", INK),
    Family.other: ("#E3CBE6", "#8E5A99", INK),
}


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
