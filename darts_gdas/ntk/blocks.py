"""Kernels of thousands of samples, block by block in files, by several processes, resumable.

A folder holds `plan.json` (what is computed, with a digest of it), one file per block of samples
times samples, and in the end `kernel.npy`, each array with its sha256 beside it. Files are written
under another name and renamed, so a file is whole or not there; which process computes which block
is a function of its rank, so none waits for another.
"""

import errno
import inspect
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from torch import Tensor, nn

from darts_gdas.ntk.checks import check_count, check_memory
from darts_gdas.ntk.entry import tried
from darts_gdas.ntk.fingerprint import fingerprint
from darts_gdas.ntk.kernel import check_choices, empirical_ntk
from darts_gdas.ntk.plans import PLAN, Plan, check_folder, digest_of, path_of, plan_of, planned
from darts_gdas.ntk.sealed import is_whole, read_array, seal, temporary, write_array
from darts_gdas.ntk.ways import Ways

WHOLE = "kernel.npy"
_SIGNATURE = inspect.signature(empirical_ntk)


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

    Every block is computed as by `empirical_ntk`. The network, all samples and the way are tried
    once, before the first; what lies in the samples of a block alone (that they are not mixed, rows
    of `jacobian`) is compared for each, unless `trusted` with a `method`. Blocks that are there and
    whole are left alone, one that is damaged is computed again, with a warning. Memory is that of a
    block. Rows of J are computed anew for every block, so twice the block size is half the backward
    passes.

    A folder is refused to another function of the same weights, as far as it can be told from what
    rounding does on another machine: if outputs of any block of samples differ by more than 100
    roundings (in float32 1e-5 of the largest), or gradients at four samples by the root of one
    (3e-4; they jump where a ReLU switches). Networks in half precision are compared in float32,
    those that cannot run in it to 2 %. Two functions that are closer than that, or that differ in
    gradients alone and elsewhere, pass for one.

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
        ValueError: As `empirical_ntk`, or if the folder is that of other weights, samples,
            options, precision (autocast, of products) or functions between the weights.
    """
    place = check_folder(path_of(folder))
    block_size, world = check_count("block_size", block_size), check_count("world", world)
    rank = check_count("rank", rank, 0, world - 1)
    given = _SIGNATURE.bind(model, x1, x2, **options)
    given.apply_defaults()
    if options.get("batch_norm") is not None:
        raise ValueError(
            f"batch_norm={options['batch_norm']!r} would take the statistics of each block; leave "
            "it out, with norms in evaluation"
        )
    chosen = given.arguments
    names = ("kind", "method", "batch_norm", "dtype", "trusted")
    kind = check_choices(*(chosen[name] for name in names))
    chunk_size = check_count("chunk_size", chosen["chunk_size"])
    with tried(model, x1, x2, chosen["params"]) as found:
        computes = fingerprint(model, (x1, x2), chosen["params"], block_size, chunk_size)
        plan = Plan(
            len(x1),
            None if x2 is None else len(x2),
            block_size,
            digest_of(model, (x1, x2), chosen),
            computes.outputs.tolist(),
            computes.gradients.tolist(),
        )
        plan = planned(place, plan, computes)
        ways = Ways(
            model,
            [x1] if x2 is None else [x1, x2],
            found,
            kind,
            chunk_size=chunk_size,
            **{name: chosen[name] for name in ("method", "dtype", "trusted")},
        )
        return _compute(place, plan, ways, (x1, x2), plan.blocks()[rank::world])


def _compute(
    folder: Path,
    plan: Plan,
    ways: Ways,
    sides: tuple[Tensor, Tensor | None],
    places: Sequence[tuple[int, int]],
) -> int:
    """Write the blocks that are not there; how many those were."""
    computed, (x1, x2) = 0, sides
    for i, j in places:
        path = _path(folder, i, j)
        if is_whole(path, plan.key):
            continue
        own = x2 is None and i == j
        right = None if own else (x1 if x2 is None else x2)[plan.part(j)]
        left = x1[plan.part(i)]
        check_memory(ways.kind, left, right, ways.num_outputs, ways.dtype)
        block = ways.kernel(left, right)
        write_array(path, plan.key, block.cpu().numpy())
        computed += 1
    return computed


def collect_ntk(folder: str | Path) -> np.memmap:
    """The whole kernel of a folder, as an array on disc, read-only.

    The first call writes `kernel.npy` from the blocks; later ones open it. Either reads the file
    once, for its sum; one that is damaged is written again, with a warning.

    Raises:
        ValueError: If the folder holds no plan or one that cannot be read, or blocks are missing or
            damaged; it says how many of how many, and `ntk_on_disc` computes them.
        OSError: If the disc has no room for the whole.
    """
    place = path_of(folder)
    path = place / WHOLE
    if not (place / PLAN).is_file():
        raise ValueError(f"{str(folder)!r} holds no kernel: there is no {PLAN}")
    plan = plan_of(place)
    if not is_whole(path, plan.key):
        _assemble(place, plan)
    opened = np.load(path, mmap_mode="r")
    assert isinstance(opened, np.memmap)
    return opened


def _assemble(folder: Path, plan: Plan) -> None:
    """Write the kernel while its blocks are read, each once."""
    new, places = temporary(folder / WHOLE), plan.blocks()
    columns = plan.samples if plan.others is None else plan.others
    whole, missing = None, 0
    for i, j in places:
        block = read_array(_path(folder, i, j), plan.key)
        missing += block is None
        if block is None or missing:
            continue
        if whole is None:
            shape = (plan.samples, columns, *block.shape[2:])
            _check_disc(folder, math.prod(shape) * block.itemsize)
            whole = np.lib.format.open_memmap(new, mode="w+", dtype=block.dtype, shape=shape)
        whole[plan.part(i), plan.part(j)] = block
        if plan.others is None and i != j:
            turned = block.swapaxes(0, 1)
            whole[plan.part(j), plan.part(i)] = turned.swapaxes(2, 3) if block.ndim == 4 else turned
    if missing or whole is None:
        new.unlink(missing_ok=True)
        raise ValueError(
            f"{missing} of {len(places)} blocks in {str(folder)!r} are missing or damaged; call "
            "ntk_on_disc with the same arguments, it computes those alone"
        )
    whole.flush()
    del whole
    os.replace(new, folder / WHOLE)
    seal(folder / WHOLE, plan.key)


def _check_disc(folder: Path, size: int) -> None:
    """A disc that fills up under a mapped file ends the process without a word."""
    if (free := shutil.disk_usage(folder).free) < size:
        told = f"{WHOLE} takes {size:,} bytes, the disc of {str(folder)!r} has {free:,} left"
        raise OSError(errno.ENOSPC, told)


def _path(folder: Path, i: int, j: int) -> Path:
    return folder / f"block_{i:05d}_{j:05d}.npy"
