"""Processes that read pictures: asked in any order, ended with a word if one of them dies."""

import contextlib
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import active_children, get_all_start_methods, get_context
from multiprocessing.queues import SimpleQueue
from multiprocessing.util import Finalize
from typing import TypeVar, final

import numpy as np
from PIL import Image

from darts_gdas.runtime.compute import own_cores
from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.picture_cache import PictureCache
from darts_gdas.runtime.pictures import BROKEN, Preparation
from darts_gdas.runtime.shared import Memory, Place

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 600.0
"""Seconds after which a part of a batch that has not come is given up."""

DEFAULT_WORKERS = 16
"""Processes that decode for a rank on however many cores, unless more are asked for."""

KILLED = (
    "a process that decodes images has died: killed from outside, as by a machine without memory"
)
HANGS = f"a process that decodes images gave no answer within {PATIENCE:g} seconds"
STARVED = "a process that decodes images has no memory left; pass fewer, or a smaller batch_size"
"""What is said of them."""

OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that mean the run; where all of its processes get them, those that decode go on."""


def default_workers() -> int:
    """This machine's cores that the process may use, shared among the ranks on it."""
    return min(own_cores(), DEFAULT_WORKERS)


@dataclass(frozen=True, slots=True)
class Recipe:
    """From a file to bytes, in whichever process.

    Attributes:
        prepare: Decodes.
        cache: Where decoded bytes are kept; None keeps none.
    """

    prepare: Preparation
    cache: PictureCache | None

    def __call__(self, paths: Sequence[str], rows: Sequence[int]) -> np.ndarray:
        """Bytes [pictures, channels, height, width].

        Args:
            paths: The files.
            rows: Their places in the cache.

        Raises:
            DataFault: Naming the file that cannot be read.
        """
        prepare = self.prepare
        shape = prepare.channels, prepare.height, prepare.width
        pixels = np.empty((len(paths), *shape), dtype=np.uint8)
        with self.cache.opened() if self.cache else contextlib.nullcontext() as kept:
            for out, path, row in zip(pixels, paths, rows, strict=True):
                try:
                    if kept is None or not kept.read(path, row, out):
                        out[...] = prepare(path)
                        if kept is not None:
                            kept.write(path, row, out)
                except BROKEN as error:
                    raise DataFault(
                        f"dataset.root holds a file that cannot be read, {path!r} ({error})"
                    ) from None
        return pixels


@final
class Decoders:
    """Processes that read pictures for all sets of a run, in the order in which they are asked.

    They begin with the first request, and end with this process, however it ends.

    Args:
        workers: How many; 0 reads in this process, when the pixels are needed.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        method = "fork" if "fork" in get_all_start_methods() else "spawn"
        self._context = get_context(method)
        self._pool: ProcessPoolExecutor | None = None
        self._pids: SimpleQueue[int]  # of the pool

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """The results of independent work that is no picture's pixels, in order.

        Args:
            work: A function that another process can import.
            items: What it is given, one after another.

        Raises:
            DataFault: If a process has died, or has no memory.
            Exception: What else the work raises.
        """
        if not self.workers:
            return _each(work, items)
        size = max(1, len(items) // (4 * self.workers))
        chunks = [items[i : i + size] for i in range(0, len(items), size)]
        try:
            parts = [self._begun().submit(_each, work, chunk) for chunk in chunks]
            # Not to the first error: what is cancelled and then killed raises in a thread.
            wait(parts)
            return [result for part in parts for result in part.result()]
        except BrokenProcessPool:
            raise self.given_up(KILLED) from None
        except MemoryError:
            raise self.given_up(STARVED) from None

    def request(self, recipe: Recipe, paths: Sequence[str], rows: Sequence[int]) -> "Decoding":
        """Ask for pictures: every process takes a part, so that a batch comes early.

        Args:
            recipe: How they are decoded.
            paths: The files.
            rows: Their places in the cache.
        """
        if not self.workers or not paths:
            return Decoding(self, recipe, paths, rows, None, [])
        count = min(self.workers, len(paths))
        cuts = [round(i * len(paths) / count) for i in range(count + 1)]
        spans = [slice(*cut) for cut in pairwise(cuts)]
        prepare = recipe.prepare
        shape = len(paths), prepare.channels, prepare.height, prepare.width
        memory = Memory(shape)
        try:
            parts = [
                self._begun().submit(_decode, recipe, paths[s], rows[s], memory.place(s.start))
                for s in spans
            ]
        except BrokenProcessPool:
            raise self.given_up(KILLED) from None
        for part in parts:  # a place is not given to others before all have written
            part.add_done_callback(memory.hold)
        return Decoding(self, recipe, paths, rows, memory, parts)

    def _begun(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = self._started()
        return self._pool

    def _started(self) -> ProcessPoolExecutor:
        forks, others = self._context.get_start_method() == "fork", active_children()
        self._pids = self._context.SimpleQueue()
        pool = ProcessPoolExecutor(
            self.workers,
            mp_context=self._context,
            initializer=_begin,
            initargs=(os.getpid(), None if forks else self._pids),
        )
        with _blocked(), warnings.catch_warnings():
            # From 3.12 on Python warns that a lock of another thread may stay locked in a fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            pool.submit(int)  # all processes begin
        for process in active_children() if forks else ():
            if process not in others and process.pid is not None:
                self._pids.put(process.pid)  # also of one that has not yet begun when it is to end
        # Before the pool's own queue ends, where this process is a child of multiprocessing.
        Finalize(self, _end, args=(pool, self._pids), exitpriority=100)
        return pool

    def end(self) -> None:
        """End all processes, also one that hangs."""
        if self._pool is not None:
            _end(self._pool, self._pids)

    @contextlib.contextmanager
    def ended_by_errors(self) -> Iterator[None]:
        """Around work without which nobody needs them: they would live as long as its traceback."""
        try:
            yield
        except BaseException:
            self.end()
            raise

    def given_up(self, why: str) -> DataFault:
        """End them; returns the error to raise."""
        self.end()
        return DataFault(f"{why} (dataset.workers={self.workers})")


@final
@dataclass(frozen=True, slots=True)
class Decoding:
    """Pictures that were asked for.

    Attributes:
        decoders: Whom.
        recipe: How they are decoded.
        paths: The files.
        rows: Their places in the cache.
        memory: Where their pixels come; None where this process does the work.
        parts: Done when those are there.
    """

    decoders: Decoders
    recipe: Recipe
    paths: Sequence[str]
    rows: Sequence[int]
    memory: Memory | None
    parts: list[Future[None]]

    def wait(self) -> np.ndarray:
        """Bytes [pictures, channels, height, width].

        Raises:
            DataFault: If a file cannot be read, or a process has died, hangs or has no memory.
        """
        if self.memory is None:
            return self.recipe(self.paths, self.rows)
        try:
            for part in self.parts:
                part.result(PATIENCE)
            return self.memory.read()
        except DataFault as error:
            raise DataFault(str(error)) from None  # without the other process's traceback
        except BrokenProcessPool:
            raise self.decoders.given_up(KILLED) from None
        except TimeoutError:
            raise self.decoders.given_up(HANGS) from None
        except MemoryError:
            raise self.decoders.given_up(STARVED) from None


def _each(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [work(item) for item in items]


def _decode(recipe: Recipe, paths: Sequence[str], rows: Sequence[int], place: Place) -> None:
    """What a process does for a part of a request."""
    place.write(recipe(paths, rows))


def _end(pool: ProcessPoolExecutor, pids: "SimpleQueue[int]") -> None:
    """End processes at once, also such as hang; what they do can be done again."""
    children = {process.pid: process for process in active_children()}
    while not pids.empty():
        if (found := children.get(pids.get())) is not None:
            found.kill()
    pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """Hold back signals inside; a process that is forked there begins with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OUTSIDE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(parent: int, pids: "SimpleQueue[int] | None") -> None:
    """In a new process: heed no signal but the parent's, and outlive it by a second at most."""
    Image.MAX_IMAGE_PIXELS = None  # `Preparation` looks at the size
    gc.freeze()  # so that no collection writes to the memory that is shared with the parent
    signal.pthread_sigmask(signal.SIG_BLOCK, OUTSIDE)
    if pids is not None:
        pids.put(os.getpid())
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        if sys.platform == "linux":
            found = signal.sigtimedwait(OUTSIDE, 1.0)
            if found is not None and found.si_pid == parent and found.si_signo == signal.SIGTERM:
                break
        else:
            threading.Event().wait(1.0)
    os._exit(1)
