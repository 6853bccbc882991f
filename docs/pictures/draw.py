"""Draw the pictures of docs/how, from the library's own numbers.

python docs/pictures/draw.py [mixture|gumbel|bilevel|ntk|wide|warm_start]

Without a name all are drawn, in about a minute; the warm start scores 100 cells.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from darts_gdas import Mixture, SearchSpace
from darts_gdas.nets import NASBENCH201, CellMixture, Layout
from darts_gdas.ntk import (
    Dense,
    Nonlinearity,
    as_matrix,
    empirical_ntk,
    finite_network,
    infinite_kernels,
    linearize,
    monte_carlo_ntk,
    predict_mse,
)
from darts_gdas.report.heatmap import draw_probabilities
from darts_gdas.report.text import FONT, INK, operation_label
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.datasets import Digits
from darts_gdas.runtime.files import write_atomically
from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring.warm_start import NtkWarmStart, Setting
from darts_gdas.search import (
    Bilevel,
    FirstOrder,
    GumbelHard,
    SGDStep,
    Softmax,
    UnrolledExact,
)
from darts_gdas.search.relaxation import noisy_logits

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = "#2F74AE", "#C8622B", "#3E8E5A", "#75808C"


def panels(count: int, width: float = 7.6, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side."""
    figure = Figure((width, height), facecolor="white", layout="constrained")
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(labelsize=8)
    return figure, axes


def label(axes: Axes, *, title: str, x: str, y: str) -> None:
    """Words around axes."""
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def mixture() -> Figure:
    """One edge: the state, its candidates with their weights, the sum."""
    names = SearchSpace.named("darts").cells["normal"].candidates[0]
    logits = torch.randn(1, len(names), generator=torch.Generator().manual_seed(1))
    weights = Softmax().relax(logits, progress=0.0, rng=None)[0][0].tolist()
    figure = Figure((7.6, 3.2), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(-0.8, len(names) - 0.2))
    axes.set_axis_off()
    middle = (len(names) - 1) / 2
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": GREY}
    for i, (name, weight) in enumerate(zip(names, weights, strict=True)):
        y, wide = len(names) - 1 - i, 0.4 + 14 * weight
        style = {"color": BLUE, "alpha": 0.55, "solid_capstyle": "butt"}
        axes.plot([1.4, 3.6], [middle, y], color=GREY, lw=0.8)
        axes.plot([5.0, 8.35], [y, middle], lw=wide, **style)
        axes.text(4.3, y, operation_label(name), ha="center", va="center", fontsize=9, bbox=box)
        axes.text(5.3, y + (0.2 if y > middle else -0.42), f"{weight:.2f}", fontsize=8, color=INK)
    axes.text(0.8, middle, "state x", ha="center", va="center", fontsize=10, bbox=box)
    axes.text(9.0, middle, "sum of\nm_k o_k(x)", ha="center", va="center", fontsize=10, bbox=box)
    return figure


def gumbel() -> Figure:
    """Frequencies of samples, and mean soft weights at three temperatures."""
    logits, count = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0]).double(), 20_000
    rows = logits.expand(count, -1)
    figure, (left, right) = panels(2)
    places = torch.arange(len(logits)).double()
    rng = torch.Generator().manual_seed(0)
    _, active = GumbelHard().relax(rows, progress=0.0, rng=rng)
    drawn = torch.bincount(torch.tensor(active), minlength=len(logits)) / count
    left.bar(places - 0.2, drawn, 0.4, color=BLUE, label=f"share of {count:,} samples")
    left.bar(places + 0.2, logits.softmax(-1), 0.4, color=GREY, label="softmax(a)")
    label(left, title="what runs", x="candidate", y="probability")
    for i, (tau, color) in enumerate(zip((10.0, 1.0, 0.1), (GREY, BLUE, ORANGE), strict=True)):
        soft = mean_soft_weights(rows, tau)
        right.bar(places + 0.27 * (i - 1), soft, 0.25, color=color, label=f"tau = {tau:g}")
    label(
        right, title="what the gradient is taken from", x="candidate", y="p of the candidate drawn"
    )
    right.set_ylim(0, 1.4)
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
    return figure


def mean_soft_weights(rows: Tensor, tau: float) -> Tensor:
    """Mean of p where a candidate was drawn: how sure the soft weights are of the sample."""
    noisy = noisy_logits(rows, torch.Generator().manual_seed(0))
    soft, chosen = (noisy / tau).softmax(-1), noisy.argmax(-1)
    return torch.stack([soft[chosen == k, k].mean() for k in range(rows.shape[1])])


def toy_search(xi: float, *, steps: int = 160, rate: float = 0.05) -> list[tuple[float, float]]:
    """The way of (alpha, weight) on the toy problem of Liu et al., figure 2."""
    a, w = torch.tensor([[2.0]]).double(), torch.tensor(-2.0).double()
    way = [(float(a), float(w))]
    for _ in range(steps):
        problem = Bilevel(
            train_loss=lambda weights, m: (weights["w"] - m["toy"].ops.sum()) ** 2,
            validation_loss=lambda weights, m: (weights["w"] - 2) * m["toy"].ops.sum() + 1,
            weights={"w": w},
            mixture=Mixture({"toy": CellMixture(a)}),
            inner_step=lambda: SGDStep(lr=xi),
        )
        hypergradient = UnrolledExact() if xi else FirstOrder()
        a = a - rate * hypergradient(problem)["toy"].ops
        w = w - rate * 2 * (w - a.sum())
        way.append((float(a), float(w)))
    return way


def bilevel() -> Figure:
    """Three searches on the toy problem, and their validation losses."""
    figure, (left, right) = panels(2, height=3.2)
    left.plot([-2.2, 3], [-2.2, 3], color=GREY, lw=1, ls="--", label="w*(a) = a")
    for xi, color in ((0.0, GREY), (0.1, BLUE), (0.5, ORANGE)):
        way = toy_search(xi)
        name = f"xi = {xi:g}" + (" (first order)" if xi == 0 else "")
        left.plot(*zip(*way, strict=True), color=color, lw=1.5, label=name)
        left.plot(*way[-1], "o", color=color, ms=5)
        right.plot([(a - 1) ** 2 for a, _ in way], color=color, lw=1.5, label=name)
    left.plot(1, 1, "*", color=GREEN, ms=12, label="solution")
    left.plot(2, -2, "s", color=INK, ms=4, label="start")
    label(left, title="the way", x="a", y="w")
    label(right, title="what the alphas are worth", x="steps", y="L_val(w*(a), a) = (a - 1)^2")
    for axes in (left, right):
        axes.legend(fontsize=7, frameon=False)
    return figure


def descend(model: nn.Module, x: Tensor, y: Tensor, rate: float, times: Sequence[int]) -> Tensor:
    """Outputs of the linearised model at some steps of plain gradient descent."""
    function = linearize(model)
    theta = {name: p.detach().clone() for name, p in model.named_parameters()}
    outputs = []
    for step in range(max(times) + 1):
        leaves = {name: p.requires_grad_() for name, p in theta.items()}
        f = function(leaves, x)
        if step in times:
            outputs.append(f.detach())
        loss = (f - y).square().sum() / (2 * y.numel())
        grads = torch.autograd.grad(loss, list(leaves.values()))
        pairs = zip(leaves.items(), grads, strict=True)
        theta = {name: (p - rate * g).detach() for (name, p), g in pairs}
    return torch.stack(outputs)


def ntk() -> Figure:
    """Descent and its prediction along three eigendirections; the spectrum."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 3)).double()
    x, y = torch.randn(10, 8).double(), torch.randn(10, 3).double()
    kernel, rate = empirical_ntk(model, x, kind="full"), 0.05
    values, vectors = torch.linalg.eigh(as_matrix(kernel))
    f0, times = model(x).detach(), sorted({0, *(round(1.35**i) for i in range(24))})
    trained = descend(model, x, y, rate, times)
    figure, (left, right) = panels(2)
    for place, color in ((-1, BLUE), (15, ORANGE), (0, GREY)):
        error = (trained - y).flatten(1) @ vectors[:, place]
        flows = [
            predict_mse(kernel, y, f0_train=f0, t=float(t), learning_rate=rate).train for t in times
        ]
        predicted = (torch.stack(flows) - y).flatten(1) @ vectors[:, place]
        name = f"eigenvalue {values[place]:.2g}"
        left.plot(times, (error / error[0]).square(), "o", color=color, ms=3)
        left.plot(times, (predicted / error[0]).square(), color=color, lw=1.2, label=name)
    left.set_xscale("symlog", linthresh=1)
    label(
        left, title="descent (points), kernel (lines)", x="steps", y="share of the error, squared"
    )
    left.legend(fontsize=7, frameon=False)
    right.semilogy(values.flip(0), "o", color=BLUE, ms=3)
    kappa = values[-1] / values[0]
    label(right, title=f"condition number {kappa:.3g}", x="number", y="eigenvalue")
    return figure


def wide() -> Figure:
    """Tangent kernels of finite networks, and how far they are from those of infinite width."""
    torch.manual_seed(0)
    x, widths = torch.randn(6, 4).double(), [4, 8, 16, 32, 64, 128]
    figure, (left, right) = panels(2)
    for (name, variance), color in zip(
        (("relu", 2.0), ("erf", 1.5), ("gelu", 1.5)), (BLUE, ORANGE, GREEN), strict=True
    ):
        phi, dense = Nonlinearity(name), Dense(variance)
        layers = [dense, phi, dense, phi, dense]
        exact, errors, spreads = infinite_kernels(layers, x).ntk, [], []
        for width in widths:
            found = monte_carlo_ntk(
                lambda width=width, layers=layers: finite_network(layers, (4,), width).double(),
                x,
                draws=4 * width,
                seed=width,
                trusted=True,
            )
            errors.append(float((found.mean - exact).norm() / exact.norm()))
            deviation = found.standard_error * found.count**0.5
            spreads.append(float(deviation.norm() / exact.norm()))
        left.loglog(widths, errors, "o-", color=color, ms=3, lw=1.2, label=name)
        right.loglog(widths, spreads, "o-", color=color, ms=3, lw=1.2, label=name)
    for axes, power, what in ((left, 1, "1 / width"), (right, 0.5, "1 / root of the width")):
        guide = [1.5 * width**-power for width in widths]
        axes.loglog(widths, guide, color=GREY, lw=1, ls="--", label=what)
        axes.legend(fontsize=7, frameon=False)
    label(left, title="mean of 4 x width networks", x="width", y="relative error of the mean")
    label(right, title="one network", x="width", y="relative standard deviation")
    return figure


def warm_start() -> Figure:
    """First alphas of NAS-Bench-201 on digits, as probabilities."""
    train, _ = Digits().load()
    images = Normalize(*train.statistics())(train.images[torch.arange(32)])
    space = SearchSpace.named("nasbench201")
    setting = Setting(
        space=space,
        layout=lambda channels: Layout(channels, 5, 10, 1, skeleton=NASBENCH201),
        batch=lambda count: images[:count],
        seed=0,
        journal=Journal(None, "docs"),
        report=lambda phase, done, total: None,
    )
    first = NtkWarmStart()(setting)
    cell, logits = space.cells["normal"], first.logits["normal"]
    return draw_probabilities(
        logits.softmax(-1).numpy(), cell.edges, cell.candidates[0], num_inputs=cell.num_inputs
    )


PICTURES: dict[str, Callable[[], Figure]] = {
    "mixture": mixture,
    "gumbel": gumbel,
    "bilevel": bilevel,
    "ntk": ntk,
    "wide": wide,
    "warm_start": warm_start,
}


def main() -> None:
    """Draw what is named on the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], default=[])
    torch.set_num_threads(1)
    style = {"font.family": FONT, "svg.hashsalt": "docs", "svg.fonttype": "none", "text.color": INK}
    for name in parser.parse_args().names or PICTURES:
        with matplotlib.rc_context(style):
            figure = PICTURES[name]()
            write_atomically(
                HERE / f"{name}.svg",
                lambda file, figure=figure: figure.savefig(
                    file, format="svg", metadata={"Date": None}
                ),
            )


if __name__ == "__main__":
    main()
