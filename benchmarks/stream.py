"""Batches of an image folder from its files, against torchvision's ImageFolder and DataLoader."""

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision import transforms as T

from benchmarks.measure import MEBIBYTE
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.data import BatchStream
from darts_gdas.runtime.folder import ImageFolder, Storage
from darts_gdas.runtime.look import loaded

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", type=Path, help="holds train/<class>/* and test/<class>/*")
    parser.add_argument("--size", type=int, default=160, help="pixels that the network sees")
    parser.add_argument("--padding", type=int, default=4, help="of the random crops")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--images", type=int, default=6400, help="per measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the process that trains")


def run(arguments: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        ways: dict[str, Callable[[argparse.Namespace, Path], Iterator[Tensor]]] = {
            "torchvision": torchvision_batches,
            "stream": stream_batches,
            "stream, measured statistics": measured_batches,
            "stream, first pass into a cache": cached_batches,
            "stream, out of the cache": cached_batches,
        }
        found: dict[str, list[list[float]]] = {name: [] for name in ways}
        for _ in range(arguments.repeats):
            shutil.rmtree(folder)
            for name, way in ways.items():
                found[name].append(_measured(way, arguments, folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("| way | first batch, s | ratio | images per second | ratio | peak above its own, MiB |")
    print("|---|---|---|---|---|---|")
    base: list[float] = []
    for name, rows in found.items():
        first, rate = (statistics.median(row[i] for row in rows) for i in (0, 1))
        peak = max(row[2] for row in rows) / MEBIBYTE
        base = base or [first, rate]
        ratios = first / base[0], rate / base[1]
        row = f"{first:.2f} | {ratios[0]:.2f} | {rate:.0f} | {ratios[1]:.2f} | {peak:.0f}"
        print(f"| {name} | {row} |")


def torchvision_batches(arguments: argparse.Namespace, _: Path) -> Iterator[Tensor]:
    """The usual way; of the training images alone."""
    changes = T.Compose(
        [
            T.Resize(arguments.size, T.InterpolationMode.BICUBIC),
            T.CenterCrop(arguments.size),
            T.RandomCrop(arguments.size, padding=arguments.padding),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )
    images = datasets.ImageFolder(str(arguments.root / "train"), changes)
    loader = DataLoader(
        images,
        arguments.batch,
        shuffle=True,
        num_workers=arguments.workers,
        drop_last=True,
        multiprocessing_context="fork",  # this process was spawned, and would spawn
    )
    while True:
        for pixels, _ in loader:
            yield pixels


def stream_batches(arguments: argparse.Namespace, _: Path) -> Iterator[Tensor]:
    """Ours, with the same statistics given."""
    train, _test = _folder(arguments, None).load()
    return _batches(arguments, train, Normalize(torch.tensor(MEAN), torch.tensor(STD)))


def measured_batches(arguments: argparse.Namespace, _: Path) -> Iterator[Tensor]:
    """As a run begins: it looks at samples first, and measures the statistics."""
    train, _test = loaded(_folder(arguments, None))
    return _batches(arguments, train, Normalize(*train.statistics()))


def cached_batches(arguments: argparse.Namespace, folder: Path) -> Iterator[Tensor]:
    """What is decoded is kept, and taken from there the next time."""
    train, _test = _folder(arguments, str(folder)).load()
    return _batches(arguments, train, Normalize(torch.tensor(MEAN), torch.tensor(STD)))


def _folder(arguments: argparse.Namespace, cache: str | None) -> ImageFolder:
    return ImageFolder(
        root=str(arguments.root),
        image_size=arguments.size,
        augment=Augment(crop_padding=arguments.padding, flip=True),
        storage=Storage.stream,
        workers=arguments.workers,
        cache=cache,
    )


def _batches(arguments: argparse.Namespace, train, normalize: Normalize) -> Iterator[Tensor]:
    augment = Augment(crop_padding=arguments.padding, flip=True)
    size = arguments.batch
    stream = BatchStream(
        train, batch_size=size, augment=augment, normalize=normalize, seed=0, name="train"
    )
    step = 0
    while True:
        yield stream.batch(step).images
        step += 1


def _measured(
    way: Callable[[argparse.Namespace, Path], Iterator[Tensor]],
    arguments: argparse.Namespace,
    folder: Path,
) -> list[float]:
    """Seconds to the first batch, images per second after it, bytes at the peak.

    In a process of its own; bytes are those of it and its workers, each page once (PSS), above
    what it takes when all is imported.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(way, arguments, folder, there))
    process.start()
    here.recv()
    own = peak = _bytes(process.pid)
    here.send(None)
    while not here.poll(0.2):
        peak = max(peak, _bytes(process.pid))
    seconds = here.recv()
    process.join()
    return [*seconds, peak - own]


def _work(
    way: Callable[[argparse.Namespace, Path], Iterator[Tensor]],
    arguments: argparse.Namespace,
    folder: Path,
    pipe: Connection,
) -> None:
    torch.set_num_threads(arguments.threads)
    pipe.send(None)
    pipe.recv()
    start = time.perf_counter()
    batches = way(arguments, folder)
    next(batches)
    first = time.perf_counter()
    count = arguments.images // arguments.batch
    for _ in range(count):
        next(batches)
    pipe.send([first - start, count * arguments.batch / (time.perf_counter() - first)])


def _bytes(pid: int | None) -> int:
    """Memory of a process and all below it, shared pages in equal parts."""
    found = 0
    with suppress(OSError):  # it has just ended
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        found += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += sum(_bytes(int(child)) for child in children)
    return found
