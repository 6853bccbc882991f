"""The same kernels and predictions by neural-tangents, which lives in an environment of its own.

NEURAL_TANGENTS names a Python that has it (0.6.5 wants older versions of what it stands on):

    python -m venv ENV && ENV/bin/pip install neural-tangents==0.6.5 jax==0.4.30 jaxlib==0.4.30 \
        tf2jax==0.3.6 'numpy<2' 'scipy<1.14'
    NEURAL_TANGENTS=ENV/bin/python pytest -m slow tests/ntk/test_neural_tangents.py -s
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from darts_gdas.ntk import (
    Conv,
    Dense,
    Flatten,
    GlobalAverage,
    Nonlinearity,
    WideKernels,
    gradient_descent,
    infinite_kernels,
    predict_ensemble,
)

PYTHON = os.environ.get("NEURAL_TANGENTS", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="NEURAL_TANGENTS names no Python"),
]

THEIRS = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import neural_tangents as nt
from neural_tangents import stax

given, out = np.load(sys.argv[1]), {}
x, xs, y, images = (jnp.array(given[name]) for name in ("x", "xs", "y", "images"))
acts = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}
dense = lambda w, b: stax.Dense(512, W_std=w**0.5, b_std=b**0.5)
conv = lambda w, b, s: stax.Conv(512, (3, 3), (s, s), "SAME", W_std=w**0.5, b_std=b**0.5)
for name, act in acts.items():
    deep = stax.serial(dense(1.7, 0.1), act(), dense(1.7, 0.1), act(), dense(1.7, 0.1))[2]
    for which in ("nngp", "ntk"):
        out[f"dense {name} {which}"] = deep(x, xs, which)
        for end, pool in (("flat", stax.Flatten()), ("pool", stax.GlobalAvgPool())):
            convs = conv(1.3, 0.1, 1), act(), conv(1.3, 0.1, 1), act()
            net = stax.serial(*convs, pool, dense(1.0, 0.0))[2]
            out[f"conv {name} {end} {which}"] = net(images, None, which)
kernel = stax.serial(dense(1.7, 0.1), stax.Erf(), dense(1.7, 0.1))[2]
for get in ("nngp", "ntk"):
    for t, label in ((None, "inf"), (30.0, "30")):
        predict = nt.predict.gradient_descent_mse_ensemble(
            kernel, x, y, learning_rate=0.5, diag_reg=0.05, diag_reg_absolute_scale=True)
        found = predict(t, xs, get, compute_cov=True)
        out[f"mean {get} {label}"], out[f"cov {get} {label}"] = found.mean, found.covariance
k, kt = kernel(x, None, "ntk"), kernel(xs, x, "ntk")
hot = jax.nn.one_hot(jnp.argmax(y, 1), 2)
loss = lambda f, y: -jnp.mean(jnp.sum(jax.nn.log_softmax(f) * hot, 1))
for m in (None, 0.9):
    predict = nt.predict.gradient_descent(loss, k, y, learning_rate=0.3, momentum=m)
    train, test = predict(12.0, y * 0.1, xs[:, :2] * 0.1, kt)
    out[f"descent {m} train"], out[f"descent {m} test"] = train, test
np.savez(sys.argv[2], **{name: np.array(value) for name, value in out.items()})
"""


def ours(x: Tensor, xs: Tensor, y: Tensor, images: Tensor) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}

    def add(name: str, found: WideKernels) -> None:
        out[f"{name} nngp"], out[f"{name} ntk"] = found.nngp, found.ntk

    layer, conv = Dense(1.7, 0.1), Conv(3, 1, 1, 1.3, 0.1)
    for name in ("relu", "erf", "gelu"):
        phi = Nonlinearity(name)
        add(f"dense {name}", infinite_kernels([layer, phi, layer, phi, layer], x, xs))
        for label, end in (("flat", Flatten()), ("pool", GlobalAverage())):
            net = [conv, phi, conv, phi, end, Dense()]
            add(f"conv {name} {label}", infinite_kernels(net, images.movedim(3, 1)))
    net = [layer, Nonlinearity("erf"), layer]
    train, cross, test = (infinite_kernels(net, *pair) for pair in ((x,), (xs, x), (xs,)))
    tangents = {"ntk_train_train": train.ntk, "ntk_test_train": cross.ntk}
    for t, label in ((None, "inf"), (30.0, "30")):
        common = {"t": t, "learning_rate": 0.5, "ridge": 0.05}
        kernels = (train.nngp, cross.nngp, test.nngp)
        for get, options in (("nngp", {"noise": 0.05}), ("ntk", tangents)):
            found = predict_ensemble(y, *kernels, **common | options)
            out[f"mean {get} {label}"] = found.mean
            out[f"cov {get} {label}"] = found.covariance
    for m in (None, 0.9):
        (found,) = gradient_descent(
            lambda f, y: F.cross_entropy(f, y.argmax(1)),
            train.ntk,
            y,
            cross.ntk,
            f0_train=0.1 * y,
            f0_test=0.1 * xs[:, :2],
            times=[12.0],
            learning_rate=0.3,
            momentum=m or 0.0,
        )
        assert found.test is not None
        out[f"descent {m} train"], out[f"descent {m} test"] = found.train, found.test
    return out


def test_all_arrays_agree(tmp_path: Path):
    """To 1e-9 of the largest entry; what an adaptive solver made, to 1e-5."""
    rng = np.random.default_rng(0)
    shapes = {"x": (6, 5), "xs": (4, 5), "y": (6, 2), "images": (3, 4, 5, 2)}
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "given.npz", **given)
    (tmp_path / "theirs.py").write_text(THEIRS)
    command = [PYTHON, "-W", "ignore", "theirs.py", "given.npz", "found.npz"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = ours(**{name: torch.from_numpy(value) for name, value in given.items()})
    with np.load(tmp_path / "found.npz") as theirs:
        assert sorted(theirs.files) == sorted(found)
        for name, value in found.items():
            scale = float(np.abs(theirs[name]).max())
            error = float(np.abs(value.numpy() - theirs[name]).max()) / scale
            print(f"{name:24} {error:.1e}")
            assert error < (1e-5 if name.startswith("descent") else 1e-9), name
