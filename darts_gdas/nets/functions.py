"""Calls of functions that bring their own derivatives, at the least cost."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

import darts_gdas.native as native


def apply(function: type[Function], *inputs: Any) -> Any:
    """What `function.apply(*inputs)` returns.

    Where nobody asks for derivatives it is the function's `forward`: a compiler cannot trace more.
    Outside of transforms the function's context is made within its forward pass: PyTorch binds
    the inputs to a signature, at each call anew, if a function has a `setup_context`
    (`findings/functions_with_setup_context_bind_a_signature_per_call.sh`).
    """
    if not torch.is_grad_enabled():
        return function.forward(*inputs)
    if native.recorded() or native.transforming():
        return function.apply(*inputs)
    return _in_one(function).apply(*inputs)


@cache
def _in_one(function: type[Function]) -> type[Function]:
    """The function with `forward(ctx, *inputs)`, which transforms do not take."""

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = function.forward(*inputs)
        function.setup_context(ctx, inputs, output)
        return output

    methods = {"forward": forward, "setup_context": Function.setup_context}
    made = {name: staticmethod(method) for name, method in methods.items()}
    return type(function.__name__, (function,), made)


def without_unreached(
    gradients: Sequence[Tensor | None],
    arrived: Sequence[Tensor | None],
    *runs: tuple[int, int, Sequence[int]],
) -> tuple[Tensor | None, ...]:
    """Gradients, but None for those that are zero as nothing arrived at the outputs they are of.

    An optimizer leaves a weight alone that has no gradient, and moves one whose gradient is zero,
    by its momentum and its decay.

    Args:
        gradients: Of the inputs.
        arrived: At each output.
        runs: First and end of inputs that belong to one output each, term after term, and the
            outputs of a term's.
    """
    found = [*gradients]
    if any([g is None for g in arrived]):
        for first, end, outputs in runs:
            for i in range(first, end):
                if arrived[outputs[(i - first) % len(outputs)]] is None:
                    found[i] = None
    return tuple(found)
