"""Outer networks as lines of Python, and the lines that several of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Code:
    """The outer network as lines of Python, for a program that writes a network out.

    Attributes:
        stem: Statements that make what precedes the cells.
        tail: Statements that make what follows them, before the pooling.
        run: Statements from the images `x` to the last cell.
        last: The expression of what is pooled.
        names: Where the weights of stem and tail lie in the code, by where they lie here.
        classes: Class of each kind of cell; a kind without one is a cell of a single operation and
            is written as that.
    """

    stem: tuple[str, ...]
    tail: tuple[str, ...]
    run: tuple[str, ...]
    last: str
    names: Mapping[str, str]
    classes: Mapping[str, str] = field(default_factory=dict)


WIDTH = 100 - 8
"""Columns of a statement in a method."""


def sequential(name: str, parts: Sequence[str]) -> tuple[str, ...]:
    """The statement that makes `self.NAME`, modules one after the other, as a formatter wants it.

    Example:
        >>> sequential("tail", ["nn.BatchNorm2d(8)", "nn.ReLU()"])
        ('self.tail = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())',)
    """
    inside, begin = ", ".join(parts), f"self.{name} = nn.Sequential("
    if len(parts) > 2:
        return (begin, *(f"    {part}," for part in parts), ")")
    if len(begin) + len(inside) < WIDTH:
        return (f"{begin}{inside})",)
    return begin, f"    {inside}", ")"


def conv_norm(before: int, after: int, stride: int = 1) -> list[str]:
    """A 3x3 convolution and a norm."""
    strided = "" if stride == 1 else f" stride={stride},"
    conv = f"nn.Conv2d({before}, {after}, 3,{strided} padding=1, bias=False)"
    return [conv, f"nn.BatchNorm2d({after})"]


SMALL_STEM_NAMES = {"stem.conv": "stem.0", "stem.norm": "stem.1"}
RUN_ONE_STATE = ("x = self.stem(x)", "for cell in self.cells:", "    x = cell(x)")
