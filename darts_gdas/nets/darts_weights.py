"""Trained weights of the DARTS authors' code, in a network of ours.

Reference:
    https://github.com/quark0/darts, `cnn/model.py`: the classes NetworkCIFAR and NetworkImageNet.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from darts_gdas.nets.candidates import FactorizedReduce, ReluConvNorm, SeparableConvs
from darts_gdas.nets.derived import DerivedCell, DerivedNet

COUNTER = "num_batches_tracked"
"""Checkpoints of old versions of PyTorch lack it."""

Names = Iterator[tuple[str, str]]


def load_darts_weights(net: DerivedNet, state: Mapping[str, Tensor]) -> None:
    """Fill a network with the weights of the same one as the authors' code has it.

    Args:
        net: Of the same genotype and numbers, on CIFAR or ImageNet. Without an auxiliary head it
            takes a checkpoint with one too.
        state: Their state dict: of `model.pt` itself, or under "state_dict" in a checkpoint; names
            may begin with `module.`.

    Raises:
        ValueError: If a weight is missing, left over or of another shape.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"state must be a state dict, got {type(state).__name__}")
    theirs = {name.removeprefix("module."): weight for name, weight in state.items()}
    if net.auxiliary is None:
        theirs = {k: w for k, w in theirs.items() if not k.startswith("auxiliary_head.")}
    ours, prefixes = net.state_dict(), dict(_prefixes(net))
    made = {}
    for name, weight in ours.items():
        part, _, leaf = name.rpartition(".")
        found = theirs.pop(
            f"{prefixes.get(part, part)}.{leaf}", weight if leaf == COUNTER else None
        )
        if found is None or found.shape != weight.shape:
            is_like = "is missing" if found is None else f"is {tuple(found.shape)}"
            raise ValueError(
                f"these are not the weights of this network: {prefixes.get(part, part)}.{leaf} "
                f"{is_like}, {tuple(weight.shape)} is needed"
            )
        made[name] = found
    if theirs:
        raise ValueError(
            f"these are weights of another network: {len(theirs)} have no place here, the first "
            f"one is {next(iter(theirs))}"
        )
    net.load_state_dict(made)


def _prefixes(net: DerivedNet) -> Names:
    """Where a convolution, norm or classifier lies here, and where there."""
    yield from (("stem.conv", "stem.0"), ("stem.norm", "stem.1"))
    for here, there in (("stem.first", "stem0"), ("stem.second", "stem1")):
        yield from ((f"{here}.{i}", f"{there}.{i}") for i in range(5))
    yield "auxiliary.classifier", "auxiliary_head.classifier"
    for here, there in ((0, 2), (1, 3), (3, 5), (4, 6)):  # their pooling and first ReLU are modules
        yield f"auxiliary.features.{here}", f"auxiliary_head.features.{there}"
    for position, cell in enumerate(net.cells):
        if not isinstance(cell, DerivedCell):
            raise ValueError("the authors' code has networks of DARTS cells only")
        here = f"cells.{position}"
        for i, module in enumerate(cell.inputs):
            yield from _inside(module, f"{here}.inputs.{i}", f"{here}.preprocess{i}")
        count = 0
        for n, node in enumerate(cell.nodes):
            for e, module in enumerate(node):  # type: ignore[arg-type]
                yield from _inside(module, f"{here}.nodes.{n}.{e}", f"{here}._ops.{count}")
                count += 1


def _inside(module: nn.Module, here: str, there: str) -> Names:
    """The same inside a block; poolings and identities hold nothing, sequences are alike."""
    if isinstance(module, ReluConvNorm):
        yield from ((f"{here}.conv", f"{there}.op.1"), (f"{here}.norm", f"{there}.op.2"))
    elif isinstance(module, FactorizedReduce):
        for name, other in (("even", "conv_1"), ("odd", "conv_2"), ("norm", "bn")):
            yield f"{here}.{name}", f"{there}.{other}"
    elif isinstance(module, SeparableConvs):
        for k in range(len(module)):  # each is a ReLU, two convolutions and a norm
            for i, name in enumerate(("depthwise", "pointwise", "norm"), 4 * k + 1):
                yield f"{here}.{k}.{name}", f"{there}.op.{i}"
    else:
        for name, _ in module.named_children():
            yield f"{here}.{name}", f"{there}.{name}"
