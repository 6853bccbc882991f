"""Batch norms with statistics of a given batch, held fixed."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from darts_gdas.ntk.generators import Generators
from darts_gdas.ntk.plain import plain_functions, uncached
from darts_gdas.ntk.snapshot import Snapshot


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """All batch norms by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def call_with(model: nn.Module, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The model's output with other weights, on copies of the samples and of its buffers.

    So it may write into either, which transforms do not allow it to do to what lies outside them.
    Attention, weight norm and LSTMs run by their definitions, for fused kernels have no derivative
    in forward mode; so does PReLU, whose rows by `vmap(jacrev)` are silently wrong for as many
    samples as outputs (`findings/vmap_of_prelu_mixes_samples.sh`). Tied tensors are found here,
    since `functional_call` leaves the new weights in a module that stands in two places
    (`findings/functional_call_keeps_weights_of_shared_modules.sh`).
    """
    values = {name: buffer.clone() for name, buffer in model.named_buffers()} | dict(weights)
    named = (*model.named_parameters(), *model.named_buffers())
    given = {id(tensor): values[name] for name, tensor in named if name in values}
    tied = {
        f"{place}.{name}".lstrip("."): given[id(tensor)]
        for place, module in model.named_modules()
        for own in (module._parameters, module._buffers)
        for name, tensor in own.items()
        if id(tensor) in given
    }
    with plain_functions():
        return functional_call(model, tied, (x.clone(),), tie_weights=False)


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """What the model does to its state is undone afterwards; its calls get copies of the inputs.

    Weights, buffers, attributes and training flags are then what they were before, and after an
    error the generators of torch, numpy and Python: what a refused network drew leaves no trace.
    What it writes into an object that is no module (a cache of a class of its own, numpy's arrays)
    stays. Compiled models run uncompiled. The copies are for networks that begin with an operation
    in place: those would overwrite the caller's samples, and every further call would see others.
    """
    before, generators = Snapshot(model), Generators({p.device for p in model.parameters()})
    copies = model.register_forward_pre_hook(_with_copies, prepend=True)
    try:
        with uncached(), _uncompiled():
            yield
    except BaseException:
        generators.restore()
        raise
    finally:
        copies.remove()
        before.restore()


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """Compiled models run their Python code, which can be watched and differentiated twice.

    Compiled code would be made anew for every size of a batch, which takes seconds. What compiles
    has loaded the compiler; nothing else should wait for it.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _with_copies(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.clone() for x in inputs)


@contextlib.contextmanager
def flat_outputs(model: nn.Module) -> Iterator[None]:
    """The model's outputs as [samples, outputs], whatever their shape; a number is a row of one."""
    handle = model.register_forward_hook(flattened)
    try:
        yield
    finally:
        handle.remove()


def flattened(model: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
    """One row per sample; of a single one all that there is, for `squeeze` may take its axis."""
    if not isinstance(output, Tensor):
        return output
    if len(inputs[0]) == 1:
        return output.reshape(1, -1)
    return output if output.dim() in (0, 2) else output.reshape(len(output), -1)


@contextlib.contextmanager
def frozen_statistics(model: nn.Module, images: Tensor) -> Iterator[None]:
    """The model in evaluation, its norms using mean and variance of `images`, each at its place.

    So the values are those of training mode on that batch, while a sample's output and gradients
    depend on that sample alone.
    """
    with preserved(model):
        _freeze(model, list(batch_norms(model).values()), images)
        yield


@torch.no_grad()
def _freeze(model: nn.Module, norms: Sequence[_BatchNorm], images: Tensor) -> None:
    model.eval()
    for module in model.modules():
        if isinstance(module, _InstanceNorm):  # training mode takes the sample's own statistics
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    for norm in norms:
        if norm.running_mean is None:  # it had none; its batch's serve now
            like = next(model.parameters())
            norm.running_mean = like.new_zeros(norm.num_features)
            norm.running_var = like.new_ones(norm.num_features)
            norm.num_batches_tracked = torch.zeros((), dtype=torch.long, device=like.device)
        norm.track_running_stats, norm.momentum = True, 1.0
        norm.reset_running_stats()
        norm.train()
    variances = _biased_variances(model, norms, images)
    for norm, variance in zip(norms, variances, strict=True):
        norm.eval()
        _variance(norm).copy_(variance)


def _biased_variances(
    model: nn.Module, norms: Sequence[_BatchNorm], images: Tensor
) -> list[Float[Tensor, " channels"]]:
    """What the batch was normalised with, where norms keep the unbiased u = v n / (n - 1).

    A norm that is called as a module sees its n. A network may also compute norms in a way of its
    own: then the batch taken twice gives u' = v 2n / (2n - 1), and v = u u' / (2 u - u').
    """
    counts: dict[nn.Module, int] = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if norm in counts:
            name = next(name for name, module in model.named_modules() if module is norm)
            raise ValueError(
                f"batch norm {name!r} runs twice per pass, so it has no one set of statistics to "
                "hold fixed; give each place a norm of its own"
            )
        counts[norm] = inputs[0].numel() // inputs[0].shape[1]

    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    once = [_variance(norm).clone() for norm in norms]
    if len(counts) == len(norms):
        pairs = zip(once, (counts[norm] for norm in norms), strict=True)
        return [u * (n - 1) / n for u, n in pairs]
    model(torch.cat([images, images]))
    twice = [_variance(norm) for norm in norms]
    return [torch.where(u > 0, u * v / (2 * u - v), 0.0) for u, v in zip(once, twice, strict=True)]


def _variance(norm: _BatchNorm) -> Tensor:
    assert norm.running_var is not None
    return norm.running_var
