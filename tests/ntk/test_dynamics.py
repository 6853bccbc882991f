"""Predictions of training against gradient descent, matrix exponentials and linear algebra."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.testing import assert_close

from darts_gdas.ntk import linearize, max_learning_rate, predict_mse

EXACT = {"rtol": 1e-10, "atol": 1e-11}
SAMPLES, TESTS, OUTPUTS = 5, 3, 2


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(width: int = 8, outputs: int = OUTPUTS) -> nn.Sequential:
    """A small network in float64, initialised without torch's global generator."""
    net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, outputs)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=rng(parameter.numel()))
    return net


def data() -> tuple[Tensor, Tensor, Tensor]:
    """Training inputs, targets, test inputs."""
    x = torch.randn(SAMPLES + TESTS, 3, generator=rng(1)).double()
    y = torch.randn(SAMPLES, OUTPUTS, generator=rng(2)).double()
    return x[:SAMPLES], y, x[SAMPLES:]


def full_kernel(net: nn.Module, x1: Tensor, x2: Tensor) -> Tensor:
    """J J^T by whole Jacobians, [samples1, samples2, outputs, outputs]."""
    parameters = {name: p.detach() for name, p in net.named_parameters()}

    def jacobian(x: Tensor) -> Tensor:
        parts = jacrev(lambda p: functional_call(net, p, (x,)))(parameters).values()
        return torch.cat([part.flatten(2) for part in parts], dim=2)

    return torch.einsum("nap,mbp->nmab", jacobian(x1), jacobian(x2))


def problem() -> dict[str, Tensor]:
    """All arguments of a prediction for a network of finite width."""
    net, (x, y, x_test) = network(), data()
    with torch.no_grad():
        f0_train, f0_test = net(x), net(x_test)
    return {
        "k_train_train": full_kernel(net, x, x),
        "y_train": y,
        "k_test_train": full_kernel(net, x_test, x),
        "f0_train": f0_train,
        "f0_test": f0_test,
    }


def flat(kernel: Tensor) -> Tensor:
    n, m, a, b = kernel.shape
    return torch.stack(
        [torch.cat([kernel[i, j, o] for j in range(m)]) for i in range(n) for o in range(a)]
    ).reshape(n * a, m * b)


def descend(
    net: nn.Module, x: Tensor, y: Tensor, x_test: Tensor, *, lr: float, steps: int, ridge: float
) -> tuple[Tensor, Tensor]:
    """Outputs after plain gradient descent on the linearised network, one step at a time."""
    linear = linearize(net)
    origin = {name: p.detach().clone() for name, p in net.named_parameters()}
    now = origin
    for _ in range(steps):
        now = {name: p.detach().requires_grad_() for name, p in now.items()}
        decay = sum((now[name] - origin[name]).square().sum() for name in now)
        loss = ((linear(now, x) - y).square().sum() + ridge * decay) / (2 * y.numel())
        gradients = torch.autograd.grad(loss, list(now.values()))
        now = {
            name: p - lr * gradient
            for (name, p), gradient in zip(now.items(), gradients, strict=True)
        }
    return linear(now, x).detach(), linear(now, x_test).detach()


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_gradient_descent_of_the_linearised_network_is_the_discrete_formula(ridge: float):
    """k steps: residual (1 - (w + ridge) lr / (N O))^k in the eigenbasis. Exact at any rate."""
    given, (x, y, x_test), lr, steps = problem(), data(), 0.5, 40
    kernel, cross = flat(given["k_train_train"]), flat(given["k_test_train"])
    n = y.numel()
    error = (given["f0_train"] - y).reshape(n)
    step = torch.eye(n).double() - lr / n * (kernel + ridge * torch.eye(n).double())
    dual = torch.zeros(n).double()
    for _ in range(steps):
        dual = step @ dual - lr / n * error
    train, test = descend(network(), x, y, x_test, lr=lr, steps=steps, ridge=ridge)
    assert_close(train, given["f0_train"] + (kernel @ dual).reshape(y.shape), **EXACT)
    assert_close(test, given["f0_test"] + (cross @ dual).reshape(TESTS, OUTPUTS), **EXACT)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_small_steps_approach_the_prediction(ridge: float):
    """The error of k steps to the same time t * lr shrinks like the step: halved, within 10 %."""
    given, (x, y, x_test) = problem(), data()
    predicted = predict_mse(**given, t=20.0, ridge=ridge)
    errors = []
    for steps in (100, 200):
        train, test = descend(network(), x, y, x_test, lr=20 / steps, steps=steps, ridge=ridge)
        errors.append(
            [float((train - predicted.train).norm()), float((test - predicted.test).norm())]
        )
    for coarse, fine in zip(*errors, strict=True):
        assert fine < 0.02 and fine == pytest.approx(coarse / 2, rel=0.1)


@pytest.mark.parametrize("t", [0.0, 0.3, 7.0, 500.0])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_equals_the_matrix_exponential(t: float, ridge: float):
    """d/dt (a, 1) = [[-(K + r), -error], [0, 0]] (a, 1) lr / n, exponentiated as a whole."""
    given = problem()
    kernel, cross = flat(given["k_train_train"]), flat(given["k_test_train"])
    n, lr = kernel.shape[0], 0.7
    generator = torch.zeros(n + 1, n + 1).double()
    generator[:n, :n] = -(kernel + ridge * torch.eye(n).double())
    generator[:n, n] = (given["y_train"] - given["f0_train"]).reshape(n)
    dual = torch.linalg.matrix_exp(generator * lr * t / n)[:n, n]
    predicted = predict_mse(**given, t=t, learning_rate=lr, ridge=ridge)
    train = given["f0_train"].reshape(n) + kernel @ dual
    assert_close(predicted.train.reshape(n), train, rtol=1e-9, atol=1e-9)
    test = given["f0_test"].reshape(-1) + cross @ dual
    assert_close(predicted.test.reshape(-1), test, rtol=1e-9, atol=1e-9)


def test_a_kernel_of_one_output_stands_for_all():
    """[N, M] predicts as [N, M, O, O] = K (x) I_O, normalised by N O."""
    given = problem()
    mean = {
        name: given[name].diagonal(dim1=2, dim2=3).mean(-1)
        for name in ("k_train_train", "k_test_train")
    }
    full = {
        name: torch.einsum("nm,ab->nmab", kernel, torch.eye(OUTPUTS).double())
        for name, kernel in mean.items()
    }
    for options in ({"t": 3.0}, {"t": 3.0, "ridge": 0.1}, {"t": None}):
        one, all_outputs = (
            predict_mse(**given | mean, **options),
            predict_mse(**given | full, **options),
        )
        assert_close(one.train, all_outputs.train, **EXACT)
        assert_close(one.test, all_outputs.test, **EXACT)


@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_a_long_time_is_infinite_time(ridge: float):
    """Eigenbasis against Cholesky."""
    given = problem()
    long, limit = (predict_mse(**given, t=t, ridge=ridge) for t in (1e6, None))
    assert_close(long.train, limit.train, rtol=1e-10, atol=1e-10)
    assert_close(long.test, limit.test, rtol=1e-9, atol=1e-9)


def test_at_first_nothing_has_moved():
    given = problem()
    predicted = predict_mse(**given, t=0.0)
    assert torch.equal(predicted.train, given["f0_train"])
    assert torch.equal(predicted.test, given["f0_test"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_time_without_ridge_reproduces_the_targets(dtype: torch.dtype):
    given = {name: value.to(dtype) for name, value in problem().items()}
    predicted = predict_mse(**given)
    assert torch.equal(predicted.train, given["y_train"])
    assert predicted.test is not None and predicted.test.dtype == dtype


def test_infinite_time_is_kernel_regression():
    given = problem()
    kernel, cross = flat(given["k_train_train"]), flat(given["k_test_train"])
    change = cross @ torch.linalg.inv(kernel) @ (given["y_train"] - given["f0_train"]).reshape(-1)
    expected = given["f0_test"] + change.reshape(TESTS, OUTPUTS)
    assert_close(predict_mse(**given).test, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [2.0, None])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_training_samples_as_test_samples_get_the_training_outputs(t: float | None, ridge: float):
    given = problem()
    same = {"k_test_train": given["k_train_train"], "f0_test": given["f0_train"]}
    predicted = predict_mse(**given | same, t=t, ridge=ridge)
    assert_close(predicted.test, predicted.train, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [2.0, None])
def test_a_relative_ridge_is_a_share_of_the_mean_diagonal(t: float | None):
    given = problem()
    share = 0.1 * float(flat(given["k_train_train"]).diagonal().mean())
    relative = predict_mse(**given, t=t, ridge=0.1, relative_ridge=True)
    assert_close(relative.test, predict_mse(**given, t=t, ridge=share).test, **EXACT)


def test_directions_without_gradient_stand_still_and_stay_finite():
    """A zero eigenvalue: dual variables grow linearly there, outputs never move."""
    kernel = torch.diag(torch.tensor([0.0, 2.0])).double()
    y, cross = torch.tensor([[1.0], [1.0]]).double(), torch.tensor([[3.0, 1.0]]).double()
    predicted = predict_mse(kernel, y, cross, t=4.0, learning_rate=0.5)
    s = 0.5 * 4 / 2
    moved = 1 - math.exp(-2 * s)
    assert_close(predicted.train, torch.tensor([[0.0], [moved]]).double())
    assert_close(predicted.test, torch.tensor([[3 * s + moved / 2]]).double())


def test_tiny_negative_eigenvalues_are_directions_without_gradient():
    kernel = torch.diag(torch.tensor([-1e-7, 2.0])).double()
    clean = torch.diag(torch.tensor([0.0, 2.0])).double()
    y = torch.ones(2, 1).double()
    found, expected = (predict_mse(k, y, k, t=1e9) for k in (kernel, clean))
    assert_close(found.train, expected.train)
    assert torch.isfinite(found.test).all()


def test_the_largest_stable_rate_is_that_of_the_learning_rate_formula():
    """Descent in the top eigenvector flips sign without shrinking at exactly the maximum."""
    given, (x, y, x_test) = problem(), data()
    limit = max_learning_rate(given["k_train_train"])
    _, basis = torch.linalg.eigh(flat(given["k_train_train"]))
    residual = [
        abs(
            basis[:, -1]
            @ (descend(network(), x, y, x_test, lr=limit, steps=k, ridge=0.0)[0] - y).reshape(-1)
        )
        for k in (1, 6)
    ]
    assert residual[1] == pytest.approx(float(residual[0]), rel=1e-9)


def test_a_wide_network_trains_as_its_kernel_predicts():
    """At width 2048 outputs move by about 1 and agree within 0.01 (0.002 is seen)."""
    net, (x, y, x_test) = network(width=2048), data()
    with torch.no_grad():
        f0_train, f0_test = net(x), net(x_test)
    kernels = full_kernel(net, x, x), y, full_kernel(net, x_test, x)
    lr, steps = 0.25 * max_learning_rate(kernels[0]), 1500
    predicted = predict_mse(
        *kernels, f0_train=f0_train, f0_test=f0_test, t=float(steps), learning_rate=lr
    )
    for _ in range(steps):
        loss = (net(x) - y).square().sum() / (2 * y.numel())
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                parameter -= lr * gradient
    assert (f0_train - y).norm() > 5 * (net(x) - y).norm()  # it has learnt
    assert_close(net(x).detach(), predicted.train, rtol=0.0, atol=0.01)
    assert_close(net(x_test).detach(), predicted.test, rtol=0.0, atol=0.01)


def test_the_expansion_is_exact_for_a_linear_model_and_to_first_order_for_others():
    x, _, _ = data()
    for net, order in ((nn.Linear(3, 2).double(), math.inf), (network(), 2)):
        linear, errors = linearize(net), []
        for size in (1e-2, 1e-3):
            moved = {
                name: p.detach() + size * torch.randn(p.shape, generator=rng(3)).double()
                for name, p in net.named_parameters()
            }
            errors.append(float((linear(moved, x) - functional_call(net, moved, (x,))).norm()))
        if order == math.inf:
            assert max(errors) < 1e-14
        else:
            assert math.log10(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_the_expansion_stays_where_the_model_was():
    net, (x, _, _) = network(), data()
    linear, before = linearize(net), dict(network().named_parameters())
    expected = net(x).detach()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert_close(linear(before, x), expected, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("training", [True, False])
def test_the_expansion_of_a_batch_norm_leaves_running_statistics(training: bool):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()).double().train(training)
    linear, (x, _, _) = linearize(net), data()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = linear(dict(net.named_parameters()), x)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert_close(found, net(x), rtol=1e-13, atol=1e-13)


def test_the_expansion_names_wrong_parameters():
    net, (x, _, _) = network(), data()
    parameters = dict(net.named_parameters())
    with pytest.raises(ValueError, match=r"missing or unknown: \['0.weight', 'head'\]"):
        linearize(net)({"head": parameters.pop("0.weight"), **parameters}, x)


def test_nothing_requires_a_gradient():
    given = {name: value.requires_grad_() for name, value in problem().items()}
    for t in (1.0, None):
        predicted = predict_mse(**given, t=t)
        assert not predicted.train.requires_grad and not predicted.test.requires_grad


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": -1.0}, "t must be a finite time >= 0, got -1.0; pass None"),
        ({"t": math.inf}, "t must be a finite time >= 0, got inf"),
        ({"learning_rate": 0.0}, r"learning_rate must be positive and finite, got 0\.0"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite, got nan"),
        ({"learning_rate": "1"}, "learning_rate must be positive and finite, got '1'"),
        ({"y_train": [[1.0]]}, "y_train must be a tensor, got list"),
        ({"f0_test": [[1.0]]}, "f0_test must be a tensor, got list"),
        ({"ridge": -0.1}, "ridge must be finite and >= 0, got -0.1"),
        (
            {"y_train": torch.ones(5)},
            r"y_train must be .* shape \(5,\); one column is y\[:, None\]",
        ),
        ({"y_train": torch.ones(5, 2).long()}, "got torch.int64 .* classes are F.one_hot"),
        ({"y_train": torch.full((5, 2), math.nan)}, "y_train has NaN or infinite entries"),
        (
            {"y_train": torch.ones(4, 2)},
            r"k_train_train has shape .* y_train ask for \[4, 4, 2, 2\]",
        ),
        ({"k_train_train": torch.eye(4)}, r"has shape \(4, 4\); y_train ask for \[5, 5\]"),
        ({"k_train_train": torch.eye(5)}, r"k_test_train has shape .* ask for \[3, 5\]"),
        ({"k_train_train": -torch.eye(5), "k_test_train": torch.ones(3, 5)}, "negative eigenvalue"),
        ({"k_test_train": torch.ones(3, 4, 2, 2)}, r"\(3, 4, 2, 2\); .* \[3, 5, 2, 2\]"),
        ({"k_test_train": torch.tensor(1.0)}, r"k_test_train has shape \(\)"),
        ({"f0_train": torch.ones(5, 3)}, r"f0_train has shape \(5, 3\); y_train ask for \[5, 2\]"),
        ({"f0_test": torch.ones(5, 2)}, r"f0_test has shape \(5, 2\); .* \[3, 2\]"),
        ({"f0_test": torch.full((3, 2), math.inf)}, "f0_test has NaN or infinite entries"),
        ({"f0_test": None}, "f0_train is given but f0_test is not"),
        ({"k_test_train": None}, "f0_test is given without k_test_train"),
    ],
)
@pytest.mark.parametrize("t", [2.0, None])
def test_what_does_not_fit_is_refused(change: dict, message: str, t: float | None):
    with pytest.raises(ValueError, match=message):
        predict_mse(**problem() | {"t": t} | change)


@pytest.mark.parametrize("ridge", [0.0, 1e-17])
def test_a_singular_kernel_has_no_infinite_time_without_a_ridge(ridge: float):
    kernel, y = torch.ones(2, 2).double(), torch.ones(2, 1).double()
    with pytest.raises(
        ValueError, match=r"t=None has no unique solution; pass a ridge \(not relative\) above"
    ):
        predict_mse(kernel, y, ridge=ridge)


def test_the_ridge_that_the_error_names_is_enough():
    kernel, y = torch.ones(2, 2).double(), torch.tensor([[1.0], [0.0]]).double()
    with pytest.raises(ValueError, match="no unique solution") as error:
        predict_mse(kernel, y)
    ridge = float(str(error.value).split("relative) above ")[1].split(",")[0])
    assert torch.isfinite(predict_mse(kernel, y, ridge=2 * ridge).train).all()


def test_a_float32_kernel_is_held_to_its_own_resolution():
    """An eigenvalue of 1e-8 of the largest is rounding in float32, not in float64."""
    kernel, y = torch.diag(torch.tensor([1.0, 1e-8]).double()), torch.ones(2, 1).double()
    assert torch.equal(predict_mse(kernel, y).train, y)
    with pytest.raises(ValueError, match="compute the kernel in float64"):
        predict_mse(kernel.float(), y)
