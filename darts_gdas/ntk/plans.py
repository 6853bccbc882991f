"""What a folder of blocks is for: its plan, which all processes share."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darts_gdas.ntk.checks import check_count
from darts_gdas.ntk.fingerprint import Fingerprint
from darts_gdas.ntk.sealed import create
from darts_gdas.reasons import reason

PLAN = "plan.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder is for.

    Attributes:
        samples: On the first side.
        others: On the second side; None if they are the same, and blocks above the diagonal do.
        block_size: Samples per side of a block.
        digest: Of weights, samples, options and precision.
        outputs: Of the model, projected, for every block of samples, those of the second side last;
            the length of all comes first.
        gradients: Of the outputs of some samples, in the same form. Where a kernel's machines
            differ, so do the last digits of both, hence they are compared, and no part of the
            digest.
    """

    samples: int
    others: int | None
    block_size: int
    digest: str
    outputs: list[list[float]]
    gradients: list[list[float]]

    def blocks(self) -> list[tuple[int, int]]:
        """Places of all blocks, row by row."""
        rows = math.ceil(self.samples / self.block_size)
        columns = rows if self.others is None else math.ceil(self.others / self.block_size)
        first = (lambda i: i) if self.others is None else (lambda i: 0)
        return [(i, j) for i in range(rows) for j in range(first(i), columns)]

    @property
    def key(self) -> str:
        """What its blocks are sealed with."""
        return repr(self)

    def part(self, index: int) -> slice:
        """The samples of a block."""
        return slice(index * self.block_size, (index + 1) * self.block_size)


def path_of(folder: object) -> Path:
    """A folder's path; raises a `ValueError` for what is none."""
    if not isinstance(folder, (str, os.PathLike)):
        raise ValueError(f"the folder must be a path, got {folder!r}")
    return Path(folder)


def check_folder(folder: Path) -> Path:
    """The folder, if it is one or can be made; a `ValueError` names a file in its way."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"{str(there)!r} is a file; the kernel goes into a folder")
    return folder


def planned(folder: Path, plan: Plan, computes: Fingerprint) -> Plan:
    """Make the folder and write the plan, or compare it with the one that is there.

    Of processes that begin at the same time one writes it, for their machines may round otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PLAN
    if not path.exists():
        create(path, json.dumps(asdict(plan), indent=2).encode() + b"\n")
    there = plan_of(folder)
    exact = (name for name in asdict(plan) if name not in ("outputs", "gradients"))
    differing = [name for name in exact if getattr(there, name) != getattr(plan, name)]
    differing += computes.differing(there.outputs, there.gradients)
    if differing:
        raise ValueError(
            f"{str(folder)!r} holds another kernel: {', '.join(differing)} differ (the digest is "
            "that of weights, samples, options and precision); take another folder"
        )
    return there


def plan_of(folder: Path) -> Plan:
    """The plan of a folder; raises a `ValueError` if there is none that can be read."""
    path = folder / PLAN
    try:
        plan = Plan(**json.loads(path.read_text()))
        for name in ("samples", "block_size", *(["others"] if plan.others is not None else [])):
            check_count(name, getattr(plan, name))
    except (ValueError, TypeError, IsADirectoryError) as error:
        raise ValueError(
            f"{path} is damaged ({reason(error)}); delete it and call ntk_on_disc with the "
            "arguments of before, which writes it again and keeps the blocks that belong to it"
        ) from error
    return plan


def digest_of(
    model: nn.Module, sides: tuple[Tensor, Tensor | None], options: Mapping[str, Any]
) -> str:
    """Of everything that the numbers depend on and that can be read."""
    found = hashlib.sha256()
    chosen = options["params"]
    for name, value in _tensors(model, sides):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for name, parameter in model.named_parameters():
        taken = chosen(name, parameter) if callable(chosen) else chosen
        found.update(f"{name} {parameter.requires_grad} {taken}".encode())
    settings = {name: str(options[name]) for name in ("kind", "dtype", "method")}
    found.update(json.dumps(settings | _precision(sides[0].device.type)).encode())
    return found.hexdigest()


def _precision(device: str) -> dict[str, str]:
    """What rounds beside the types of numbers: ranks that differ in it would not compute one."""
    cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return {"autocast": str(cast), "products": torch.get_float32_matmul_precision()}


def _tensors(model: nn.Module, sides: tuple[Tensor, Tensor | None]) -> Iterator[tuple[str, Tensor]]:
    for name, side in zip(("x1", "x2"), sides, strict=True):
        if side is not None:
            yield name, side.flatten()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield name, tensor.flatten()
