"""The process of somebody else, in which a run takes place: what it changes there is put back."""

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import torch

import darts_gdas.native as native


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Around a run in a process that goes on: all that runs share with others is as before.

    That is the global random generators of torch, NumPy and Python, the environment, the current
    folder, filters of warnings, handlers and levels of loggers, torch's threads and TF32,
    and who computes on a CPU.
    """
    with contextlib.ExitStack() as after:
        after.enter_context(warnings.catch_warnings())
        after.callback(_set_environment, dict(os.environ))
        after.callback(os.chdir, os.getcwd())
        after.callback(random.setstate, random.getstate())
        after.callback(np.random.set_state, np.random.get_state())
        after.callback(_set_generators, torch.get_rng_state(), _cuda_states())
        after.callback(torch.set_num_threads, torch.get_num_threads())
        after.callback(native.choose, native.chosen())
        cudnn = torch.backends.cudnn
        after.callback(setattr, cudnn, "allow_tf32", cudnn.allow_tf32)
        known = logging.root.manager.loggerDict.values()
        ours = logging.getLogger("darts_gdas")
        for logger in {logging.root, ours, *(x for x in known if isinstance(x, logging.Logger))}:
            after.callback(_set_logger, logger, logger.level, list(logger.handlers))
        yield


def _set_environment(values: Mapping[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _cuda_states() -> list[torch.Tensor]:
    """None before CUDA is used: asking would begin to use it."""
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


def _set_generators(cpu: torch.Tensor, cuda: list[torch.Tensor]) -> None:
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
    else:  # of generators that were not there yet: as they would have begun
        torch.cuda.manual_seed_all(torch.initial_seed())


def _set_logger(logger: logging.Logger, level: int, handlers: list[logging.Handler]) -> None:
    logger.setLevel(level)
    logger.handlers[:] = handlers
