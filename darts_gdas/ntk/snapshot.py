"""What a network holds, kept while it runs and put back: weights, buffers, attributes."""

import copy
import pickle
import weakref
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from darts_gdas.ntk.calls import reached
from darts_gdas.reasons import reason

_PLUMBING = vars(nn.Module()).keys()
_TABLES = ("_parameters", "_buffers", "_modules")
_LISTS, _SETS = (list, deque), (dict, set)
_CONTAINERS = (*_LISTS, *_SETS, tuple, frozenset)
_KEPT = (Tensor, *_CONTAINERS)
_NOT_KEPT = {type(None), bool, int, float, str}
"""What most attributes are; to ask of each whether it is a tensor takes longer."""


class Snapshot:
    """The present state of a network, hooks apart.

    A forward pass may write into weights and buffers, count, and keep features in attributes of its
    modules or in lists and dictionaries there, however deep. Under `torch.func` such features are
    tensors that nothing can use, copy or save afterwards. Objects of other classes are not looked
    into, since from there one reaches anything: a trainer, all of its data.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = [*model.modules()]
        self._attributes = [(vars(m), dict(vars(m))) for m in modules]
        held = [*_held(modules)]
        self._contents = [(t := vars(m)[name], dict(t)) for m in modules for name in _TABLES]
        self._contents += [(v, copy.copy(v)) for v in held if isinstance(v, (*_LISTS, *_SETS))]
        own = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values())]
        tensors = {id(t): t for t in (*own, *held) if isinstance(t, Tensor)}
        self._values = [(t, _dense(t).detach().clone()) for t in tensors.values()]

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


class Copied:
    """A deep copy of a network, also of one that holds results of computations.

    Such are the weights that `torch.nn.utils.prune` and the older `weight_norm` and `spectral_norm`
    compute before each call, which torch cannot copy: the copy holds their values until it computes
    its own. Views of a weight become views of its copy. Functions are copied with what they close
    over as it is, so a hook may use a layer of the network where it should one of the copy.

    Args:
        model: The network.

    Attributes:
        model: The copy.

    Raises:
        ValueError: If it holds what Python cannot copy.
    """

    def __init__(self, model: nn.Module) -> None:
        memo, self._results = {}, []
        weights = {id(p) for p in model.parameters()}
        for t in _held(model.modules()):
            if isinstance(t, Tensor) and not t.is_leaf:
                memo[id(t)] = self._of(t, weights, memo)
        try:
            self.model = copy.deepcopy(model, memo)
        except (RuntimeError, TypeError, pickle.PicklingError) as error:
            raise ValueError(f"the model cannot be copied: {reason(error)}") from error
        own = {id(t) for t in (*self.model.parameters(), *self.model.buffers())}
        named = (*model.named_parameters(), *model.named_buffers())
        self._left = {id(t): (name, weakref.ref(t)) for name, t in named if id(t) not in own}

    def _of(self, result: Tensor, weights: Container[int], memo: dict[int, Any]) -> Tensor:
        """A view of the copy of a weight, or a number of its own that a graph would reach."""
        base = result._base
        if base is not None and id(base) in weights and _is_alike(base, result):
            own = copy.deepcopy(base, memo).requires_grad_()
            with torch.enable_grad():
                return own.as_strided(result.shape, result.stride(), result.storage_offset())
        self._results.append(result.detach().clone().requires_grad_())
        with torch.enable_grad():
            return self._results[-1].clone()

    def output(self, x: Tensor) -> Tensor:
        """What the copy makes of samples, if it does that by itself.

        Raises:
            ValueError: If it depends on a weight or a buffer of the network, or on a result which
                that once computed from its weights. It may read them, as a hook that logs does.
        """
        with _Watched(self._left) as watched:
            output = self.model(x)
        if watched.used:
            with _Watched(self._left, changed=True):
                other = self.model(x)
            if not _is_output(output, other):
                raise ValueError(
                    f"a copy of the model still uses {watched.used[0]!r} of the model itself, by a "
                    "hook or a forward that closes over a layer, so its expansion would move with "
                    "the model, or lack it; take layers from the module that is called"
                )
        if isinstance(output, Tensor) and (
            found := reached(output, {id(result) for result in self._results})
        ):
            shape = next(tuple(t.shape) for t in self._results if id(t) in found)
            raise ValueError(
                f"the model uses a result of an earlier computation with weights, of shape {shape},"
                " that it holds, and that would be a constant in a copy; compute it in forward"
            )
        return output


class _Watched(TorchFunctionMode):
    """Notes which tensors of a network that was copied are read.

    Args:
        left: Its tensors, by identity.
        changed: Give functions other numbers in their place, by which one sees what depends on
            them.

    Attributes:
        used: The names of those that were read.
    """

    def __init__(
        self, left: Mapping[int, tuple[str, weakref.ref[Tensor]]], *, changed: bool = False
    ) -> None:
        super().__init__()
        self._left, self._changed = left, changed
        self.used: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {name: self._seen(value) for name, value in (kwargs or {}).items()}
        return func(*map(self._seen, args), **given)

    def _seen(self, value: Any) -> Any:
        """An argument of a function, or what stands in its place."""
        if isinstance(value, (tuple, list)) and any(isinstance(item, Tensor) for item in value):
            return [self._seen(item) for item in value]
        name, there = self._left.get(id(value), ("", lambda: None))
        if not isinstance(value, Tensor) or there() is not value:
            return value
        self.used.append(name)
        return _other(value) if self._changed else value


def _other(tensor: Tensor) -> Tensor:
    """Other numbers of the same form."""
    found = tensor.detach()
    changed = ~found if found.dtype == torch.bool else found + 1
    return changed.requires_grad_(tensor.requires_grad)


def _is_output(one: object, other: object) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return one is other
    return one.shape == other.shape and torch.allclose(one, other, equal_nan=True)


def _is_alike(weight: Tensor, view: Tensor) -> bool:
    """Whether a view still is one: `.to` gives a weight other numbers, without a word to it."""
    same = weight.untyped_storage().data_ptr() == view.untyped_storage().data_ptr()
    return same and weight.dtype == view.dtype


def _held(modules: Iterable[nn.Module]) -> Iterator[Any]:
    """Tensors and containers in attributes that torch knows nothing of, each once.

    Those within other containers, too, one of which may hold itself.
    """
    stack = [
        value
        for module in modules
        for name, value in vars(module).items()
        if name not in _PLUMBING and type(value) not in _NOT_KEPT
    ]
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if not isinstance(value, _KEPT) or id(value) in seen:
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
