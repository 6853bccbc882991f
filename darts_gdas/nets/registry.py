"""Operations and outer networks of a user's own: checked once, then like any other."""

import re
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from darts_gdas.nets.formats import channels_last
from darts_gdas.nets.layout import SKELETONS, Skeleton
from darts_gdas.nets.operations import OPERATIONS, Operation, OperationFactory
from darts_gdas.space.families import FAMILIES, Family

_CHANNELS = (4, 8)
_SIZES = ((8, 8), (7, 9))


def register_operation(
    name: str,
    factory: OperationFactory,
    *,
    is_pooling: bool = False,
    family: Family = Family.other,
    python: Callable[[int], str] | None = None,
    changes_channels: bool = False,
) -> None:
    """Add an operation that spaces and genotypes may name, in this process.

    It runs in supernets and derived networks as it is, edge by edge; a module that is a
    `nets.candidates.ReluFirst` shares the ReLU of the state that it reads. How programs get to know
    it stands in docs/extend.md.
    A checkpoint knows the name, not the code: resume with the code that it was made with.

    Args:
        name: Lower-case letters, digits and underscores.
        factory: (channels, stride, affine) -> a module that keeps the number of channels and
            divides height and width by the stride, rounding up. `affine` is false in a supernet:
            a norm must not learn a scale there, which would undo the mixture's weights.
        is_pooling: Whether a supernet normalises what comes out, as it does with pooling.
        family: How drawings show it.
        python: stride -> the expression that makes it in an exported Python file, where `channels`
            is a variable; it may name what the factory can see. Needed where the factory is no
            class or function that can be called by its name.
        changes_channels: Whether the factory also takes `before=`, another number of channels that
            enter: what a block of a chain needs where the width changes.

    Raises:
        ValueError: If the name is taken or malformed, or the factory fails, returns no module, or
            one of another output shape, or one that writes to its input, or `python` gives no
            expression. Tried with 4 and 8
            channels, stride 1 and 2, on 8 x 8 and 7 x 9 pixels.

    Example:
        >>> register_operation("blur", lambda channels, stride, affine: nn.AvgPool2d(4, stride))
        Traceback (most recent call last):
        ...
        ValueError: operation 'blur' with channels=4, stride=1, affine=False must turn (2, 4, 8, 8) into (2, 4, 8, 8), got (2, 4, 5, 5)
    """  # noqa: E501
    taken = {*OPERATIONS, *dir(nn.ModuleDict())}  # whose keys cannot be its attributes
    check_name(name, "operation", taken)
    for stride in (1, 2):
        try:
            compile((python and python(stride)) or "None", name, "eval")
        except Exception as error:  # whatever a user's code does wrong
            raise ValueError(
                f"operation {name!r} with {stride=}: python gives no expression: {error}"
            ) from error
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for channels in _CHANNELS:
            for stride in (1, 2):
                for affine in (False, True):
                    _try(name, factory, channels, stride, affine)
        if changes_channels:
            _try(name, factory, _CHANNELS[0], 2, True, before=_CHANNELS[1])
    OPERATIONS[name] = Operation(factory, is_pooling, python, changes_channels)
    FAMILIES[name] = family


def register_skeleton(skeleton: Skeleton) -> None:
    """Add an outer network, in this process, for the cells that it takes.

    Raises:
        ValueError: If its name is taken or malformed.
    """
    check_name(skeleton.name, "skeleton", SKELETONS)
    SKELETONS[skeleton.name] = skeleton


def check_name(name: str, what: str, taken: Collection[str]) -> None:
    """Raise a `ValueError` unless something of a user's own may have a name."""
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ValueError(
            f"your {what}'s name is lower-case letters, digits and underscores, got {name!r}"
        )
    if name in taken:
        raise ValueError(f"the name {name!r} is taken; choose another for your {what}")


def _try(
    name: str, factory: OperationFactory, channels: int, stride: int, affine: bool, **before: int
) -> None:
    where = f"operation {name!r} with {channels=}, {stride=}, {affine=}"
    where += "".join(f", {key}={value}" for key, value in before.items())
    try:
        module: object = factory(channels, stride, affine, **before)
    except Exception as error:  # whatever a user's code does wrong
        raise ValueError(f"{where} cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"{where} must be a torch.nn.Module, got {type(module).__name__}")
    for height, width in _SIZES:
        x = channels_last(torch.randn(2, before.get("before", channels), height, width))
        copied = x.clone()
        try:
            y: object = module(x)
        except Exception as error:
            raise ValueError(f"{where} fails: {type(error).__name__}: {error}") from error
        expected = (2, channels, -(-height // stride), -(-width // stride))
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        if got != expected:
            raise ValueError(f"{where} must turn {tuple(x.shape)} into {expected}, got {got}")
        if not torch.equal(x, copied):
            raise ValueError(f"{where} must not write to its input, which other edges read too")
