import logging
import os
import random
import warnings

import numpy as np
import pytest
import torch

from darts_gdas.runtime.process import left_as_found


def test_what_is_changed_inside_is_as_before_also_after_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("KEPT", "a")
    monkeypatch.delenv("ADDED", raising=False)
    folder, filters = os.getcwd(), list(warnings.filters)
    root, threads = logging.getLogger(), torch.get_num_threads()
    level, handlers = root.level, list(root.handlers)
    torch.manual_seed(7)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with pytest.raises(ZeroDivisionError), left_as_found():
        os.environ.update(KEPT="b", ADDED="c")
        os.chdir(tmp_path)
        warnings.simplefilter("ignore")
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
        logging.getLogger("darts_gdas").setLevel(logging.INFO)
        torch.manual_seed(8)
        torch.set_num_threads(threads + 1)
        torch.backends.cudnn.allow_tf32 ^= True
        draws = torch.rand(1), np.random.random(), random.random()
        raise ZeroDivisionError
    assert os.environ["KEPT"] == "a" and "ADDED" not in os.environ and os.getcwd() == folder
    assert warnings.filters == filters and (root.level, root.handlers) == (level, handlers)
    assert logging.getLogger("darts_gdas").level == logging.NOTSET
    assert torch.get_num_threads() == threads and torch.backends.cudnn.allow_tf32
    assert torch.equal(torch.get_rng_state(), states[0]) and torch.initial_seed() == 7
    assert (np.random.get_state()[1] == states[1]).all() and random.getstate() == states[2]
    assert draws[0] != torch.rand(1) and draws[1:] == (np.random.random(), random.random())
