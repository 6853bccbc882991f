"""Penalties and perturbations in a search: what they reach, and what they leave alone."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.testing import assert_close

from darts_gdas.nets import (
    DerivedNet,
    Layout,
    Quantity,
    build_cost_table,
    count_multiply_adds,
    count_parameters,
)
from darts_gdas.runtime.data import Batch
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.search import (
    AdversarialPerturbation,
    BetaDecay,
    Concrete,
    Cost,
    Dirichlet,
    DirichletKL,
    Linear,
    RandomPerturbation,
    Sigmoid,
    Softmax,
    Unrolled,
    ZeroOne,
)
from darts_gdas.tasks.method import Method, Order
from darts_gdas.tasks.stage import StageSearch
from tests.tasks.test_stage import DARTS, SPACE, at, flat, task_of


def cost() -> Cost:
    """Nearly as small as can be, so that it presses."""
    layout = Layout(2, 3, 3, 1)
    table = build_cost_table(SPACE, layout, (8, 8), Quantity.parameters, torch.device("cpu"))
    return Cost(table.smallest + 1, weight=2.0, table=table)


def adversarial() -> AdversarialPerturbation:
    return AdversarialPerturbation(Linear(0.1, 0.1), steps=2)


NEW_METHODS = {
    "snas": replace(DARTS, relaxation=Concrete()),
    "fair_darts": replace(DARTS, relaxation=Sigmoid(), penalties={"zero_one": ZeroOne()}),
    "drnas": replace(DARTS, relaxation=Dirichlet(), penalties={"dirichlet_kl": DirichletKL()}),
    "beta_darts": replace(DARTS, penalties={"beta_decay": BetaDecay(Linear(1.0, 50.0))}),
    "cost": replace(DARTS, penalties={"beta_decay": BetaDecay(), "cost": cost()}),
    "sdarts_rs": replace(DARTS, perturbation=RandomPerturbation(Linear(0.1, 0.1))),
    "sdarts_adv": replace(DARTS, perturbation=adversarial()),
    "unrolled": replace(
        DARTS,
        hypergradient=Unrolled(),
        perturbation=adversarial(),
        penalties={"beta_decay": BetaDecay()},
    ),
}
METHODS = pytest.mark.parametrize("method", NEW_METHODS.values(), ids=NEW_METHODS)


def some(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("method", [NEW_METHODS[name] for name in names], ids=names)


def batches(task: StageSearch):
    train, validation = task.data.weight_batches.batch(0), task.data.arch_batches.batch(0)
    like = next(task.supernet.parameters())
    return tuple(batch._replace(images=batch.images.to(like)) for batch in (train, validation))


def in_double(method: Method) -> StageSearch:
    task = task_of(method)
    task.supernet.double().train()
    task.alphas.double()
    return task


@METHODS
def test_a_step_moves_weights_and_alphas_and_tells_the_penalties(method: Method):
    task = task_of(method)
    before = flat(task.supernet.parameters()).clone(), flat(task.alphas.parameters()).clone()
    metrics = task.train_step(at(task, 0))
    assert not torch.equal(flat(task.supernet.parameters()), before[0])
    assert not torch.equal(flat(task.alphas.parameters()), before[1])
    names = {name for name in metrics if name.startswith("penalty/")}
    assert names == {f"penalty/{name}" for name in method.penalties}
    assert all(torch.isfinite(value) for value, _ in metrics.values())


@pytest.mark.parametrize("name", ["fair_darts", "beta_darts", "cost", "drnas"])
def test_the_alphas_get_the_gradient_of_loss_plus_penalties(name: str, progress: float = 0.5):
    """Two routes: the task's single backward call, and plain autograd through everything."""
    method = replace(NEW_METHODS[name], arch_optimizer=Adam(lr=1e-12))
    task = in_double(method)
    train, (x, y, *_) = batches(task)
    noise = task.noise.get_state()
    metrics = task.arch_step(train, Batch(x, y), progress)
    found = [logits.grad for logits in task.alphas.parameters()]

    same_noise = torch.Generator()
    same_noise.set_state(noise)
    mixture = method.relaxation(task.alphas, progress=progress, rng=same_noise)
    mean = method.relaxation.mean(task.alphas)
    loss = F.cross_entropy(task.supernet(x, mixture), y)
    for key, penalty in method.penalties.items():
        value = penalty(task.alphas, mean, progress=progress)
        assert_close(metrics[f"penalty/{key}"][0], value.detach())
        loss = loss + value
    direct = torch.autograd.grad(loss, list(task.alphas.parameters()))
    for a, b in zip(found, direct, strict=True):
        assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_the_penalties_gradient_is_the_difference_it_makes():
    """The same step with and without: the difference is d penalty / d alphas, no other share."""
    penalties = {"cost": cost(), "beta_decay": BetaDecay()}
    gradients = []
    for chosen in ({}, penalties):
        task = in_double(replace(DARTS, penalties=chosen))
        task.arch_step(*batches(task), 0.5)
        gradients.append(flat(logits.grad for logits in task.alphas.parameters()))
    task = in_double(DARTS)
    mean = Softmax().mean(task.alphas)
    total = sum(penalty(task.alphas, mean, progress=0.5) for penalty in penalties.values())
    assert isinstance(total, torch.Tensor)
    expected = flat(torch.autograd.grad(total, list(task.alphas.parameters())))
    assert expected.abs().sum() > 0
    assert_close(gradients[1] - gradients[0], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("quantity", [Quantity.parameters, Quantity.multiply_adds])
def test_the_found_cost_is_that_of_the_derived_network(quantity: Quantity):
    """Of the network that the penalty speaks of, which may be larger than the supernet's."""
    layout = Layout(4, 5, 3, 1)
    table = build_cost_table(SPACE, layout, (8, 8), quantity, torch.device("cpu"))
    chosen = {"beta_decay": BetaDecay(), "cost": Cost(1e9, quantity, table=table)}
    task = task_of(replace(DARTS, penalties=chosen))
    net = DerivedNet(task.genotype(), layout)
    counted = (
        count_parameters(net)
        if quantity is Quantity.parameters
        else count_multiply_adds(net, (1, 8, 8))
    )
    assert chosen["cost"].found(task.genotype()) == {
        "quantity": quantity.name, "target": 1e9, "found": counted, "share": None,
        "channels": None, "layers": None,
    }  # fmt: skip
    assert chosen["beta_decay"].found(task.genotype()) is None


@some("drnas", "cost", "unrolled")
def test_neither_touches_weights_or_statistics_in_the_arch_step(method: Method):
    task = task_of(method)
    task.supernet.train()
    before = {name: value.clone() for name, value in task.supernet.state_dict().items()}
    task.arch_step(*batches(task), 0.5)
    for name, value in task.supernet.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(weight.grad is None for weight in task.supernet.parameters())


def test_penalties_leave_the_weight_step_bit_for_bit():
    tasks = [
        task_of(replace(DARTS, penalties=penalties, order=Order.weights_first))
        for penalties in ({}, {"cost": cost(), "beta_decay": BetaDecay(Linear(9.0, 9.0))})
    ]
    for task in tasks:
        task.train_step(at(task, 0))
    plain, pressed = tasks
    assert torch.equal(flat(plain.supernet.parameters()), flat(pressed.supernet.parameters()))
    assert not torch.equal(flat(plain.alphas.parameters()), flat(pressed.alphas.parameters()))


PERTURBATIONS = pytest.mark.parametrize(
    "perturbation",
    [RandomPerturbation(Linear(0.1, 0.1)), adversarial(),
     replace(adversarial(), renormalize=False)],
    ids=["random", "adversarial", "cube"],
)  # fmt: skip


@PERTURBATIONS
def test_the_weights_gradient_is_taken_at_the_perturbed_mixture(perturbation):
    """With plain SGD of rate 1 the step is the gradient; its mixture is computed here again."""
    optimizer = SGD(lr=1.0, momentum=0.0, weight_decay=0.0, clip=0.0)
    task = in_double(replace(DARTS, perturbation=perturbation, optimizer=optimizer))
    x, y, *_ = batches(task)[0]
    names = [name for name, _ in task.supernet.named_parameters()]
    weights = {name: w.detach().clone() for name, w in task.supernet.named_parameters()}
    noise = torch.Generator()
    noise.set_state(task.noise.get_state())
    norms = {name: value.clone() for name, value in task.supernet.named_buffers()}

    def loss(mixture):
        logits = functional_call(task.supernet, {**weights, **norms}, (x, mixture))
        return F.cross_entropy(logits, y)

    mixture = Softmax()(task.alphas).detach()
    moved = perturbation(mixture, loss, progress=0.5, rng=noise)
    task.step_weights(Batch(x, y), 0.5)

    leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
    gradients = torch.autograd.grad(loss(moved), list(leaves.values()), allow_unused=True)
    now = dict(task.supernet.named_parameters())
    for name, gradient in zip(names, gradients, strict=True):
        taken = weights[name].detach() - now[name].detach()
        expected = torch.zeros_like(taken) if gradient is None else gradient
        assert_close(taken, expected, rtol=1e-7, atol=1e-11)
    assert all(logits.grad is None for logits in task.alphas.parameters())
    if perturbation.__class__ is AdversarialPerturbation:
        assert loss(moved) >= loss(mixture)


@PERTURBATIONS
def test_the_arch_step_sees_the_mixture_as_it_is(perturbation):
    gradients = []
    for chosen in (None, perturbation):
        task = task_of(replace(DARTS, perturbation=chosen))
        task.arch_step(*batches(task), 0.5)
        gradients.append(flat(logits.grad for logits in task.alphas.parameters()))
    assert torch.equal(*gradients)


@PERTURBATIONS
def test_running_statistics_move_once_in_a_weight_step(perturbation):
    task = task_of(replace(DARTS, perturbation=perturbation))
    task.supernet.train()
    task.step_weights(batches(task)[0], 0.5)
    counts = {
        int(value)
        for name, value in task.supernet.named_buffers()
        if name.endswith("num_batches_tracked")
    }
    assert counts == {1}


@some("drnas", "cost", "sdarts_adv")
def test_saved_and_loaded_continues_bit_for_bit(method: Method):
    whole, first = task_of(method), task_of(method)
    whole.train_step(at(whole, 0))
    first.train_step(at(first, 0))
    second = task_of(method)
    second.load_state_dict(first.state_dict())
    whole.train_step(at(whole, 1))
    second.train_step(at(second, 1))
    assert torch.equal(flat(whole.supernet.parameters()), flat(second.supernet.parameters()))
    assert torch.equal(flat(whole.alphas.parameters()), flat(second.alphas.parameters()))
    assert whole.evaluate(at(whole, 1)) == second.evaluate(at(second, 1))


def test_a_resumed_search_goes_on_with_the_costs_it_measured():
    measured, other = cost(), cost()
    assert isinstance(other.state().fixed, torch.Tensor)
    other.state().fixed += 100.0
    first = task_of(replace(DARTS, penalties={"cost": measured}))
    second = task_of(replace(DARTS, penalties={"cost": other}))
    second.load_state_dict(first.state_dict())
    assert torch.equal(other.state().fixed, measured.state().fixed)


@some("fair_darts", "drnas", "cost", "sdarts_rs")
def test_evaluation_copes_with_every_kind_of_row(method: Method):
    task = task_of(method)
    metrics = task.evaluate(at(task, 0))
    assert metrics["entropy/normal"] == pytest.approx(1.0, abs=1e-2)
    view = task.view(task.genotype(), task.space)
    assert view.genotype == task.genotype()
    for rows in view.probabilities.values():
        assert (rows >= 0).all() and (rows <= 1).all()
    mean = task.method.relaxation.expected(task.alphas)
    for penalty in method.penalties.values():
        if isinstance(penalty, Cost):
            expected = penalty.state().expected(mean).item()
            assert metrics["cost/parameters"] == pytest.approx(expected)
    assert metrics.get("search/epsilon") == (0.1 if method.perturbation else None)
    assert ("cost" in method.penalties) == ("cost/parameters" in metrics)
