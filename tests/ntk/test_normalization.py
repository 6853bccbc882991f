"""Kernels of networks with batch norms: frozen to the batch's statistics, or in training mode."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from darts_gdas.nets import SuperNet
from darts_gdas.ntk import (
    empirical_nngp,
    empirical_ntk,
    extreme_eigenvalues,
    ntk_vector_product,
    projected_ntk,
)
from darts_gdas.search import ArchParameters, Softmax
from darts_gdas.space import SearchSpace
from tests.ntk.networks import Call, make, settled
from tests.ntk.test_kernel import KINDS, METHODS, by_definition, close, double
from tests.oracles import (
    batch_jacobian_rows,
    kernel_of_kind,
    tangent_kernel,
    with_constant_norms,
)

pytestmark = pytest.mark.usefixtures("seeded")


class Mixed(nn.Module):
    """A supernet under a fixed mixture; its norms are not called as modules."""

    def __init__(self) -> None:
        super().__init__()
        space = SearchSpace.darts(num_nodes=1)
        self.net = SuperNet.build(space, channels=2, layers=3, num_classes=3)
        self.mixture = Softmax()(
            ArchParameters(space), progress=0.0, rng=torch.Generator().manual_seed(0)
        ).detach()
        self.mixture = self.mixture.with_leaves([leaf.double() for leaf in self.mixture.leaves()])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, self.mixture)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["conv1d", "resnet", "darts"])
def test_frozen_norms_are_constants_of_the_batch(network: str, method: str):
    model, x1, x2 = make(network, samples=4)
    constant = with_constant_norms(model, x1)
    for kind in ("sum", "full"):
        found = empirical_ntk(model, x1, x2, kind=kind, method=method, batch_norm="frozen")
        close(found, kernel_of_kind(by_definition(constant, x1, x2), kind))


def test_frozen_norms_need_no_running_statistics():
    model, x, _ = make("resnet", samples=4)
    constant = with_constant_norms(model, x)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    found = empirical_ntk(model.train(), x, kind="full", batch_norm="frozen")
    close(found, by_definition(constant, x))
    assert not any(True for _ in model.buffers())


@pytest.mark.slow
def test_frozen_norms_of_a_supernet_are_constants_of_the_batch():
    """The constants are read off a run in training mode by another way: momentum 1."""
    model, x = settled(Mixed(), (3, 8, 8)), double(3, 3, 8, 8)
    constant = with_constants_of_fused_norms(model, x)
    for kind in ("sum", "full"):
        found = empirical_ntk(model, x, kind=kind, batch_norm="frozen")
        close(found, kernel_of_kind(by_definition(constant, x), kind))


def with_constants_of_fused_norms(model: nn.Module, x: Tensor) -> nn.Module:
    """In evaluation with the batch's biased variances: v = u (n - 1) / n, n = samples * pixels."""
    model.train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    logits = model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
    for name, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            pixels = len(x) * 64 // side_reductions(name, model)
            norm.running_var *= (pixels - 1) / pixels
    close(model(x).detach(), logits.detach())
    return model


def side_reductions(name: str, model: nn.Module) -> int:
    """By what a norm's number of pixels is smaller than the image's."""
    if not name.startswith("net.cells."):
        return 1
    position = int(name.split(".")[2])
    reductions = model.net.layout.reduction_positions
    before = sum(p < position for p in reductions)
    is_input = ".inputs." in name
    return 4 ** (before + (position in reductions and not is_input))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["auto", "loop"])
def test_the_batchs_own_norms_give_the_jacobian_of_the_batch(method: str, kind: str):
    model, x, _ = make("resnet", samples=4)
    found = empirical_ntk(model, x, kind=kind, method=method, batch_norm="batch")
    rows = batch_jacobian_rows(model.train(), x, [*model.parameters()])
    close(found, kernel_of_kind(tangent_kernel(rows, rows), kind))


def test_te_nas_is_reproduced():
    """The published loop: one graph in training mode, `logit[n].backward(ones)` row by row."""
    model, x, _ = make("darts", samples=4)
    found = empirical_ntk(model, x, params="weights", batch_norm="batch")
    rows = []
    logits = model.train()(x)
    for n in range(len(x)):
        model.zero_grad()
        logits[n : n + 1].backward(torch.ones_like(logits[n : n + 1]), retain_graph=True)
        gradients = [p.grad for name, p in model.named_parameters() if "weight" in name]
        rows.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    jacobian = torch.stack(rows)
    close(found, jacobian @ jacobian.T)


@pytest.mark.parametrize("outputs", [1, 4])
def test_outputs_that_squeeze_are_those_that_flatten(outputs: int):
    """Of one sample `squeeze` takes the first axis, too, and of one output the last."""
    conv, x = nn.Conv2d(3, outputs, 3).double(), double(5, 3, 4, 4)
    squeezed, flat = (
        Call(lambda n, x, end=end: end(n.conv(x).tanh().mean((2, 3), keepdim=True)), conv=conv)
        for end in (torch.squeeze, nn.Flatten())
    )
    vector = double(5, outputs)
    for call in (
        *(partial(empirical_ntk, kind=k, method=m) for k in ("full", "sum") for m in METHODS),
        partial(empirical_nngp, kind="full", chunk_size=4),
        lambda net, x: projected_ntk(net, x, projections=2, chunk_size=4).mean,
        lambda net, x: ntk_vector_product(net, x, vector, chunk_size=4),
        lambda net, x: torch.as_tensor(extreme_eigenvalues(net, x, chunk_size=4)),
    ):
        close(call(squeezed, x), call(flat, x))


@pytest.mark.parametrize("training", [True, False])
def test_instance_norms_take_their_own_statistics_in_frozen_mode(training: bool):
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    model, x = net.double().train(training), double(3, 2, 4, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = empirical_ntk(model, x, kind="full", batch_norm="frozen")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert norm.track_running_stats and norm.running_mean is not None
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    close(found, empirical_ntk(model, x, kind="full"))


def test_compiled_networks_run_uncompiled():
    """Code compiled for training keeps no graph, and each size of a batch is compiled anew."""
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(7, 4)
    graphs: list[Any] = []

    def compiler(graph: Any, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, backend=compiler)
    compiled(x).sum().backward()
    for method in ("structured", "loop", "vector_product"):
        found = empirical_ntk(compiled, x, method=method, chunk_size=3)
        assert torch.equal(found, empirical_ntk(net, x, method=method, chunk_size=3))
    compiled(x)
    assert len(graphs) == 1
