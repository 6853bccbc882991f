"""The search's steps: what moves, what stands still, in which order, and that it comes back."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.testing import assert_close

from darts_gdas.nets import NASBENCH201, Layout
from darts_gdas.nets.noise import noises
from darts_gdas.runtime.augment import Augment, Normalize
from darts_gdas.runtime.compute import Compute, Device, Precision
from darts_gdas.runtime.data import Batch, BatchStream
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.optim import SGD, Adam
from darts_gdas.runtime.task import Progress
from darts_gdas.search import ArgMax, FirstOrder, GumbelHard, Softmax, Unrolled, UnrolledExact
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.method import Method, Order, SearchData
from darts_gdas.tasks.running import Running
from darts_gdas.tasks.stage import StageSearch

SPACE = SearchSpace.darts(
    num_nodes=2, candidates=("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3")
)
DARTS = Method(Softmax(), FirstOrder(), ArgMax(), SGD(), Adam(lr=0.1), Order.arch_first)
GDAS = replace(DARTS, relaxation=GumbelHard(), order=Order.weights_first)
PC_DARTS = replace(DARTS, partial_channels=2, edge_normalization=True)
METHODS = pytest.mark.parametrize(
    "method",
    [DARTS, GDAS, PC_DARTS, replace(DARTS, hypergradient=Unrolled()),
     replace(GDAS, hypergradient=UnrolledExact())],
    ids=["darts", "gdas", "pc_darts", "darts_2nd", "gdas_exact"],
)  # fmt: skip

STEPPED = pytest.mark.parametrize(
    "order", [Order.arch_first, Order.weights_first], ids=lambda order: order.name
)


def images(count: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 3, ("a", "b", "c"))


CPU = Compute(torch.device("cpu"))
BENCH = SearchSpace.named("nasbench201")
BENCH_LAYOUT = Layout(2, 5, 3, 1, skeleton=NASBENCH201)


def task_of(
    method: Method,
    seed: int = 0,
    compute: Compute = CPU,
    *,
    space: SearchSpace = SPACE,
    diagnostics: Diagnostics | None = None,
    num_epochs: int = 2,
) -> StageSearch:
    torch.manual_seed(seed)
    normalize = Normalize(torch.tensor([0.5]), torch.tensor([0.3]))
    halves = [images(count, i).to(compute.device) for i, count in enumerate((20, 14))]
    weights, arch = (
        BatchStream(
            half,
            batch_size=8,
            augment=Augment(1),
            normalize=normalize,
            seed=seed,
            name=name,
            channels_last=compute.channels_last,
        )
        for half, name in zip(halves, ("weights", "arch"), strict=True)
    )
    return StageSearch(
        space,
        Layout(2 * method.partial_channels, 3, 3, 1) if len(space.cells) > 1 else BENCH_LAYOUT,
        method,
        SearchData(weights, arch, halves[1], normalize),
        num_epochs,
        Running(compute, seed, diagnostics or Diagnostics()),
    )


def at(task: StageSearch, step: int) -> Progress:
    epoch, position = divmod(step, task.steps_per_epoch)
    return Progress(epoch, task.num_epochs, position, task.steps_per_epoch)


def flat(tensors) -> torch.Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def test_an_epoch_is_one_pass_over_the_weights_half():
    assert task_of(DARTS).steps_per_epoch == 3  # 20 images in batches of 8


@METHODS
def test_a_step_moves_weights_and_alphas(method: Method):
    task = task_of(method)
    before = flat(task.supernet.parameters()).clone(), flat(task.alphas.parameters()).clone()
    metrics = task.train_step(at(task, 0))
    assert not torch.equal(flat(task.supernet.parameters()), before[0])
    assert not torch.equal(flat(task.alphas.parameters()), before[1])
    assert set(metrics) == {"train/loss", "train/accuracy", "arch/loss", "arch/accuracy"}
    assert all(count == 8 for _, count in metrics.values())


def test_class_weights_are_in_the_losses_of_both_steps():
    """Against two networks in one state: weighted by hand, and by the stream."""
    method = replace(DARTS, optimizer=SGD())  # its step is taken away below
    weighted, plain = task_of(method), task_of(method)
    weights = torch.tensor([0.5, 1.0, 3.0])
    for stream in (weighted.data.weight_batches, weighted.data.arch_batches):
        stream.class_weights = weights
    batch, mixture = weighted.data.weight_batches.batch(0), weighted.expected().detach()
    plain.supernet.train()
    logits = plain.supernet(batch.images, mixture)
    losses = F.cross_entropy(logits, batch.labels, reduction="none")
    (weights[batch.labels] * losses).mean().backward()
    named = dict(weighted.arch_step.named_weights)
    weighted.supernet.train()
    found = weighted.arch_step.loss(batch)({k: v.detach() for k, v in named.items()}, mixture)
    assert_close(found, (weights[batch.labels] * losses).mean())
    weighted.weight_step.sgd.step = lambda optimizer, passes: None  # type: ignore[method-assign]
    weighted.train_weights(batch, mixture)
    for a, b in zip(weighted.supernet.parameters(), plain.supernet.parameters(), strict=True):
        if b.grad is not None:
            assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("checkpoint_cells", [False, True])
@pytest.mark.parametrize("method", [DARTS, GDAS, PC_DARTS], ids=["darts", "gdas", "pc_darts"])
def test_a_loss_at_rest_is_that_of_the_weights_as_they_are(method: Method, checkpoint_cells: bool):
    task = task_of(method)
    task.supernet.checkpoint_cells = checkpoint_cells
    weights, batch = task.arch_step.named_weights, task.data.arch_batches.batch(0)
    learnt = next(iter(weights.values()))
    learnt.requires_grad_(False)  # as one that has stopped
    mixture, loss = task.expected().require_grad(), task.arch_step.loss(batch)
    found = loss.at_rest(mixture)
    assert [w is not learnt for w in weights.values()] == [
        w.requires_grad for w in weights.values()
    ]
    expected = loss({name: weight.detach() for name, weight in weights.items()}, mixture)
    assert torch.equal(found, expected)
    assert_close(
        torch.autograd.grad(found, mixture.leaves()),
        torch.autograd.grad(expected, mixture.leaves()),
    )
    found = loss.at_rest(mixture)
    found.backward()
    assert all(weight.grad is None for weight in weights.values())


def test_weights_learn_again_after_a_loss_at_rest_has_failed():
    task = task_of(DARTS)
    loss = task.arch_step.loss(task.data.arch_batches.batch(0))
    with pytest.raises(ValueError, match="mixture"):
        loss.at_rest(task.expected().with_leaves([m[:1] for m in task.expected().leaves()]))
    assert all(weight.requires_grad for weight in task.supernet.parameters())
    assert all(norm.track_running_stats for norm in task.arch_step.norms)


@METHODS
def test_the_arch_step_touches_neither_weights_nor_statistics_nor_their_gradients(method: Method):
    task = task_of(method)
    before = {name: value.clone() for name, value in task.supernet.state_dict().items()}
    batches = task.data.weight_batches.batch(0), task.data.arch_batches.batch(0)
    task.supernet.train()
    task.arch_step(*batches, 0.0)
    for name, value in task.supernet.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(weight.grad is None for weight in task.supernet.parameters())


def test_the_weight_step_leaves_the_alphas():
    task = task_of(DARTS)
    before = flat(task.alphas.parameters()).clone()
    task.step_weights(task.data.weight_batches.batch(0), 0.0)
    assert torch.equal(flat(task.alphas.parameters()), before)
    assert all(logits.grad is None for logits in task.alphas.parameters())


@pytest.mark.parametrize("method", [DARTS, PC_DARTS], ids=["darts", "pc_darts"])
def test_first_order_alphas_get_the_gradient_of_the_validation_loss(method: Method):
    """Two routes: the task's pulled-back hypergradient, and plain autograd through everything."""
    task = task_of(replace(method, arch_optimizer=Adam(lr=1e-12)))
    task.supernet.double()
    task.alphas.double()
    train, (x, y, *_) = task.data.weight_batches.batch(0), task.data.arch_batches.batch(0)
    task.supernet.train()
    task.arch_step(train, Batch(x.double(), y), 0.0)
    pulled_back = [logits.grad for logits in task.alphas.parameters()]
    loss = F.cross_entropy(task.supernet(x.double(), Softmax()(task.alphas)), y)
    direct = torch.autograd.grad(loss, list(task.alphas.parameters()))
    for a, b in zip(pulled_back, direct, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_gumbel_gradient_runs_through_the_sampled_operation_alone():
    """dL/da_j = <G, o_k(x)> p_k (delta_kj - p_j) / tau: rows of one sign pattern, sum zero."""
    task = task_of(GDAS)
    task.arch_step(task.data.weight_batches.batch(0), task.data.arch_batches.batch(0), 0.0)
    for logits in task.alphas.parameters():
        gradient = logits.grad
        assert gradient is not None
        assert_close(gradient.sum(1), torch.zeros(len(gradient)), atol=1e-6, rtol=0)
        decided = gradient[gradient.abs().sum(1) > 0]
        signs = torch.sign(decided)
        assert len(decided) and (signs.sum(1).abs() == decided.shape[1] - 2).all()


def test_the_inner_step_predicts_the_next_weight_step():
    """With clipping out of the way the unrolled step is the step the optimiser takes."""
    task = task_of(replace(DARTS, optimizer=SGD(clip=0.0, nesterov=True)))
    task.train_step(at(task, 0))  # so that there are momentum buffers
    x, y, *_ = task.data.weight_batches.batch(1)
    names = [name for name, _ in task.supernet.named_parameters()]
    weights = {name: w.detach().clone() for name, w in task.supernet.named_parameters()}
    mixture = Softmax()(task.alphas).detach()
    leaves = {name: w.requires_grad_() for name, w in weights.items()}
    loss = F.cross_entropy(functional_call(task.supernet, leaves, (x, mixture)), y)
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    predicted = task.arch_step.inner_step()(leaves, dict(zip(names, gradients, strict=True)))
    task.step_weights(Batch(x, y), 0.0)
    for name, weight in task.supernet.named_parameters():
        assert_close(weight, predicted[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", list(Order), ids=lambda order: order.name)
def test_the_order_of_the_steps_is_the_methods(order: Order, monkeypatch: pytest.MonkeyPatch):
    task = task_of(replace(DARTS, order=order))
    calls = []
    for name in ("arch_step", "step_weights"):
        monkeypatch.setattr(task, name, lambda *args, name=name: calls.append(name) or {})
    task.train_step(at(task, 0))
    expected = {
        Order.arch_first: ["arch_step", "step_weights"],
        Order.weights_first: ["step_weights", "arch_step"],
        Order.weights_only: ["step_weights"],
    }
    assert calls == expected[order]


@STEPPED
def test_alphas_stand_still_while_the_weights_warm_up(order: Order):
    task = task_of(replace(PC_DARTS, order=order, arch_warmup_epochs=1))
    alphas = flat(task.alphas.parameters()).clone()
    for step in range(task.steps_per_epoch):
        weights = flat(task.supernet.parameters()).clone()
        metrics = task.train_step(at(task, step))
        assert set(metrics) == {"train/loss", "train/accuracy"}
        assert torch.equal(flat(task.alphas.parameters()), alphas)
        assert not torch.equal(flat(task.supernet.parameters()), weights)
    assert "arch/loss" in task.train_step(at(task, task.steps_per_epoch))
    assert not torch.equal(flat(task.alphas.parameters()), alphas)


def test_the_two_levels_never_share_an_image():
    task = task_of(DARTS)
    seen = []
    for stream in (task.data.weight_batches, task.data.arch_batches):
        seen.append({image.numpy().tobytes() for image in stream.images.images})
    assert not seen[0] & seen[1]


@METHODS
def test_saved_and_loaded_continues_bit_for_bit(method: Method):
    whole = task_of(method)
    for step in range(4):
        whole.train_step(at(whole, step))
    first = task_of(method)
    for step in range(2):
        first.train_step(at(first, step))
    state = first.state_dict()
    second = task_of(method, seed=0)
    second.load_state_dict(state)
    for step in range(2, 4):
        second.train_step(at(second, step))
    for (name, a), b in zip(
        whole.supernet.state_dict().items(), second.supernet.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert torch.equal(flat(whole.alphas.parameters()), flat(second.alphas.parameters()))
    assert whole.evaluate(at(whole, 3)) == second.evaluate(at(second, 3))


@pytest.mark.parametrize("checkpoint_cells", [False, True])
@STEPPED
def test_a_search_with_noise_resumes_bit_for_bit_and_its_arch_step_draws_none_anew(
    order: Order, checkpoint_cells: bool
):
    """Finite differences see one noise; only weight steps go on to the next."""
    space = SearchSpace.darts(num_nodes=1, candidates=("noise", "sep_conv_3x3"))
    method = replace(DARTS, hypergradient=Unrolled(), order=order)
    whole, first, second = (task_of(method, space=space) for _ in range(3))
    for task in (whole, first, second):
        task.supernet.checkpoint_cells = checkpoint_cells
    for step in range(2):
        whole.train_step(at(whole, step))
    first.train_step(at(first, 0))
    second.load_state_dict(first.state_dict())
    second.train_step(at(second, 1))
    for (name, a), b in zip(
        whole.supernet.state_dict().items(), second.supernet.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert torch.equal(flat(whole.alphas.parameters()), flat(second.alphas.parameters()))
    assert {int(noise.draws) for noise in noises(whole.supernet)} == {2}  # one per weight step


def test_evaluation_reports_the_state_of_the_search():
    task = task_of(GDAS)
    metrics = task.evaluate(at(task, 0))
    assert {"validation/accuracy", "entropy/normal", "search/skip_share"} <= set(metrics)
    assert metrics["search/tau"] == 10.0
    assert metrics["search/learning_rate"] == 0.025
    assert metrics["entropy/normal"] == pytest.approx(1.0, abs=1e-4)


def test_the_view_shows_distributions_and_the_present_genotype():
    task = task_of(GDAS)
    view = task.view(task.genotype(), task.space)
    assert view.probabilities["normal"].shape == (5, 4)
    assert view.probabilities["reduce"].sum(1) == pytest.approx(1.0)
    assert view.genotype == task.genotype()
    assert view.edge_weights == {}
    for kind, logits in view.alphas.items():
        assert torch.equal(torch.tensor(logits), task.alphas.logits[kind].detach())


def test_the_view_shows_the_weights_of_edges_that_are_weighed():
    stage = task_of(PC_DARTS)
    edges = stage.view(stage.genotype(), stage.space).edge_weights
    assert edges["normal"][:2].sum() == pytest.approx(1.0)  # into the first node
    assert edges["reduce"][2:].sum() == pytest.approx(1.0)  # into the second


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@gpu
@METHODS
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_takes_the_same_steps_as_a_cpu(method: Method, channels_last: bool):
    """Same data, same noise, same weights: the losses of three steps agree in float32."""
    cuda = Compute.select(Device.cuda, Precision.fp32, channels_last)
    tasks = [task_of(method, compute=compute) for compute in (CPU, cuda)]
    for step in range(3):
        a, b = (task.train_step(at(task, step)) for task in tasks)
        for name, (value, count) in a.items():
            if name.endswith("loss"):
                assert_close(value / count, b[name][0].cpu() / count, rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
@gpu
@METHODS
def test_a_gpu_trains_in_bfloat16(method: Method):
    task = task_of(method, compute=Compute(torch.device("cuda"), Precision.bf16, True))
    losses = []
    for step in range(task.num_epochs * task.steps_per_epoch):
        value, count = task.train_step(at(task, step))["train/loss"]
        losses.append(value.item() / count)
    assert all(torch.isfinite(torch.tensor(losses)))
    assert task.evaluate(at(task, 0))["validation/loss"] > 0


@METHODS
def test_bfloat16_takes_nearly_the_same_step(method: Method):
    rough = task_of(method, compute=Compute(torch.device("cpu"), Precision.bf16))
    exact = task_of(method)
    (a, count), (b, _) = (task.train_step(at(task, 0))["train/loss"] for task in (rough, exact))
    assert a != b
    assert_close(a / count, b / count, rtol=0.1, atol=0.0)  # bf16 keeps 8 bits
