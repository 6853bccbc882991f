"""Check every annotated shape and dtype of the mathematics while the tests run."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator

import pytest
import torch
from jaxtyping import install_import_hook

from tests.checked import begin_test, check_first_calls

check_first_calls()
install_import_hook(
    ["darts_gdas.nets", "darts_gdas.ntk", "darts_gdas.scoring", "darts_gdas.search"],
    "beartype.beartype",
)

# Tensors are small here: a second thread gains nothing and waits long where the machine is busy.
torch.set_num_threads(1)

# Commands that are offered say "python" where that is this interpreter.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])

# Full collections, half a second each, took a tenth of the programs that run in this process.
gc.set_threshold(700, 10, 300)


def pytest_collection_finish() -> None:
    """What is there before the first test is nothing to be collected."""
    gc.collect()
    gc.freeze()


# What runs in the background ignores Ctrl-C, and so would the programs that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_checks() -> None:
    """Shapes and types are checked in every test."""
    begin_test()


@pytest.fixture(autouse=True)
def _own_kernels() -> Iterator[None]:
    """A program that runs in this process chooses who computes; not for the next test."""
    from darts_gdas import native

    before = native.chosen()
    yield
    native.choose(before)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A program that runs in this process sets the level of what it says; not for the next test."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
