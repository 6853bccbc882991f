"""The program that looks at this installation: versions, devices, the disc, and a small search."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import darts_gdas
import darts_gdas.native as native
from darts_gdas.reasons import DISTRIBUTION, installing
from darts_gdas.runtime.compute import Compute, Device, Precision, usable_cores
from darts_gdas.runtime.launch import COMMAND, command
from darts_gdas.runtime.usage import FAULT

SAMPLE_BYTES = 64 * 2**20
"""Written and read again, to see how fast the disc is."""

PATIENCE = 300
"""Seconds that the small search may take."""

PURPOSES = {
    "datasets": "dataset=huggingface",
    "medmnist": "dataset=medmnist",
    "webdataset": "dataset=webdataset",
    "nats-bench": "tables of known accuracies",
    "onnx": "export --format onnx",
    "onnxscript": "export --format onnx",
    "onnxruntime": "ONNX files run and are measured",
    "openvino": "export --format openvino",
    "executorch": "export --format executorch",
    "huggingface-hub": "folders of the hub",
    "safetensors": "weights as safetensors",
    "timm": "timm.create_model",
    "wandb": "logger=[wandb]",
    "mlflow": "logger=[mlflow]",
    "optuna": "tune",
    "submitit": "jobs of Slurm",
    "hydra-submitit-launcher": "hydra/launcher=submitit_slurm",
    "playwright": "tests of pages",
    "axe-playwright-python": "tests of pages",
    "mkdocs-material": "the documentation's pages",
}
"""What a package of an extra is for; those of `dev` are for who works on this package."""

SELF_TEST = (
    *(
        "method=gdas",
        "dataset=digits",
        "epochs=1",
        "net.channels=2",
        "net.layers=3",
        "batch_size=64",
    ),
    *("space.num_nodes=2", "threads=1", "verbosity=quiet"),
)
"""A search of seconds, through everything that a search does."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        about: What was looked at.
        told: What was seen.
        is_fault: Programs will not run as they are meant to.
    """

    about: str
    told: str
    is_fault: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exit status 1 if something is wrong with the installation."""
    parser = argparse.ArgumentParser(
        prog=command("doctor"),
        description="Look at this installation and run a search of some seconds.",
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="where runs will lie")
    folder: Path = parser.parse_args(arguments).folder
    if not folder.is_dir():
        parser.error(f"--folder must be a folder that exists, got {str(folder)!r}")
    faults = 0
    for finding in findings(folder):
        faults += finding.is_fault
        print(
            f"{'FAULT' if finding.is_fault else '     '} {finding.about:<24}{finding.told}",
            flush=True,
        )
    print(f"\n{faults} faults" if faults else "\neverything needed is here")
    if faults:
        raise SystemExit(FAULT)


def findings(folder: Path) -> Iterator[Finding]:
    """What is seen, line by line; the last one takes some seconds."""
    yield Finding(COMMAND, darts_gdas.__version__)
    yield Finding("Python", f"{platform.python_version()}, {platform.platform()}")
    yield from packages()
    yield from devices()
    yield from disc(folder)
    yield self_test()


def packages() -> Iterator[Finding]:
    """Versions against what this package asks for, and the extras that are not here."""
    try:
        asked = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        folder = Path(darts_gdas.__file__).parents[1]
        told = f"not looked at: {DISTRIBUTION} is not installed, but found where it lies"
        yield Finding("packages", f"{told} (pip install -e {folder})")
        return
    for requirement in asked:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _judged(requirement)
    for extra in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []:
        names = [
            lack
            for requirement in asked
            if requirement.marker is not None
            and not requirement.marker.evaluate({"extra": ""})
            and requirement.marker.evaluate({"extra": extra})
            and (lack := _lack(requirement))
        ]
        if names:
            told = f"{', '.join(names)}. If you want it: {installing(extra)}"
            yield Finding(f"extra {extra!r}", told)


def _lack(requirement: Requirement) -> str | None:
    """What is wrong with an optional package, and what it is for; None if it is here."""
    found = _version(requirement.name)
    if found is not None and requirement.specifier.contains(found, prereleases=True):
        return None
    state = "not here" if found is None else f"{found}, but {requirement.specifier} is needed"
    purpose = PURPOSES.get(canonicalize_name(requirement.name))
    return f"{requirement.name} {state}" + (f" (for {purpose})" if purpose else "")


def _judged(requirement: Requirement) -> Finding:
    found = _version(requirement.name)
    if found is None:
        return Finding(requirement.name, f"missing: pip install '{requirement}'", True)
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(requirement.name, f"{found}, but {requirement.specifier} is needed", True)
    untested = ", a pre-release, with which nothing here is tested"
    return Finding(requirement.name, found + (untested if Version(found).is_prerelease else ""))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> Iterator[Finding]:
    """Cores, threads, memory, and every GPU that torch sees."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    kind = torch.backends.cpu.get_cpu_capability()
    yield Finding(
        "CPU", f"{usable_cores()} cores for this process, {kind}, {memory:.0f} GiB of memory"
    )
    yield Finding("threads", f"torch computes with {torch.get_num_threads()} (threads=N)")
    yield Finding("kernels", f"{native.described()}; kernels=auto, native or library")
    yield Finding("device=auto", Compute.select(Device.auto, Precision.fp32, True).describe())
    if torch.version.cuda and not torch.cuda.is_available():
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"; CUDA_VISIBLE_DEVICES is {hidden!r}" if hidden is not None else ""
        yield Finding("CUDA", f"torch is built for CUDA {torch.version.cuda} and sees no GPU{why}")
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        yield Finding(f"cuda:{i}", f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")


def disc(folder: Path) -> Iterator[Finding]:
    """Space and speed where runs will lie."""
    about = f"disc of {folder.resolve().name or '/'}"
    free = shutil.disk_usage(folder).free
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            begin = time.perf_counter()
            file.write(os.urandom(SAMPLE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            seconds = time.perf_counter() - begin
    except OSError as error:
        yield Finding(about, f"cannot be written: {error.strerror}", True)
        return
    speed = SAMPLE_BYTES / 2**20 / seconds
    yield Finding(about, f"{free / 2**30:.1f} GiB free, writes {speed:.0f} MiB/s")


def self_test() -> Finding:
    """Whether a small search runs here, from its command to its answer."""
    with tempfile.TemporaryDirectory() as name:
        call = [sys.executable, "-m", "darts_gdas", "search", *SELF_TEST, f"run_dir={name}/run"]
        begin = time.perf_counter()
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return Finding("a small search", f"has no end within {PATIENCE} s", True)
        seconds = time.perf_counter() - begin
        if done.returncode == 0 and (Path(name) / "run" / "genotype.json").is_file():
            return Finding("a small search", f"ran in {seconds:.0f} s, start included")
    last = " ".join(done.stderr.strip().splitlines()[-1:])
    return Finding("a small search", f"ended in status {done.returncode}: {last}", True)
