"""How well the two second-order terms predict what they stand for, on digits."""

import argparse
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from darts_gdas.nets import Mixture, SuperNet
from darts_gdas.runtime.datasets import Digits
from darts_gdas.search import ArchParameters, Bilevel, SGDStep, Softmax, Unrolled, UnrolledExact
from darts_gdas.search.hypergradient import Weights
from darts_gdas.space import SearchSpace

STEPS = (1e-1, 1e-2, 1e-3, 1e-4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--directions", type=int, default=12)
    parser.add_argument("--trained", type=int, nargs="+", default=[0, 50])
    parser.add_argument("--lr", type=float, default=0.025)


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    print("The truth: how the validation loss after one weight step changes when the mixture of")
    print("that step moves by +-delta along random unit directions, in float64. Per term: cosine")
    print("with the truth, and its relative error, over the directions.\n")
    print("| steps trained | delta | finite differences: cosine | error |", end="")
    print(" exact product: cosine | error |\n|---|---|---|---|---|---|")
    for trained in arguments.trained:
        problem, mixture = _problem(arguments, trained)
        rows = _compare(problem, mixture, arguments.directions)
        for delta, values in rows.items():
            print(f"| {trained} | {delta:g} | " + " | ".join(f"{v:.3f}" for v in values) + " |")


def _problem(arguments: argparse.Namespace, trained: int) -> tuple[Bilevel, Mixture]:
    torch.manual_seed(0)
    space = SearchSpace.named("darts")
    net = SuperNet.build(space, channels=arguments.channels, layers=3, in_channels=1).double()
    images, _ = Digits().load()
    pixels = images.sample.images.double() / 255 - 0.5
    batches = torch.randperm(len(pixels)).split(arguments.batch)
    mixture = Softmax()(ArchParameters(space).double()).detach()
    optimizer = torch.optim.SGD(net.parameters(), lr=arguments.lr, momentum=0.9)
    for step in range(trained):
        chosen = batches[2 + step % (len(batches) - 3)]
        optimizer.zero_grad()
        F.cross_entropy(net(pixels[chosen], mixture), images.labels[chosen]).backward()
        optimizer.step()

    def loss_on(chosen: Tensor):
        def loss(weights: Weights, mixture: Mixture) -> Tensor:
            logits = functional_call(net, weights, (pixels[chosen], mixture))
            return F.cross_entropy(logits, images.labels[chosen])

        return loss

    weights: Weights = {name: p.detach() for name, p in net.named_parameters()}
    step = SGDStep(lr=arguments.lr)
    losses = loss_on(batches[0]), loss_on(batches[1])
    return Bilevel(*losses, weights, mixture, lambda: step), mixture


def _compare(problem: Bilevel, mixture: Mixture, directions: int) -> dict[float, list[float]]:
    def stepped(moved: Mixture) -> Weights:
        leaves = {name: w.detach().requires_grad_() for name, w in problem.weights.items()}
        loss = problem.train_loss(leaves, moved)
        found = torch.autograd.grad(loss, [*leaves.values()])
        return problem.inner_step()(problem.weights, dict(zip(leaves, found, strict=True)))

    leaves = mixture.require_grad()
    direct = torch.autograd.grad(problem.validation_loss(stepped(mixture), leaves), leaves.leaves())
    terms = [
        [g - d for g, d in zip(method(problem).leaves(), direct, strict=True)]
        for method in (Unrolled(), UnrolledExact())
    ]
    units = [_unit(mixture) for _ in range(directions)]
    predicted = [torch.stack([_inner(term, unit) for unit in units]) for term in terms]
    rows = {}
    for delta in STEPS:
        truth = []
        for unit in units:
            ends = [
                problem.validation_loss(stepped(_moved(mixture, unit, s * delta)), mixture)
                for s in (1, -1)
            ]
            truth.append((ends[0] - ends[1]) / (2 * delta))
        actual = torch.stack(truth).detach()
        rows[delta] = [
            float(value)
            for p in predicted
            for value in (
                F.cosine_similarity(p, actual, dim=0),
                (p - actual).norm() / actual.norm(),
            )
        ]
    return rows


def _unit(mixture: Mixture) -> list[Tensor]:
    values = [torch.randn_like(leaf) for leaf in mixture.leaves()]
    norm = torch.cat([v.flatten() for v in values]).norm()
    return [v / norm for v in values]


def _inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()


def _moved(mixture: Mixture, unit: Sequence[Tensor], step: float) -> Mixture:
    leaves = zip(mixture.leaves(), unit, strict=True)
    return mixture.with_leaves([leaf + step * direction for leaf, direction in leaves])
