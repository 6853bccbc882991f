"""Building the C++ kernels, once per machine, and loading them."""

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
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

_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-pthread")
_VECTORS = {
    "AVX2": ("-mavx2", "-mfma"),
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"),
}
"""Flags for what torch itself has found this processor to do; others have no kernels."""


class Kernels(Enum):
    """Who computes on a CPU what PyTorch's libraries are slow at.

    `auto` are kernels in C++ where there is a compiler to build them, else the libraries; `native`
    wants the kernels, and says why there are none; `library` are the libraries.
    """

    auto = "auto"
    native = "native"
    library = "library"


class _Built(NamedTuple):
    """The kernels, or in words why there are none."""

    library: ctypes.CDLL | None
    told: str


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
    return None if _Choice.kernels is Kernels.library else _built().library


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
        wanted = os.environ.get("CXX") or ", ".join(COMPILERS)
        return _Built(None, f"no C++ compiler, looked for {wanted}")
    command = [*compiler, *_FLAGS, *_VECTORS[capability]]
    try:
        return _Built(_loaded(command), f"C++ kernels ({capability})")
    except (OSError, subprocess.SubprocessError) as error:
        reason = _first_line(getattr(error, "stderr", None) or str(error))
        logger.warning("the C++ kernels could not be built, going on without: %s", reason)
        return _Built(None, f"those in C++ could not be built: {reason}")


def _compiler() -> list[str] | None:
    """The compiler, by its full path, and what `CXX` may say beside it."""
    wanted = os.environ.get("CXX")
    for name, *others in [shlex.split(wanted)] if wanted else [[name] for name in COMPILERS]:
        path = shutil.which(name)
        if path is not None:
            return [path, *others]
    return None


def _loaded(command: list[str]) -> ctypes.CDLL:
    """The library of these sources and this command, from the user's cache or built for it."""
    version = subprocess.run(
        [command[0], "--version"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    digest = hashlib.sha256("\0".join([*command, version]).encode())
    for source in (*SOURCES, *HEADERS):
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:32]}.so"
    path = cache() / name
    if _is_ours(path):  # a library runs with this user's rights
        try:
            return _opened(path)
        except (OSError, AttributeError):  # of a system that is no more
            logger.info("%s cannot be loaded, building it anew", path)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / name
        _compile(command, made)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as beside:  # on the same disc
                copy = shutil.copy(made, beside)
                os.chmod(copy, 0o700)
                os.replace(copy, path)
        except OSError as error:
            logger.info("the C++ kernels are not kept: %s", error)
        return _opened(made)


def _is_ours(path: Path) -> bool:
    """Whether a file is there that nobody else can have written."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


def _compile(command: list[str], target: Path) -> None:
    """Compile the sources side by side, then link them."""
    objects = [target.with_name(f"{source.stem}.o") for source in SOURCES]
    jobs = [
        subprocess.Popen(
            [*command, "-c", str(source), "-o", str(made)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for source, made in zip(SOURCES, objects, strict=True)
    ]  # fmt: skip
    results = [(job.args, job.communicate(timeout=300)[1], job.returncode) for job in jobs]
    for arguments, told, status in results:
        if status:
            raise subprocess.CalledProcessError(status, arguments, stderr=told)
    subprocess.run(
        [*command, *map(str, objects), "-o", str(target)],
        check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip


def _opened(path: Path) -> ctypes.CDLL:
    made = ctypes.CDLL(str(path))
    pointers, sizes = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int64)
    made.depthwise.argtypes = [ctypes.c_int64, sizes, pointers, pointers, pointers]
    for function in (made.normalized_sum, made.normalized_sum_gradients):
        function.argtypes = [sizes, ctypes.c_double, pointers, pointers]
    return made


def cache() -> Path:
    """Where built kernels are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "darts_gdas"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), (lines or ["no reason was given"])[0])
