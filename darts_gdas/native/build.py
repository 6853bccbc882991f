"""Building the C++ kernels, once per machine, and loading them."""

import contextlib
import ctypes
import fcntl
import hashlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

logger = logging.getLogger(__name__)

SOURCES = sorted(Path(__file__).parent.glob("*.cpp"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))

COMPILERS = ("c++", "g++", "clang++")
"""What is looked for where `CXX` does not name a compiler."""

_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=off", "-fPIC")
_VECTORS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}
"""Flags for what torch itself has found this processor to do; others have no kernels."""

_OPENMP = re.compile(r"lib(gomp|iomp5|omp)\b.*\.so")


class Kernels(Enum):
    """Who computes on a CPU what PyTorch's libraries are slow at.

    `auto` are kernels in C++ where there is a compiler to build them, else the libraries; `native`
    wants the kernels, and says why there are none; `library` are the libraries.
    """

    auto = "auto"
    native = "native"
    library = "library"


class _Built(NamedTuple):
    """The kernels, or in words why there are none, and what went wrong if anything did."""

    library: ctypes.CDLL | None
    told: str
    fault: str = ""


class _Choice:
    """What the process has chosen."""

    kernels = Kernels.auto


def choose(kernels: Kernels) -> None:
    """Set who computes, in this process and those it starts.

    Args:
        kernels: The choice.

    Raises:
        ValueError: If `native` is chosen and the kernels cannot be had.
    """
    if kernels is Kernels.native and _built().library is None:
        raise ValueError(f"kernels=native, but {_built().told}; use kernels=auto or library")
    _Choice.kernels = kernels


def chosen() -> Kernels:
    """The choice as it stands."""
    return _Choice.kernels


def library() -> ctypes.CDLL | None:
    """The kernels as a library, built at the first call; None where the libraries compute."""
    if _Choice.kernels is Kernels.library:
        return None
    built = _built()
    if built.fault:
        _warn(built.fault)
    return built.library


@lru_cache(maxsize=1)
def _warn(fault: str) -> None:
    """Say once what went wrong, where all goes on without kernels."""
    logger.warning("the C++ kernels could not be built, going on without: %s", fault)


def described() -> str:
    """Who computes, in words."""
    if _Choice.kernels is Kernels.library:
        return "library kernels"
    built = _built()
    return built.told if built.library is not None else f"library kernels ({built.told})"


@lru_cache(maxsize=1)
def _built() -> _Built:
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in _VECTORS:
        return _Built(None, f"none in C++ for processors without AVX2, this has {capability}")
    compiler = _compiler()
    if compiler is None:
        wanted = os.environ.get("CXX", "").strip() or ", ".join(COMPILERS)
        return _Built(None, f"no C++ compiler, looked for {wanted}")
    command = [*compiler, *_FLAGS, *_VECTORS[capability]]
    try:
        return _Built(_loaded(command), f"C++ kernels ({capability})")
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as error:
        fault = _reason(error)
        return _Built(None, f"those in C++ could not be built: {fault}", fault)


def _compiler() -> list[str] | None:
    """The compiler, by its full path, and what `CXX` may say beside it."""
    wanted = os.environ.get("CXX", "").strip()
    try:
        candidates = [shlex.split(wanted)] if wanted else [[name] for name in COMPILERS]
    except ValueError:  # quotes that do not close
        return None
    for name, *others in candidates:
        path = shutil.which(name)
        if path is not None:
            return [path, *others]
    return None


def _loaded(command: list[str]) -> ctypes.CDLL:
    """The library of these sources and this command, from the user's cache or built for it.

    Its file is named by what it is made of and what it holds: one that is damaged, and would end
    the process, is not loaded.
    """
    digest = hashlib.sha256("\0".join([*command, _said([command[0], "--version"])]).encode())
    for source in (*SOURCES, *HEADERS):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:32]}"
    folder = cache()
    found = _from_cache(folder, name)
    if found is not None:
        return found
    _tell_who_waits("building the C++ kernels, once: some seconds")
    with _in_turn(folder), tempfile.TemporaryDirectory() as place:
        found = _from_cache(folder, name)  # of another process, which was first
        if found is not None:
            return found
        made = Path(place) / f"{name}.so"
        _compile(command, made)
        return _opened((folder and _kept(made, folder / _named(made, name))) or made)


def _from_cache(folder: Path | None, name: str) -> ctypes.CDLL | None:
    """What has been built before, if it can be trusted and loaded."""
    for path in folder.glob(f"{name}-*.so") if folder else ():
        if _is_ours(path) and path.name == _named(path, name):
            try:
                return _opened(path)
            except OSError:  # of a system that is no more, or where nothing may be executed
                logger.info("%s cannot be loaded, building it anew", path)
    return None


@contextlib.contextmanager
def _in_turn(folder: Path | None) -> Iterator[None]:
    """Processes that share a cache build one after the other: all ranks of a machine start at once.

    Where a folder cannot be made or locked, they build side by side.
    """
    with contextlib.ExitStack() as held:
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                place = os.open(folder, os.O_RDONLY)
                held.callback(os.close, place)
                fcntl.flock(place, fcntl.LOCK_EX)
        yield


def _named(path: Path, name: str) -> str:
    """What a library is called in the cache."""
    holds = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    return f"{name}-{holds}.so"


def _kept(made: Path, path: Path) -> Path | None:
    """The library at its place in the cache, whole or not there; None where it cannot be kept."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as beside:  # on the same disc
            copy = Path(shutil.copy(made, beside))
            copy.chmod(0o700)
            with copy.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(copy, path)
    except OSError as error:
        logger.info("the C++ kernels are not kept: %s", error)
        return None
    return path


def _is_ours(path: Path) -> bool:
    """Whether nobody else can have written a file, which will run with this user's rights."""
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _compile(command: list[str], target: Path) -> None:
    """Compile the sources side by side, then link them."""
    objects = [target.with_name(f"{source.stem}.o") for source in SOURCES]
    with ThreadPoolExecutor(len(SOURCES)) as threads:
        lines = [
            [*command, "-c", str(source), "-o", str(made)]
            for source, made in zip(SOURCES, objects, strict=True)
        ]
        list(threads.map(_said, lines))
    _said([*command, "-shared", *map(str, objects), "-o", str(target)])


def _said(command: list[str]) -> str:
    """What a command prints; it is killed after ten minutes, on any machine enough."""
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, timeout=600,
    )  # fmt: skip
    return done.stdout


def _opened(path: Path) -> ctypes.CDLL:
    made = ctypes.CDLL(str(path))
    made.use_team.argtypes = [ctypes.c_void_p]
    made.use_team(_team())
    return made


def _team() -> int | None:
    """Address of `GOMP_parallel` in the OpenMP library of torch, which has all three by that name.

    Others' libraries may be loaded too, scikit-learn's for example; their threads are others.
    """
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return None
    lines = maps.read_text(errors="replace").splitlines()
    paths = dict.fromkeys(line.split(maxsplit=5)[5] for line in lines if line.count("/") > 0)
    found = [path for path in paths if _OPENMP.match(Path(path).name)]
    home = str(Path(torch.__file__).resolve().parent)  # as the map has it
    found.sort(key=lambda path: not path.startswith(home))
    for path in found:
        with contextlib.suppress(OSError, AttributeError):
            return ctypes.cast(ctypes.CDLL(path).GOMP_parallel, ctypes.c_void_p).value
    return None


def cache() -> Path | None:
    """Where built kernels are kept; nowhere for a user without a home."""
    bases = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")
    base = next((base for base in bases if os.path.isabs(base)), None)
    return Path(base) / "darts_gdas" if base else None


def _tell_who_waits(text: str) -> None:
    """Also at a terminal, where nothing else moves meanwhile."""
    if logger.isEnabledFor(logging.INFO):
        logger.info(text)
    elif sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, subprocess.CalledProcessError) and not error.stderr:
        return f"{shlex.join(error.cmd)} ended with status {error.returncode}"
    return _first_line(getattr(error, "stderr", None) or str(error))


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), (lines or ["no reason was given"])[0])
