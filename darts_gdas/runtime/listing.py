"""Names of the pictures below a folder, by their endings and headers, and what is left out."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from darts_gdas.runtime.pictures import Header, header

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".pbm", ".pgm", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""Endings of pictures, in upper or lower case: such a file must be readable, any other may be."""

_ENDINGS = frozenset(s.encode() for suffix in SUFFIXES for s in (suffix, suffix.upper()))

_MAX_THREADS = 8
Result = TypeVar("Result")
Spread = Callable[[Callable[[str], Any], Sequence[str]], list[Any]]
"""Results of independent work on several texts, in order, whoever does it."""


@dataclass
class PassedOver:
    """Files and folders that are not read, by the reason.

    Attributes:
        found: Paths by reason, a phrase in the plural.
    """

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, path: str | Path) -> None:
        """Note one."""
        self.found.setdefault(reason, []).append(str(path))

    def update(self, other: "PassedOver") -> None:
        """Note those that somebody else has."""
        for reason, paths in other.found.items():
            self.found.setdefault(reason, []).extend(paths)

    def words(self) -> str | None:
        """All of them in one line, with an example of each; None where there are none."""
        parts = [f"{len(p)} {reason} (such as {p[0]!r})" for reason, p in self.found.items()]
        return f"passed over below dataset.root: {', '.join(parts)}" if parts else None


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that has been looked at.

    Attributes:
        path: The file.
        header: What it says of itself; None where that cannot be read.
    """

    path: str
    header: Header | None


def start_of(root: str) -> str:
    """What the paths below a folder begin with."""
    return "" if root in ("", os.curdir) else os.path.join(root, "")


def listed(root: str, folder: str) -> tuple[np.ndarray, PassedOver]:
    """The pictures of a class: files with their endings, and others that are some.

    Args:
        root: Folder of the data set.
        folder: Of the class, below it; what is below a linked folder counts, too.

    Returns:
        Their names below the root, sorted folder by folder, as bytes; and what is left out.

    Raises:
        OSError: If a folder cannot be read.
    """
    passed, start = PassedOver(), os.fsencode(start_of(root))
    above = (os.path.realpath(os.path.dirname(folder)),)
    try:
        names = _names_below(os.fsencode(folder), start, above, passed)
    except OSError as error:
        error.filename = os.fsdecode(error.filename)
        raise
    unsure = [name for name in names if name[name.rfind(b".") :] not in _ENDINGS]
    others = with_headers([os.fsdecode(start + name) for name in unsure])
    lacking = dict.fromkeys(
        name
        for name, other in zip(unsure, others, strict=True)
        if other.header is None and not other.path.lower().endswith(SUFFIXES)
    )
    for name in lacking:
        passed.add("files without a picture that can be read", os.fsdecode(start + name))
    if lacking:
        names = [name for name in names if name not in lacking]
    return np.array(names, dtype=np.bytes_), passed


def _names_below(
    folder: bytes, root: bytes, above: tuple[str, ...], passed: PassedOver
) -> list[bytes]:
    """All files, also those of linked folders, sorted folder by folder."""
    above = (*above, os.path.realpath(os.fsdecode(folder)))
    with os.scandir(folder) as found:  # knows kinds without a question for each file
        entries = [entry for entry in found if entry.name[:1] != b"."]
    others = {entry.name: entry for entry in entries if not entry.is_file()}
    start, below = os.path.join(folder, b"").removeprefix(root), []
    names = [entry.name for entry in entries]
    names.sort(key=None if b"".join(names).isascii() else os.fsdecode)  # as texts are
    if not others:
        return [start + name for name in names]
    for name in names:
        entry = others.get(name)
        if entry is None:
            below.append(start + name)
            continue
        path = os.fsdecode(entry.path)
        if not entry.is_dir():
            passed.add("dead links" if entry.is_symlink() else "special files", path)
        elif os.path.realpath(path) in above:
            passed.add("links to a folder that holds them", path)
        else:
            below += _names_below(entry.path, root, above, passed)
    return below


def in_threads(work: Callable[..., Result], items: Iterable[object]) -> list[Result]:
    """The results of independent work, in order."""
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


def with_headers(paths: Sequence[str], spread: Spread = in_threads) -> list[Picture]:
    """Look at files.

    Args:
        paths: Theirs.
        spread: Who looks.
    """
    headers = spread(header, paths) if paths else []
    return [Picture(path, head) for path, head in zip(paths, headers, strict=True)]
