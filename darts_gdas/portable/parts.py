"""What written code needs beside itself: imports and definitions, copied from where they stand.

An operation, built in or a user's own, is written as an expression and the source of every class
and function that it names, directly or through others. Our own are replaced by the plain ones in
`portable.plain` where those of `nets` serve training only.
"""

import builtins
import inspect
import re
import symtable
import sys
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, ModuleType

from darts_gdas.nets.operations import OPERATIONS, OperationFactory
from darts_gdas.portable import plain

Scope = Mapping[str, object]

USUAL = {
    "import math as math": "import math",
    "import torch as torch": "import torch",
    "import torch.nn as nn": "from torch import Tensor, nn",
    "from torch import Tensor as Tensor": "from torch import Tensor, nn",
}
"""What imports look like in our own code."""


def expression(operation: str, stride: int, widths: tuple[int, int] | None = None) -> str:
    """What makes an operation in a cell, of the variable `channels`; empty for the state as it is.

    Args:
        operation: Its name.
        stride: Its stride.
        widths: Channels before and after, for an operation that is no part of a cell's class.

    Raises:
        ValueError: If the operation has no such form, and nothing that can be called by a name.
    """
    known, (entering, channels) = OPERATIONS[operation], widths or ("channels", "channels")
    before = [] if entering == channels else [f"before={entering}"]
    if known.python is not None:
        if before:
            raise _refusal(operation, "its Python form keeps the number of channels")
        return re.sub(r"\bchannels\b(?!\s*=[^=])", str(channels), known.python(stride))
    factory = _factory(operation)
    name = getattr(factory, "__name__", "")
    if _scope(operation).get(name) is not factory:
        raise _refusal(operation, "what makes it has no name in its module")
    arguments: list[object] = [stride, True]
    parameters = [*inspect.signature(factory).parameters.values()]
    while arguments and parameters[len(arguments)].default == arguments[-1]:
        arguments.pop()
    given = known.build.keywords if isinstance(known.build, partial) else {}
    texts = [*map(str, arguments), *(f"{key}={value!r}" for key, value in given.items())]
    return f"{name}({', '.join([str(channels), *texts, *before])})"


def _scope(operation: str) -> Scope:
    """What the expression of an operation may name: the module that its factory stands in."""
    return vars(sys.modules[_factory(operation).__module__])


def _factory(operation: str) -> OperationFactory:
    build = OPERATIONS[operation].build
    return build.func if isinstance(build, partial) else build


def _refusal(operation: str, reason: str) -> ValueError:
    return ValueError(
        f"operation {operation!r} cannot be written as Python code that stands alone: {reason}. "
        "Register it with a class or function that needs torch and Python's library alone, or with "
        "python=lambda stride: '...' that names one; or export with --format torch or onnx"
    )


@dataclass
class Parts:
    """Imports and definitions, as they are asked for.

    Attributes:
        reserved: Names that the code around them defines.
        blocks: Sources by name, each after those that it needs.
    """

    reserved: Collection[str]
    blocks: dict[str, str] = field(default_factory=dict)
    _values: dict[str, object] = field(default_factory=dict)
    _imports: dict[str, str] = field(default_factory=dict)

    def add_operation(
        self, operation: str, stride: int, widths: tuple[int, int] | None = None
    ) -> None:
        """Add what an operation needs.

        Raises:
            ValueError: If that cannot stand in a file by itself.
        """
        try:
            made = expression(operation, stride, widths) or None
            self.add(f"lambda channels: {made}", _scope(operation))
        except LookupError as error:
            raise _refusal(operation, str(error.args[0])) from error

    def add(self, code: str, scope: Scope) -> None:
        """Add what some code names in its scope.

        Raises:
            LookupError: With the reason, if that cannot stand in a file by itself.
        """
        for name in _names(code):
            if name not in scope and name not in vars(builtins):
                raise LookupError(f"{name!r} is not defined at the top of its module")
        self.add_known(code, scope)

    def add_known(self, code: str, scope: Scope) -> None:
        """Add those names of some code that a scope knows."""
        for name in _names(code):
            if name in scope:
                self._add(name, scope[name])

    def imports(self) -> str:
        """The import statements, those of torch last."""
        lines = sorted({*self._imports.values()}, key=lambda line: (line.startswith("from"), line))
        groups = ([line for line in lines if ("torch" in line) is torch] for torch in (False, True))
        return "\n\n".join("\n".join(group) for group in groups if group)

    def _add(self, name: str, value: object) -> None:
        module = value.__name__ if isinstance(value, ModuleType) else _module_of(value)
        if module.startswith("darts_gdas."):
            value = vars(plain).get(name, value)
        if name in self.reserved or self._values.get(name, value) is not value:
            raise LookupError(f"two things would be called {name!r}")
        if name in self._values:
            return
        self._values[name] = value
        if isinstance(value, int | float | str):
            self.blocks[name] = f"{name} = {value!r}"
        elif module.split(".")[0] in ("torch", *sys.stdlib_module_names):
            own = "" if isinstance(value, ModuleType) else getattr(value, "__name__", name)
            line = f"from {module} import {own} as {name}" if own else f"import {module} as {name}"
            self._imports[name] = USUAL.get(line, line)
        elif (inspect.isclass(value) or inspect.isfunction(value)) and value.__name__ == name:
            source = _source(value)
            self.add(source, vars(sys.modules[value.__module__]))
            self.blocks[name] = source
        else:
            raise LookupError(f"{name!r} of {module or 'its module'} cannot be copied")


def _module_of(value: object) -> str:
    return getattr(value, "__module__", None) or ""


def _source(value: type | FunctionType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value)).rstrip()
    except (OSError, TypeError):
        raise LookupError(f"the source of {value.__name__!r} is not to be found") from None


def _names(code: str) -> list[str]:
    """The names that some code takes from around it, in alphabetical order."""
    tables = [symtable.symtable(code, "code", "exec")]
    defined = {symbol.get_name() for symbol in tables[0].get_symbols() if symbol.is_assigned()}
    for table in tables:  # which grows
        tables += table.get_children()
    symbols = (symbol for table in tables for symbol in table.get_symbols())
    named = {s.get_name() for s in symbols if s.is_global() and s.is_referenced()}
    return sorted(named - defined)
