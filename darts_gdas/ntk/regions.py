"""Linear regions: how finely a network's ReLUs divide its inputs, seen at samples.

A ReLU network is affine wherever the set of its active units stays the same. Which units are
active, the activation pattern, therefore names the region that a sample lies in.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int32, Int64, UInt8
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from darts_gdas.ntk.checks import check_count, check_module, check_tensor
from darts_gdas.ntk.gram import without_autocast
from darts_gdas.ntk.normalization import call_with, preserved
from darts_gdas.ntk.plain import plain_functions
from darts_gdas.ntk.trials import told_of

Pattern = Bool[Tensor, "samples units"]
PackedRows = UInt8[np.ndarray, "rows bytes"]

_RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default, torch.ops.aten.relu.out)
_RELU_FUNCTIONS = (nn.functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_DIGEST_BYTES = 16
_EXACT_UNITS = 2**20
"""Of so many the float32 sum of zeros and ones is exact."""


def linear_regions(model: nn.Module, x: Tensor, *, chunk_size: int | None = None) -> int:
    """Number of linear regions that samples fall into: of different activation patterns.

    Patterns are not kept but hashed while the model runs, to 16 bytes per sample: beside the
    model's own forward pass the memory does not grow with the number of units, and two patterns
    are taken for one with a probability below 1e-24 for 10,000 samples.

    Args:
        model: As for `activation_patterns`.
        x: The samples.
        chunk_size: As for `activation_patterns`.

    Returns:
        Between 1 and the number of samples.

    Raises:
        ValueError: As `activation_patterns`.

    Example:
        >>> linear_regions(nn.ReLU(), torch.tensor([[1.0, 1.0], [2.0, 1.0], [-1.0, 1.0]]))
        2

    Reference:
        Chen et al. (TE-NAS), ICLR 2021, https://arxiv.org/abs/2102.11535, eq. (4); there 3000
        samples of 1 x 3 x 3 pixels at a network of one channel.
    """
    regions: set[bytes] = set()
    for chunk in _chunks(model, x, chunk_size):
        hashes = _Hashes(len(chunk))
        _run(model, chunk, hashes)
        regions |= hashes.digests()
    return len(regions)


def regions_together(run: Callable[[], object], samples: int) -> list[int]:
    """Numbers of linear regions of several networks that run as one batch.

    Sees `F.relu`, `torch.relu` and `nn.ReLU`, called by Python code.

    Args:
        run: Runs them without gradients. Where a ReLU's output has as many rows as there are
            samples, its pattern is that of all networks; else networks lie behind each other.
        samples: Of each network.

    Returns:
        One number per network; a single one if they never differ.

    Raises:
        ValueError: If no ReLU runs.
    """
    relus = _Relus()
    with torch.no_grad(), relus:
        run()
    if not relus.seen:
        raise ValueError("no ReLU runs, so there are no activation patterns")
    networks = max(map(len, relus.seen)) // samples
    shared = [rows for rows in relus.seen if len(rows) == samples]
    own = [rows for rows in relus.seen if len(rows) > samples]
    numbers = _numbered(np.concatenate(shared, axis=1)) if shared else np.zeros(samples, np.int32)
    if not own:
        return [int(numbers.max()) + 1]
    first = np.tile(numbers.view(np.uint8).reshape(samples, -1), (networks, 1))
    rows = np.concatenate([first, *own], axis=1)
    return [int(_numbered(part).max()) + 1 for part in np.split(rows, networks)]


def _numbered(rows: PackedRows) -> Int32[np.ndarray, " samples"]:
    """Equal rows get equal numbers, from 0 in the order in which they come."""
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1])))
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(row, len(known)) for row in whole[:, 0].tolist()], np.int32)


class _Relus(TorchFunctionMode):
    """While it is active, keeps the pattern of every ReLU, eight units to the byte."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[PackedRows] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _RELU_FUNCTIONS:
            self.seen.append(np.packbits((output > 0).flatten(1).cpu().numpy(), axis=1))
        return output


def activation_patterns(
    model: nn.Module, x: Tensor, *, chunk_size: int | None = None
) -> Bool[Tensor, "samples units"]:
    """Which ReLU units are active (output above 0) for each sample.

    Sees every `nn.ReLU`, `F.relu`, `torch.relu` and `relu_`, also inside custom autograd functions;
    other activations, such as ReLU6 or `clamp`, are not looked at. The model runs once as it
    stands, uncompiled and without gradients; its buffers (running statistics) do not move.

    Args:
        model: Takes [samples, ...]; all its ReLUs must keep samples in the first dimension.
        x: The samples.
        chunk_size: Run that many samples at a time, to save memory; None runs all at once.

    Returns:
        Units in the order in which the model runs its ReLUs; one byte each, on the device of `x`.

    Raises:
        ValueError: If the model runs no ReLU, a ReLU's first dimension is not the samples', there
            are no samples, or chunks would change what batch norms in training mode compute.

    Example:
        >>> activation_patterns(nn.ReLU(), torch.tensor([[1.0, -1.0], [0.0, 2.0]]))
        tensor([[ True, False],
                [False,  True]])
    """
    rows = []
    for chunk in _chunks(model, x, chunk_size):
        patterns = _Patterns(len(chunk))
        _run(model, chunk, patterns)
        rows.append(torch.cat(patterns.seen, dim=1))
    return torch.cat(rows)


def agreements(patterns: Pattern) -> Int64[Tensor, "samples samples"]:
    """On how many units two samples agree: on all but those that are active for one of them."""
    both = torch.zeros(len(patterns), len(patterns), dtype=torch.long, device=patterns.device)
    for part in patterns.split(_EXACT_UNITS, dim=1):
        active = part.float()
        with without_autocast(active.device):
            both += (active @ active.T).long()
    own = both.diagonal()
    return patterns.shape[1] - own[:, None] - own + 2 * both


class _Watch(TorchDispatchMode, ABC):
    """While it is active, hands the pattern of every ReLU to `note`."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.num_relus = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _RELUS:
            if output.ndim == 0 or output.shape[0] != self.samples:
                raise ValueError(
                    f"a ReLU of the model has an output of shape {tuple(output.shape)} for "
                    f"{self.samples} samples; activation patterns need every ReLU to keep samples "
                    "in the first dimension"
                )
            self.num_relus += 1
            self.note((output > 0).reshape(self.samples, -1))
        return output

    @abstractmethod
    def note(self, pattern: Pattern) -> None:
        """Take the pattern of one ReLU."""


class _Patterns(_Watch):
    """Keeps the patterns."""

    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        self.seen: list[Tensor] = []

    def note(self, pattern: Pattern) -> None:
        self.seen.append(pattern)


class _Hashes(_Watch):
    """Keeps a running hash of each sample's pattern."""

    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        self._hashes = [hashlib.blake2b(digest_size=_DIGEST_BYTES) for _ in range(samples)]

    def note(self, pattern: Pattern) -> None:
        rows = _packed(pattern).cpu().numpy()
        for running, row in zip(self._hashes, rows, strict=True):
            running.update(row)

    def digests(self) -> set[bytes]:
        return {running.digest() for running in self._hashes}


def _packed(pattern: Pattern) -> UInt8[Tensor, "samples bytes"]:
    """Eight units to the byte, the last byte filled up with zeros."""
    missing = -pattern.shape[1] % 8
    bits = nn.functional.pad(pattern.to(torch.uint8), (0, missing)).unflatten(1, (-1, 8))
    places = torch.arange(8, dtype=torch.uint8, device=pattern.device)
    return (bits << places).sum(-1, dtype=torch.uint8)


def _run(model: nn.Module, x: Tensor, watch: _Watch) -> None:
    """Run the model on a copy of the samples, watched; it is afterwards what it was."""
    with torch.no_grad(), preserved(model), told_of(x), plain_functions(), watch:
        if any(buffer.is_inference() for buffer in model.buffers()):  # cannot be written to
            call_with(model, {}, x)
        else:
            model(x)
    if watch.num_relus == 0:
        raise ValueError(
            f"{type(model).__name__} runs no ReLU, so it has no activation patterns; linear "
            "regions are those of ReLU networks"
        )


def _chunks(model: nn.Module, x: Tensor, chunk_size: int | None) -> Iterator[Tensor]:
    check_module(model)
    check_tensor("x", x)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x must hold samples in its first dimension, got shape {tuple(x.shape)}")
    if chunk_size is None:
        return iter([x])
    chunk_size = check_count("chunk_size, or None for all at once,", chunk_size)
    if chunk_size < len(x) and any(map(_uses_the_batch, model.modules())):
        raise ValueError(
            f"chunk_size={chunk_size} would change the patterns: batch norms of the model "
            "normalise with the batch they see; call model.eval(), or leave chunk_size out"
        )
    return iter(x.split(chunk_size))


def _uses_the_batch(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and (
        module.training or module.running_mean is None
    )
