"""One trained network in every format: size, latency, difference of logits, test accuracy."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import stopwatch
from darts_gdas.cli.export import CALIBRATION
from darts_gdas.cli.run_data import data_of, some_of
from darts_gdas.nets import count_parameters
from darts_gdas.portable.bundle import Format, make, put
from darts_gdas.portable.fresh import LOADERS
from darts_gdas.portable.graphs import PixelNet
from darts_gdas.portable.hub import weights_of
from darts_gdas.portable.runtimes import MOST_IMAGES
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.tasks.model import TrainedModel, load_model

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "executorch")
Run = Callable[[Tensor], Tensor]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run = Path("outputs/benchmark_formats")
    parser.add_argument("--run", type=Path, default=run, help="a retraining; trained if not there")
    parser.add_argument("--settings", nargs="*", default=["dataset=digits", "epochs=20"])
    parser.add_argument("--genotype", default="DARTS_V2")
    parser.add_argument("--repeats", type=int, default=200)


def run(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.run
    if not (folder / "result.json").exists():
        settings = [*arguments.settings, f"genotype={arguments.genotype}", f"run_dir={folder}"]
        command = [sys.executable, str(ROOT / "train.py"), *settings, "resume=auto"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core for every runtime
    torch.set_num_threads(1)
    model = load_model(folder)
    print_head(model)
    with torch.no_grad(), tempfile.TemporaryDirectory() as name:
        runs, sizes = loaded(model, folder, Path(name))
        print_rows(folder, runs, sizes, arguments.repeats)


def print_head(model: TrainedModel) -> None:
    here = [f"{name} {found}" for name in PACKAGES if (found := version(name))]
    parameters = count_parameters(model.net)
    machine = Compute.select(Device.cpu, Precision.fp32, False).describe()
    shape = " x ".join(map(str, (model.net.layout.in_channels, *model.image_size)))
    print(f"{date.today()}, one core of {machine}; {', '.join(here)}.")
    print(f"{parameters:,} parameters, images {shape}.\n")
    print(
        f"| format | kB | ms, 1 image | ms, {MOST_IMAGES} images | largest difference | accuracy |"
    )
    print("|---|---|---|---|---|---|", flush=True)


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def loaded(model: TrainedModel, run: Path, folder: Path) -> tuple[dict[str, Run], dict[str, int]]:
    """The network in this process, and every format that can be written here; bytes of each."""
    net = PixelNet(model)
    runs: dict[str, Run] = {"in PyTorch, as trained": net}
    sizes = {"in PyTorch, as trained": sum(x.nbytes for x in weights_of(model.net).values())}
    for form in Format:
        try:
            form.check_packages()
        except ValueError as error:
            print(f"| {form.value} | {error} | | | | |", flush=True)
            continue
        images = some_of(data_of(run)[0], CALIBRATION)[0] if form is Format.onnx_int8 else None
        files = make(model, form, images=images)
        put(folder / form.value, files)
        runs[form.value] = LOADERS[form.value](folder / form.value)
        sizes[form.value] = sum(map(len, files.values()))
    return runs, sizes


def fastest(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest call: on a shared machine the others tell of the neighbours."""
    return min(stopwatch(call, torch.device("cpu")) for _ in range(repeats))


def print_rows(folder: Path, runs: dict[str, Run], sizes: dict[str, int], repeats: int) -> None:
    _, test = data_of(folder)
    pixels, labels = test.request(torch.arange(len(test)))()
    parts = pixels.split(MOST_IMAGES)
    logits = {name: torch.cat([run(part) for part in parts]) for name, run in runs.items()}
    expected = next(iter(logits.values()))
    times = [
        {name: fastest(lambda: run(batch), repeats) for name, run in runs.items()}  # noqa: B023
        for batch in (parts[0][:1].contiguous(), parts[0])
    ]
    for name, found in logits.items():
        one, many = (1e3 * each[name] for each in times)
        accuracy = 100 * float((found.argmax(1) == labels).float().mean())
        difference = float((found - expected).abs().max())
        print(
            f"| {name} | {sizes[name] / 1e3:,.0f} | {one:.2f} | {many:.2f} | {difference:.2g} "
            f"| {accuracy:.2f} % |"
        )
    print(f"\nLargest logit: {float(expected.abs().max()):.1f}; {len(labels)} test images.")
