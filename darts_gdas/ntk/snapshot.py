"""What a network holds, kept while it runs and put back: weights, buffers, attributes."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_PLUMBING = vars(nn.Module()).keys()
_TABLES = ("_parameters", "_buffers", "_modules")
_LISTS, _SETS = (list, deque), (dict, set)
_CONTAINERS = (*_LISTS, *_SETS, tuple, frozenset)


class Snapshot:
    """The present state of a network, hooks apart.

    A forward pass may write into weights and buffers, count, and keep features in attributes of its
    modules or in lists and dictionaries there, however deep. Under `torch.func` such features are
    tensors that nothing can use, copy or save afterwards.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = [*model.modules()]
        self._attributes = [(vars(m), dict(vars(m))) for m in modules]
        held = [*_held(modules)]
        self._contents = [(t := vars(m)[name], dict(t)) for m in modules for name in _TABLES]
        self._contents += [(v, copy.copy(v)) for v in held if isinstance(v, (*_LISTS, *_SETS))]
        own = (value for value in held if isinstance(value, Tensor))
        tensors = (*model.parameters(), *model.buffers(), *own)
        self._values = [(t, _dense(t).detach().clone()) for t in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Make the network what it was; tensors that did not change are not written to."""
        for own, attributes in self._attributes:
            for name in own.keys() - attributes.keys():
                del own[name]
            own.update(attributes)
        for container, content in self._contents:
            container.clear()
            (container.extend if isinstance(container, _LISTS) else container.update)(content)
        for tensor, value in self._values:
            there = _dense(tensor)
            if not _is_same(there, value):
                there.copy_(value)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a network that holds results of computations, which torch cannot copy.

    Such are the weights that `torch.nn.utils.prune` and the older `weight_norm` and `spectral_norm`
    compute before each call: the copy holds their values until it computes its own.
    """
    results = (v for v in _held(model.modules()) if isinstance(v, Tensor) and not v.is_leaf)
    return copy.deepcopy(model, {id(t): t.detach().clone() for t in results})


def _held(modules: Iterable[nn.Module]) -> Iterator[Any]:
    """Tensors and containers in attributes that torch knows nothing of, each once.

    Those within other containers, too, one of which may hold itself.
    """
    stack = [v for m in modules for name, v in vars(m).items() if name not in _PLUMBING]
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if not isinstance(value, (Tensor, *_CONTAINERS)) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if not isinstance(value, Tensor):
            stack += value.values() if isinstance(value, dict) else value


def _dense(tensor: Tensor) -> Tensor:
    """Its numbers without those that an `expand` repeats, which cannot be written to."""
    if tensor.layout is not torch.strided or 0 not in tensor.stride():
        return tensor
    return tensor[tuple(slice(0, 1) if step == 0 else slice(None) for step in tensor.stride())]


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether nothing was written; nan counts as nan, which costs time only where there is some."""
    if a.layout is not torch.strided or a.is_meta:
        return False
    return torch.equal(a, b) or torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)
