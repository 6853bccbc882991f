"""Operations of a user's own in written code: whole, in a process of its own, or refused."""

import functools
import math
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d as Convolution

from darts_gdas.nets import OPERATIONS, Layout, register_operation
from darts_gdas.nets.candidates import ReluFirst
from darts_gdas.portable.bundle import Format, largest_difference, make
from darts_gdas.portable.parts import expression
from darts_gdas.portable.source import source_of
from darts_gdas.tasks.model import TrainedModel
from tests.portable.test_source import model_of, one_operation

SLOPE = 0.25


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """The operations as they were before."""
    before = dict(OPERATIONS)
    yield
    OPERATIONS.clear()
    OPERATIONS.update(before)


def soft(x: Tensor) -> Tensor:
    return F.softplus(x) - math.log(2) + SLOPE * x


class Scale(nn.Module):
    """One number per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return soft(x) * self.weight


class Gate(nn.Module):
    """Names of its own module, of torch and of Python's library."""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super(Gate, self).__init__()  # noqa: UP008
        self.conv: Any = Convolution(channels, channels, 3, stride, padding=1)
        self.scale = functools.reduce(nn.Sequential, [Scale(channels), nn.Identity()])
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """\u00dcber alle Kan\u00e4le."""
        return self.norm(self.scale(self.conv(x)))


class Blur(ReluFirst):
    """Shares the ReLU of the state that it reads."""

    def __init__(self, channels: int, stride: int = 1, affine: bool = True, *, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, side, stride, side // 2, groups=channels)

    def after_relu(self, x: Tensor) -> Tensor:
        return self.conv(x)


def gate(width: int, step: int, affine: bool) -> nn.Module:
    return Gate(width, step, affine)


class Numbers(nn.Module):
    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, stride, padding=1)
        self.factor = float(np.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.pool(x)


class Net(Gate):
    """Called as what is written around it."""


class ReluConvNorm(Gate):
    """Called as a block of ours."""


def model(name: str = "mine") -> TrainedModel:
    found = model_of(one_operation(name), Layout(4, 4, 5))
    found.net.float()
    return found


def source() -> str:
    return source_of(model(), ["A network."])


@pytest.mark.parametrize(
    ("factory", "python", "strided", "plain"),
    [
        (Gate, None, "Gate(channels, 2, True)", "Gate(channels, 1, True)"),
        (gate, None, "gate(channels, 2, True)", "gate(channels, 1, True)"),
        (functools.partial(Blur, side=3), None, "Blur(channels, 2, side=3)",
         "Blur(channels, side=3)"),
        (lambda c, s, a: Gate(c, s, a), lambda s: f"Gate(channels, {s}, {s < 3})",
         "Gate(channels, 2, True)", "Gate(channels, 1, True)"),
        (lambda c, s, a: nn.Identity() if s == 1 else nn.AvgPool2d(s, ceil_mode=True),
         lambda s: "" if s == 1 else f"nn.AvgPool2d({s}, ceil_mode=True)",
         "nn.AvgPool2d(2, ceil_mode=True)", ""),
    ],
    ids=["class", "function", "partial", "form", "as it is"],
)  # fmt: skip
def test_it_is_written_and_loads_where_this_project_is_not(
    factory: Callable[..., nn.Module], python: Callable[[int], str] | None, strided: str, plain: str
):
    register_operation("mine", factory, python=python)
    assert (expression("mine", 2), expression("mine", 1)) == (strided, plain)
    trained = model()
    files = make(trained, Format.python)
    assert largest_difference(trained, Format.python, files) < 1e-5
    assert f" = {strided}\n" in files["network.py"].decode()


def test_what_it_names_is_copied_or_imported_once():
    register_operation("mine", Gate)
    text = source()
    for line in (
        "SLOPE = 0.25", "import math", "import functools as functools",
        "from typing import Any as Any",
        "from torch.nn.modules.conv import Conv2d as Convolution", "def soft(x: Tensor) -> Tensor:",
        "class Scale(nn.Module):", "class Gate(nn.Module):",
    ):  # fmt: skip
        assert text.splitlines().count(line) == 1, line
    assert text.index("SLOPE =") < text.index("def soft") < text.index("class Gate")


def test_a_class_inside_a_function_is_refused():
    class Hidden(Gate):
        pass

    register_operation("mine", Hidden)
    with pytest.raises(
        ValueError, match=r"'mine' cannot .*: what makes it has no name in its module"
    ):
        source()


def test_a_class_without_source_is_refused(monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("typed")
    monkeypatch.setitem(sys.modules, "typed", module)
    code = (
        "from torch import nn\nclass Typed(nn.Conv2d):\n"
        "    def __init__(self, channels, stride, _):\n"
        "        super().__init__(channels, channels, 3, stride, padding=1)"
    )
    exec(code, module.__dict__)
    register_operation("mine", module.Typed)
    with pytest.raises(ValueError, match=r"'mine' cannot .*: the source of 'Typed' is not to be"):
        source()


@pytest.mark.parametrize(
    ("factory", "python", "reason"),
    [
        (lambda c, s, a: Gate(c, s, a), None, "what makes it has no name in its module"),
        (Numbers, None, "'np' of numpy cannot be copied"),
        (Net, None, "two things would be called 'Net'"),
        (ReluConvNorm, None, "two things would be called 'ReluConvNorm'"),
        (Gate, lambda stride: "Gte(channels)", "'Gte' is not defined at the top of its module"),
    ],
    ids=["lambda", "numpy", "reserved", "ours", "unknown"],
)  # fmt: skip
def test_what_cannot_stand_alone_is_one_error_that_says_what_to_give(
    factory: Callable[..., nn.Module], python: Callable[[int], str] | None, reason: str
):
    register_operation("mine", factory, python=python)
    remedy = r"\. Register it with a class or function .* python=lambda stride: .* --format torch"
    with pytest.raises(ValueError, match=f"^operation 'mine' cannot be written .*{reason}{remedy}"):
        source()
