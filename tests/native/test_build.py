"""Kernels are built once, kept, and never what stops a run."""

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from darts_gdas import native
from darts_gdas.native import Kernels, build

needs_kernels = pytest.mark.skipif(
    build.library() is None, reason=f"needs kernels in C++: {native.described()}"
)


REAL_COMPILE = build._compile


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled once for this file."""
    command = build._compiler()
    if command is not None and build.library() is not None:
        made = tmp_path_factory.mktemp("built") / "kernels.so"
        vectors = build._VECTORS[torch.backends.cpu.get_cpu_capability()]
        REAL_COMPILE([*command, *build._FLAGS, "-O0", *vectors], made)
        return made
    return Path("none")


@pytest.fixture(autouse=True)
def compiled(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """A machine on which nothing has been built, and what is compiled there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    targets: list[Path] = []

    def compile_fast(command: list[str], target: Path) -> None:
        if "CXX" in os.environ and os.environ["CXX"].startswith(str(tmp_path)):
            REAL_COMPILE(command, target)  # a stand-in, which fails
        targets.append(target)
        shutil.copy(built, target)

    monkeypatch.setattr(build, "_compile", compile_fast)
    build._built.cache_clear()
    build._warn.cache_clear()
    yield targets
    build._built.cache_clear()


def compiler(folder: Path, text: str) -> Path:
    """A program in the place of a compiler."""
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@needs_kernels
def test_they_are_built_once_and_kept_for_this_user_alone(compiled: list[Path]):
    assert build.library() is not None
    (kept,) = build.cache().iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700 and build.cache().stat().st_mode & 0o077 == 0
    build._built.cache_clear()
    assert build.library() is not None and len(compiled) == 1


@needs_kernels
@pytest.mark.parametrize("damage", ["cut off", "changed", "others may write"])
def test_what_cannot_be_trusted_is_built_anew(damage: str, compiled: list[Path]):
    build.library()
    (kept,) = build.cache().iterdir()
    whole = kept.read_bytes()
    if damage == "others may write":
        kept.chmod(0o777)
    else:  # in a new file: this one is in use
        kept.unlink()
        half = len(whole) // 2
        flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
        kept.write_bytes(flipped if damage == "changed" else whole[:half])
        kept.chmod(0o700)
    build._built.cache_clear()
    assert build.library() is not None and len(compiled) == 2
    assert kept.stat().st_size == len(whole) and kept.stat().st_mode & 0o777 == 0o700


@needs_kernels
def test_without_a_place_to_keep_them_they_are_built_for_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build.library() is not None


@pytest.mark.parametrize("cxx", [" ", ""])
@needs_kernels
def test_a_blank_name_of_a_compiler_is_none(cxx: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", cxx)
    assert build.library() is not None


@needs_kernels
def test_a_relative_cache_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", "beside")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.cache() == tmp_path / ".cache" / "darts_gdas"


@needs_kernels
def test_a_user_without_a_home_keeps_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it does for such a user
    assert build.cache() is None and build.library() is not None


def test_no_compiler_leaves_the_library_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    if torch.backends.cpu.get_cpu_capability() not in build._VECTORS:
        pytest.skip("no kernels for this processor")
    assert build.library() is None
    told = "no C++ compiler, looked for no-such-compiler"
    assert native.described() == f"library kernels ({told})"
    with pytest.raises(ValueError, match=f"kernels=native, but {told}".replace("+", r"\+")):
        native.choose(Kernels.native)
    assert native.chosen() is not Kernels.native


def test_quotes_that_do_not_close_are_no_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", 'g++ "')
    assert build._compiler() is None and build.library() is None


@pytest.mark.parametrize("when", ["always", "when it compiles"])
def test_a_compiler_that_fails_is_one_warning(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    if torch.backends.cpu.get_cpu_capability() not in build._VECTORS:
        pytest.skip("no kernels for this processor")
    fails = 'echo "first line" >&2; echo "fatal error: no header" >&2; exit 1'
    text = fails if when == "always" else f'[ "$1" = --version ] && echo 1.0 && exit; {fails}'
    monkeypatch.setenv("CXX", str(compiler(tmp_path, text)))
    assert build.library() is None and build.library() is None
    (record,) = caplog.records
    expected = "the C++ kernels could not be built, going on without: fatal error: no header"
    assert record.getMessage() == expected


def test_kernels_that_are_insisted_on_and_fail_are_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Without a word of going on."""
    if torch.backends.cpu.get_cpu_capability() not in build._VECTORS:
        pytest.skip("no kernels for this processor")
    path = compiler(tmp_path, "exit 3")
    monkeypatch.setenv("CXX", str(path))
    reason = f"{path} --version ended with status 3; use kernels=auto or library"
    with pytest.raises(ValueError, match=f"could not be built: {reason}"):
        native.choose(Kernels.native)
    assert not caplog.records


@needs_kernels
def test_a_library_without_the_kernels_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """And a compiler whose words are in no known encoding."""
    real = build._compiler()
    assert real is not None
    empty = tmp_path / "empty.cpp"
    empty.write_text("")
    words = f'''printf "\\351\\n"
[ "$1" = --version ] && exit
for last; do :; done
exec {real[0]} -shared -fPIC {empty} -o "$last"'''
    monkeypatch.setenv("CXX", str(compiler(tmp_path, words)))
    monkeypatch.setattr(build, "_compile", REAL_COMPILE)
    assert build.library() is None
    (record,) = caplog.records
    assert "could not be built, going on without" in record.getMessage()


def test_the_library_is_a_choice():
    native.choose(Kernels.library)
    assert build.library() is None and native.described() == "library kernels"


@needs_kernels
def test_a_compiler_may_have_options_of_its_own(monkeypatch: pytest.MonkeyPatch):
    found = build._compiler()
    assert found is not None
    monkeypatch.setenv("CXX", f"{found[0]} -DNDEBUG")
    assert build._compiler() == [found[0], "-DNDEBUG"]
    assert build.library() is not None


@needs_kernels
@pytest.mark.parametrize("name", build.COMPILERS)
def test_no_compiler_warns(name: str, tmp_path: Path):
    """Without optimisation, which takes a minute and warns of nothing that is written here."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not there")
    earlier = [shutil.which(other) for other in build.COMPILERS[: build.COMPILERS.index(name)]]
    if os.path.realpath(found) in [os.path.realpath(other) for other in earlier if other]:
        pytest.skip(f"{name} is another name of a compiler before it")
    vectors = build._VECTORS[torch.backends.cpu.get_cpu_capability()]
    strict = ["-Wall", "-Wextra", "-Werror"]
    REAL_COMPILE([name, *strict, *build._FLAGS, "-O0", *vectors], tmp_path / "strict.so")
    assert (tmp_path / "strict.so").exists()


@needs_kernels
def test_of_processes_that_start_together_one_builds(tmp_path: Path):
    found = build._compiler()
    assert found is not None
    noted = tmp_path / "noted"
    stand_in = compiler(tmp_path, f'echo "$*" >> {noted}\nexec {found[0]} "$@" -O0')
    code = "from darts_gdas.native import build; assert build.library() is not None"
    where = {**os.environ, "CXX": str(stand_in)}
    jobs = [subprocess.Popen([sys.executable, "-c", code], env=where) for _ in range(3)]
    assert [job.wait(600) for job in jobs] == [0, 0, 0]
    assert sum("-shared" in line for line in noted.read_text().splitlines()) == 1
    assert len(list(build.cache().iterdir())) == 1


@needs_kernels
def test_where_nothing_can_be_locked_all_goes_on(
    monkeypatch: pytest.MonkeyPatch, compiled: list[Path]
):
    def refuse(*_: object) -> None:
        raise OSError("no locks on this file system")

    monkeypatch.setattr(build.fcntl, "flock", refuse)
    assert build.library() is not None and len(compiled) == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is loaded")
def test_threads_are_those_that_torch_computes_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not those of another package that brings OpenMP along."""
    beside = [p for p in Path(torch.__file__).parent.rglob("lib*omp*.so*")]
    if not beside:
        pytest.skip("this torch brings no OpenMP library")
    expected = {
        ctypes.cast(ctypes.CDLL(str(p)).GOMP_parallel, ctypes.c_void_p).value for p in beside
    }
    assert build._team() in expected
    (tmp_path / "torch").symlink_to(Path(torch.__file__).parent)
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    importlib.import_module("sklearn.utils._openmp_helpers")
    assert build._team() in expected
