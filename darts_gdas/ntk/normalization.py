"""Batch norms with statistics of a given batch, held fixed."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """All batch norms by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Buffers, training flags and settings of norms are afterwards what they were before."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    flags = [(module, module.training) for module in model.modules()]
    settings = [
        (norm, norm.momentum, norm.track_running_stats, dict(norm._buffers))
        for norm in batch_norms(model).values()
    ]
    try:
        yield
    finally:
        for norm, momentum, tracks, own in settings:
            norm.momentum, norm.track_running_stats = momentum, tracks
            norm._buffers.update(own)
        for module, flag in flags:
            module.training = flag
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


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
