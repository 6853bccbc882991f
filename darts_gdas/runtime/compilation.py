"""`torch.compile` for functions that must run whether it works or not."""

import logging
from collections.abc import Callable
from enum import Enum
from typing import Generic, ParamSpec, TypeVar

import torch

logger = logging.getLogger(__name__)

Args = ParamSpec("Args")
Result = TypeVar("Result")


class Compilation(Enum):
    """What `torch.compile` does with the passes of a network.

    `none` runs operation by operation. `inductor` fuses element-wise operations into kernels of
    its own; it needs a C++ compiler (on a GPU, Triton) and minutes at the start. `cuda_graphs`
    is `inductor` whose kernels are launched all at once (mode "reduce-overhead").
    """

    none = "none"
    inductor = "inductor"
    cuda_graphs = "cuda_graphs"


class Compiled(Generic[Args, Result]):
    """A function, compiled at its first call; itself, from the moment that fails.

    A failure to compile is reported once, with its reason. The function's own errors pass
    through. Nothing is compiled in part: a graph that cannot be traced as a whole is a failure.

    Args:
        function: What to compile. Shapes are taken as fixed; every new set compiles anew.
        compilation: How; not `none`.
        max_variants: How many sets of shapes, flags and modules are compiled before giving up.
    """

    def __init__(
        self,
        function: Callable[Args, Result],
        compilation: Compilation,
        *,
        max_variants: int = 128,
    ) -> None:
        assert compilation is not Compilation.none
        self._function = function
        self._name = compilation.name
        self._limit = max_variants
        mode = "reduce-overhead" if compilation is Compilation.cuda_graphs else None
        self._compiled: Callable[Args, Result] | None = torch.compile(
            function, fullgraph=True, dynamic=False, mode=mode
        )

    def __call__(self, *args: Args.args, **kwargs: Args.kwargs) -> Result:
        """The function's result."""
        if self._compiled is None:
            return self._function(*args, **kwargs)
        # The compiler takes seconds to import, which a program that compiles nothing need not wait.
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            with torch._dynamo.config.patch(recompile_limit=self._limit):
                return self._compiled(*args, **kwargs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            self._compiled = None
            logger.warning("compile=%s failed, going on without it: %s", self._name, _reason(error))
            return self._function(*args, **kwargs)


def _reason(error: Exception) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)[:300]
