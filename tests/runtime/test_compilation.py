"""Compiled functions give the function's results, whether compiling works or not."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from darts_gdas.runtime.compilation import Compilation, Compiled

ROOT = Path(__file__).parents[2]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("darts_gdas")]


def reads_a_value(x: Tensor) -> Tensor:
    """What cannot be traced as a whole."""
    return x if x.sum() > 0 else -x


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(caplog: pytest.LogCaptureFixture):
    compiled, x = Compiled(reads_a_value, Compilation.inductor), torch.rand(3)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_close(compiled(x), reads_a_value(x), rtol=0, atol=0)
    (message,) = warnings(caplog)
    assert message.startswith("compile=inductor failed, going on without it: ")
    assert "\n" not in message


def test_too_many_variants_end_the_compiling(caplog: pytest.LogCaptureFixture, count_compiles):
    def shifted(x: Tensor, by: int) -> Tensor:
        return x + by

    compiled, x = Compiled(shifted, Compilation.inductor, max_variants=2), torch.rand(3)
    with caplog.at_level(logging.WARNING):
        for by in range(4):
            assert_close(compiled(x, by), x + by)
    assert len(warnings(caplog)) == 1
    assert len(count_compiles) == 2


def test_errors_of_the_function_itself_pass_through(count_compiles):
    def refuses(x: Tensor) -> Tensor:
        raise ValueError("bad input")

    with pytest.raises(ValueError, match="bad input"):
        Compiled(refuses, Compilation.inductor)(torch.rand(3))


def test_values_gradients_and_buffers_are_the_functions(count_compiles):
    torch.manual_seed(0)
    plain, fast = (nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).double() for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    x = torch.rand(2, 2, 4, 4, dtype=torch.float64)
    compiled = Compiled(lambda net, x: net(x).relu(), Compilation.inductor)
    y, expected = compiled(fast, x), plain(x).relu()
    assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for p, q in zip(fast.parameters(), plain.parameters(), strict=True):
        assert_close(p.grad, q.grad)
    for p, q in zip(fast.buffers(), plain.buffers(), strict=True):
        assert_close(p, q)
    assert len(count_compiles) == 1


@pytest.fixture
def count_compiles(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Trace for real, but run the traced graphs without a compiler; one entry per graph."""
    graphs: list[object] = []
    compile_ = torch.compile

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda f, **kw: compile_(f, backend=backend, **kw | {"mode": None})
    )
    return graphs


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_inductor_itself(caplog: pytest.LogCaptureFixture):
    x = torch.rand(4, 5)
    compiled = Compiled(lambda x: x.sin().exp().sum(1), Compilation.inductor)
    assert_close(compiled(x), x.sin().exp().sum(1))
    assert not warnings(caplog)


TRACE = """
import sys, torch
from darts_gdas.nets import DerivedNet, SuperNet
from darts_gdas.search import ArchParameters, Softmax
from darts_gdas.space import Genotype, SearchSpace

torch.manual_seed(0)
images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
if sys.argv[1] == "supernet":
    space = SearchSpace.darts(num_nodes=1)
    net = SuperNet.build(space, channels=2, layers=3, num_classes=2).double()
    arguments = images, Softmax()(ArchParameters(space).double(), progress=0.0, rng=None).detach()
else:
    genotype = Genotype.load("DARTS_V2")
    net = DerivedNet.build(genotype, channels=2, layers=3, num_classes=2, auxiliary=False).double()
    net.drop_path_probability, arguments = 0.5, (images,)
weights, state = list(net.parameters()), {k: v.clone() for k, v in net.state_dict().items()}

def passes():
    net.load_state_dict(state)
    torch.manual_seed(1)
    logits = net(*arguments)
    return logits, *torch.autograd.grad(logits.square().sum(), weights), *net.buffers()

expected = [t.clone() for t in passes()]
net.run_cell = torch.compile(net.run_cell, fullgraph=True, dynamic=False, backend="aot_eager")
for actual, other in zip(passes(), expected, strict=True):
    torch.testing.assert_close(actual, other, rtol=1e-9, atol=1e-11)
net.load_state_dict(state)
torch.manual_seed(1)
with torch.no_grad():  # statistics taken anew
    torch.testing.assert_close(net(*arguments), expected[0], rtol=1e-9, atol=1e-11)
"""


@pytest.mark.slow
@pytest.mark.parametrize("network", ["supernet", "derived"])
def test_cells_trace_in_one_graph_forward_and_backward(network: str):
    """In a process of its own: shape checks of the test session would be traced too."""
    command = [sys.executable, "-c", TRACE, network]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-2000:]
