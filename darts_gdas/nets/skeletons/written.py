"""Lines of code that skeletons share."""

from collections.abc import Sequence

from darts_gdas.nets.layout import Layout

WIDTH = 100 - 8
"""Columns of a statement in a method."""


def sequential(name: str, parts: Sequence[str]) -> list[str]:
    """The statement that makes `self.NAME`, modules one after the other, as a formatter wants it.

    Example:
        >>> sequential("tail", ["nn.BatchNorm2d(8)", "nn.ReLU()"])
        ['self.tail = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())']
    """
    inside, begin = ", ".join(parts), f"self.{name} = nn.Sequential("
    if len(parts) > 2:
        return [begin, *(f"    {part}," for part in parts), ")"]
    if len(begin) + len(inside) < WIDTH:
        return [f"{begin}{inside})"]
    return [begin, f"    {inside}", ")"]


def conv_norm(before: int, after: int, stride: int = 1) -> list[str]:
    """A 3x3 convolution and a norm."""
    strided = "" if stride == 1 else f" stride={stride},"
    conv = f"nn.Conv2d({before}, {after}, 3,{strided} padding=1, bias=False)"
    return [conv, f"nn.BatchNorm2d({after})"]


def small_stem(layout: Layout) -> tuple[str, ...]:
    """The code of `blocks.SmallImageStem`."""
    return tuple(sequential("stem", conv_norm(layout.in_channels, layout.stem_channels)))


SMALL_STEM_NAMES = {"stem.conv": "stem.0", "stem.norm": "stem.1"}
RUN_ONE_STATE = ("x = self.stem(x)", "for cell in self.cells:", "    x = cell(x)")
