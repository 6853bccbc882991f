"""What the files of an offline run of Weights & Biases hold, which nobody else can be asked."""

import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

BEGIN, BLOCK, HEADER = 7, 2**15, struct.Struct("<IHB")
WHOLE, LAST = 1, 4


def offline_records(folder: Path, identity: str) -> Iterator[Any]:
    """The records of a run, in order; what a crash cut off is left out.

    A file is a log of LevelDB behind a header of seven bytes: blocks of 32 KiB with records in
    parts, each behind its checksum, size and kind.

    Args:
        folder: What `wandb.init` was given as `dir`.
        identity: The run's id.
    """
    record = import_module("wandb.proto.wandb_internal_pb2").Record
    for path in sorted(folder.glob(f"wandb/offline-run-*/run-{identity}.wandb")):
        data, place, content = path.read_bytes(), BEGIN, b""
        while place + HEADER.size <= len(data):
            room = BLOCK - place % BLOCK
            if room < HEADER.size:  # the block is filled up
                place += room
                continue
            _, size, kind = HEADER.unpack_from(data, place)
            place += HEADER.size + size
            if place > len(data):
                break
            content += data[place - size : place]
            if kind in (WHOLE, LAST):
                yield record.FromString(content)
                content = b""


def newest_step(folder: Path, identity: str) -> int:
    """The largest step of a point in the files of a run; -1 where there is none."""
    return max(
        (
            int(item.value_json)
            for record in offline_records(folder, identity)
            if record.WhichOneof("record_type") == "history"
            for item in record.history.item
            if item.key == "_step" or [*item.nested_key] == ["_step"]
        ),
        default=-1,
    )
