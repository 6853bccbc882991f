"""Annotated shapes and types, checked at a function's first calls in each test.

A check of one call takes as long as the mathematics of a small one, and calls after the first few
say the same: of a test that draws four thousand cells the checks took seven of eight seconds.
"""

import dataclasses
import functools
import inspect
from collections import defaultdict
from types import CodeType
from typing import Any

import jaxtyping
import torch

CALLS = 50
"""Of each function in each test."""

_whole = jaxtyping.jaxtyped


_left: dict[CodeType, int] = defaultdict(lambda: CALLS)


def begin_test() -> None:
    """All functions are checked anew."""
    _left.clear()


def check_first_calls() -> None:
    """From here on `jaxtyped`, as import hooks apply it, checks the first calls alone."""
    jaxtyping.jaxtyped = _jaxtyped


def _jaxtyped(target: Any = None, *, typechecker: Any) -> Any:
    if target is None:
        return functools.partial(_jaxtyped, typechecker=typechecker)
    if inspect.isfunction(target):
        return _first_calls(target, typechecker)
    if inspect.isclass(target):
        if not dataclasses.is_dataclass(target) or "__init__" not in vars(target):
            return target
        plain = target.__init__
        _whole(target, typechecker=typechecker)
        if target.__init__ is not plain:
            target.__init__ = _first_calls(plain, typechecker)
        return target
    return _whole(target, typechecker=typechecker)


def _first_calls(plain: Any, typechecker: Any) -> Any:
    code, checked = plain.__code__, None
    if "<locals>" in plain.__qualname__ and not _left[code]:
        return plain  # made, and decorated, at each call of what it stands in (see findings/)

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if torch.compiler.is_compiling() or not _left[code]:  # a count is nothing to compile
            return plain(*args, **kwargs)
        _left[code] -= 1
        if checked is None:
            checked = _whole(plain, typechecker=typechecker)
        return checked(*args, **kwargs)

    return call
