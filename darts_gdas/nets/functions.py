"""Calls of functions that bring their own derivatives, at the least cost."""

from functools import cache
from typing import Any

import torch
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
