"""Tar shards of pictures and labels, by the package webdataset."""

import logging
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from darts_gdas.runtime.dataset import Pair
from darts_gdas.runtime.formats.owners import owner, reading
from darts_gdas.runtime.formats.sized import Sample, SizedSet
from darts_gdas.runtime.formats.splits import PARTS
from darts_gdas.runtime.listing import SUFFIXES

WORD = re.compile(rf"(?<![a-z])({'|'.join(PARTS)})(?![a-z])")
"""The part that a shard's path below the root says it is of, the last one."""

HIDDEN = re.compile(r"\.(?!_)")
"""Beginning of a file name that is all extension: WebDataset finds no sample's name before it.

The files `._NAME` that macOS adds to archives are no pictures, and are not meant.
"""

META = re.compile(r"__[^/]*__(/|$)")
"""Beginning of a name that WebDataset takes for metadata."""

NUMBER = re.compile(rb"\s*-?[0-9]+\s*")
"""A label, which Python would also take with underscores."""

PACKED = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")

logger = logging.getLogger(__name__)


@final
@dataclass(kw_only=True)
class WebDataset(SizedSet):
    """Tar shards, whose members of one name belong together: `0001.jpg` and `0001.cls`.

    A shard is of the part that its name or its folder's says, as in `photos-train-000.tar` or
    `test/000.tar`; all are for training where none says so. Its pictures are decoded into memory.

    Attributes:
        root: Folder with the shards, also in folders below it.
        label_key: Ending of the members that hold a label, as a number in digits.
    """

    label_key: str = "cls"

    def load(self) -> Pair:
        """Read the shards of the chosen parts, in the order of their names."""
        package, root = owner("webdataset"), self.place()
        shards: dict[str, list[str]] = defaultdict(list)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        found = [path for path in files if path.suffix.lower() == ".tar" and path.name[0] != "."]
        packed = [path for path in files if path.name.lower().endswith(PACKED)]
        if packed:
            raise ValueError(
                f"dataset.root={self.root!r} holds compressed shards, such as {packed[0].name!r}; "
                "unpack them to .tar"
            )
        said = {shard: WORD.findall(str(shard.relative_to(root)).lower()) for shard in found}
        for shard, words in said.items():
            if words or not any(said.values()):
                shards[words[-1] if words else "train"].append(str(shard.resolve()))
        read = sum(map(len, shards.values()))
        if read < len(found):
            others = [path.name for path, words in said.items() if not words]
            logger.warning(
                "%d of %d shards are not read, for their names do not say of which part they are, "
                "such as %r",
                *(len(others), len(found), others[0]),
            )
        if not shards:
            raise ValueError(f"dataset.root={self.root!r} must be a folder with shards, *.tar")
        splits = {
            name: partial(self.decoded, self._samples(package, paths), (), self._part(name))
            for name, paths in shards.items()
        }
        return self.pair(splits)

    def _part(self, name: str) -> str:
        return f"dataset.root={self.root!r}: {name}"

    def _samples(self, package: Any, shards: list[str]) -> Iterator[Sample]:
        for shard in shards:
            what = f"dataset.root={self.root!r}: the shard {shard!r}"
            with reading(what):
                check_complete(Path(shard))
            members = _members(package, shard, what)
            for member in members:
                yield self._sample(member, f"{member['__key__']} of {Path(shard).name}", what)

    def _sample(self, member: dict[str, Any], name: str, what: str) -> Sample:
        endings = [key for key in member if not key.startswith("__")]
        pictures = [key for key in endings if f".{key}" in SUFFIXES]
        if len(pictures) != 1 or self.label_key not in endings:
            raise ValueError(
                f"{what}: {member['__key__']!r} must have one picture and one member "
                f".{self.label_key}, got {', '.join(f'.{ending}' for ending in endings)}; members "
                "of one sample follow each other, and its name ends at the first dot"
            )
        text = member[self.label_key]
        if not NUMBER.fullmatch(text):
            raise ValueError(
                f"{what}: the label of {member['__key__']!r} must be a number in digits, "
                f"got {text[:40]!r}"
            )
        return Sample(member[pictures[0]], int(text), name)


def _members(package: Any, shard: str, what: str) -> Iterator[dict[str, Any]]:
    """Samples of a shard, as bytes by their endings."""
    with reading(what), open(shard, "rb") as file:  # a path that is opened there would be a URL
        content = package.tariterators.tar_file_expander([{"url": shard, "stream": file}])
        yield from package.tariterators.group_by_keys(content)


def check_complete(shard: Path) -> None:
    """Raise a `ValueError` unless readers see all that is in a tar file.

    They take a member that is damaged, or cut off in its header, for the end of the file, pass over
    links, over names that begin with a dot and over those below `__name__/`, and say nothing. A
    file without members is zeros alone.
    """
    with tarfile.open(shard) as tar:
        last = end = 0
        for member in tar:
            name = Path(member.name)
            why = "its name begins with a dot" if HIDDEN.match(name.name) else None
            why = "its name is that of metadata" if META.match(member.name) else why
            why = "it is a link" if member.islnk() or member.issym() else why
            if why and name.suffix.lower() in SUFFIXES:
                raise ValueError(f"the picture {member.name!r} would be left out, for {why}")
            last, end = member.offset_data, member.offset_data + -(-member.size // 512) * 512
        stream = tar.fileobj
        assert stream is not None
        stream.seek(end)
        behind = stream.read(512 if last else tarfile.RECORDSIZE + 1)
        is_end = len(behind) >= 512 if last else 1024 <= len(behind) <= tarfile.RECORDSIZE
        if not is_end or any(behind):
            raise ValueError("it is cut off or damaged: members are lacking at its end")
