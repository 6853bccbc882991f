"""Kernels of thousands of samples, block by block in files, by several processes, resumable.

A folder holds `plan.json` (what is computed, with a digest of weights and samples), one file per
block of samples times samples, each with its sha256 beside it, and in the end `kernel.npy`. Files
are written under another name and renamed, so a file is whole or not there; which process computes
which block is a function of its rank, so none waits for another.
"""

import hashlib
import io
import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from darts_gdas.ntk.kernel import empirical_ntk

PLAN, WHOLE = "plan.json", "kernel.npy"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a folder is for.

    Attributes:
        samples: On the first side.
        others: On the second side; None if they are the same, and blocks above the diagonal do.
        block_size: Samples per side of a block.
        digest: Of weights, samples and options.
    """

    samples: int
    others: int | None
    block_size: int
    digest: str

    def blocks(self) -> list[tuple[int, int]]:
        """Places of all blocks, row by row."""
        rows = math.ceil(self.samples / self.block_size)
        columns = rows if self.others is None else math.ceil(self.others / self.block_size)
        first = (lambda i: i) if self.others is None else (lambda i: 0)
        return [(i, j) for i in range(rows) for j in range(first(i), columns)]

    def part(self, index: int) -> slice:
        """The samples of a block."""
        return slice(index * self.block_size, (index + 1) * self.block_size)


def ntk_on_disc(
    folder: str | Path,
    model: nn.Module,
    x1: Shaped[Tensor, "samples ..."],
    x2: Shaped[Tensor, "others ..."] | None = None,
    *,
    block_size: int = 256,
    rank: int = 0,
    world: int = 1,
    **options: Any,
) -> int:
    """Compute a tangent kernel into a folder, or go on where an earlier call ended.

    Every block is a call of `empirical_ntk`; blocks that are there and whole are left alone, one
    that is damaged is computed again, with a warning. Memory is that of a block. Rows of J are
    computed anew for every block, so twice the block size is half the backward passes.

    Args:
        folder: Where; made if it is not there.
        model: As in `empirical_ntk`; batch norms in evaluation.
        x1: Samples.
        x2: Others; None means x1, of which blocks on and above the diagonal are computed.
        block_size: Samples per side of a block.
        rank: Number of this process, from 0.
        world: How many processes share the work.
        **options: Further arguments of `empirical_ntk`, without `batch_norm`: its statistics would
            be those of a block.

    Returns:
        How many blocks this call computed.

    Raises:
        ValueError: As `empirical_ntk`, or if the folder is that of other weights, samples or
            options.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    if not 0 <= rank < world:
        raise ValueError(f"rank must lie in 0..{world - 1} (world is {world}), got {rank}")
    if options.get("batch_norm") is not None:
        raise ValueError(
            f"batch_norm={options['batch_norm']!r} would take the statistics of each block; leave "
            "it out, with norms in evaluation"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    others = None if x2 is None else len(x2)
    digest = _digest(model, (x1, x2), options)
    plan = _planned(folder, _Plan(len(x1), others, block_size, digest))
    computed = 0
    for i, j in plan.blocks()[rank::world]:
        if _read(folder, i, j) is not None:
            continue
        left, right = x1[plan.part(i)], (x1 if x2 is None else x2)[plan.part(j)]
        own = x2 is None and i == j
        block = empirical_ntk(model, left, None if own else right, **options)
        _write(folder, i, j, block.cpu().numpy())
        computed += 1
    return computed


def collect_ntk(folder: str | Path) -> np.memmap:
    """The whole kernel of a folder, as an array on disc, read-only.

    The first call writes `kernel.npy` from the blocks; later ones open it.

    Raises:
        ValueError: If blocks are missing or damaged; it says how many of how many, and
            `ntk_on_disc` computes them.
    """
    folder = Path(folder)
    if not (folder / WHOLE).exists():
        if not (folder / PLAN).exists():
            raise ValueError(f"{str(folder)!r} holds no kernel: there is no {PLAN}")
        _assemble(folder, _Plan(**json.loads((folder / PLAN).read_text())))
    opened = np.load(folder / WHOLE, mmap_mode="r")
    assert isinstance(opened, np.memmap)
    return opened


def _assemble(folder: Path, plan: _Plan) -> None:
    """Write the kernel while its blocks are read, each once."""
    temporary, places = _temporary(folder / WHOLE), plan.blocks()
    columns = plan.samples if plan.others is None else plan.others
    whole, missing = None, 0
    for i, j in places:
        block = _read(folder, i, j)
        missing += block is None
        if block is None or missing:
            continue
        if whole is None:
            shape = (plan.samples, columns, *block.shape[2:])
            whole = np.lib.format.open_memmap(temporary, mode="w+", dtype=block.dtype, shape=shape)
        whole[plan.part(i), plan.part(j)] = block
        if plan.others is None and i != j:
            turned = block.swapaxes(0, 1)
            whole[plan.part(j), plan.part(i)] = turned.swapaxes(2, 3) if block.ndim == 4 else turned
    if missing or whole is None:
        temporary.unlink(missing_ok=True)
        raise ValueError(
            f"{missing} of {len(places)} blocks in {str(folder)!r} are missing or damaged; call "
            "ntk_on_disc with the same arguments, it computes those alone"
        )
    whole.flush()
    del whole
    os.replace(temporary, folder / WHOLE)


def _planned(folder: Path, plan: _Plan) -> _Plan:
    """Write the plan, or compare it with the one that is there."""
    path = folder / PLAN
    if not path.exists():
        _replace(path, json.dumps(asdict(plan), indent=2).encode() + b"\n")
    there = _Plan(**json.loads(path.read_text()))
    if there != plan:
        differing = [name for name, value in asdict(plan).items() if getattr(there, name) != value]
        raise ValueError(
            f"{str(folder)!r} holds another kernel: {', '.join(differing)} differ (the digest is "
            "that of weights, samples and options); take another folder"
        )
    return there


def _digest(
    model: nn.Module, sides: tuple[Tensor, Tensor | None], options: Mapping[str, Any]
) -> str:
    """Of everything that the numbers depend on and that can be read."""
    found = hashlib.sha256(re.sub(r" at 0x\w+", "", repr(model)).encode())  # activations too
    chosen = options.get("params", "all")
    for name, value in _tensors(model, sides):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for name, parameter in model.named_parameters():
        taken = chosen(name, parameter) if callable(chosen) else chosen
        found.update(f"{name} {parameter.requires_grad} {taken}".encode())
    settings = {name: str(options.get(name)) for name in ("kind", "dtype", "method")}
    found.update(json.dumps(settings).encode())
    return found.hexdigest()


def _tensors(model: nn.Module, sides: tuple[Tensor, Tensor | None]) -> Iterator[tuple[str, Tensor]]:
    for name, side in zip(("x1", "x2"), sides, strict=True):
        if side is not None:
            yield name, side.flatten()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield name, tensor.flatten()


def _paths(folder: Path, i: int, j: int) -> tuple[Path, Path]:
    path = folder / f"block_{i:05d}_{j:05d}.npy"
    return path, path.with_suffix(".sha256")


def _write(folder: Path, i: int, j: int, block: np.ndarray) -> None:
    """The block first, its sum after it: a block without a sum is not there yet."""
    path, seal = _paths(folder, i, j)
    buffer = io.BytesIO()
    np.save(buffer, block, allow_pickle=False)
    _replace(path, buffer.getvalue())
    _replace(seal, f"{hashlib.sha256(buffer.getvalue()).hexdigest()}\n".encode())


def _read(folder: Path, i: int, j: int) -> np.ndarray | None:
    """A block; None if it is not there, or not what was written."""
    path, seal = _paths(folder, i, j)
    if not (path.exists() and seal.exists()):
        return None
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != seal.read_text().strip():
        warnings.warn(f"{path} is damaged and does not count", stacklevel=3)
        return None
    return np.load(io.BytesIO(content), allow_pickle=False)


def _replace(path: Path, content: bytes) -> None:
    temporary = _temporary(path)
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
