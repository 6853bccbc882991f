"""The phase diagram of an activation, drawn: `python -m darts_gdas.ntk.meanfield --help`.

The numbers are those of `darts_gdas.ntk.phases`.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from darts_gdas.ntk.phases import CRITICAL, critical_weight_variance, phase_point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USAGE_ERROR = 2
_DEEPEST = 1e3
"""Correlation depth, in layers, where the colours end."""


@dataclass(frozen=True, slots=True, eq=False)
class PhaseDiagram:
    """chi_1 and the correlation depth on a grid of variances.

    Attributes:
        activation: Its name.
        weight_variances: Ascending from 0 (not included).
        bias_variances: Ascending from 0.
        chi_1: Gradient factor per layer.
        xi_c: Correlation depth in layers; inf where it has no end.
        critical: Points (weight variance, bias variance) of the critical line, chi_1 = 1.
    """

    activation: str
    weight_variances: Float64[np.ndarray, " weights"]
    bias_variances: Float64[np.ndarray, " biases"]
    chi_1: Float64[np.ndarray, "biases weights"]
    xi_c: Float64[np.ndarray, "biases weights"]
    critical: Float64[np.ndarray, "line 2"]


def phase_diagram(
    activation: str,
    *,
    max_weight_variance: float = 4.0,
    max_bias_variance: float = 0.5,
    points: int = 40,
) -> PhaseDiagram:
    """The phases of an activation on a grid of `points` x `points` variances.

    Args:
        activation: "erf", "relu" or "tanh".
        max_weight_variance: Largest fan-in times variance of a weight.
        max_bias_variance: Largest variance of a bias.
        points: At least 2.

    Raises:
        ValueError: If the activation is unknown, or the grid has no extent.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    for name, value in (("weight", max_weight_variance), ("bias", max_bias_variance)):
        if not 0 < value < math.inf:
            raise ValueError(f"max_{name}_variance must be positive and finite, got {value}")
    weights = np.linspace(0, max_weight_variance, points + 1)[1:]
    biases = np.linspace(0, max_bias_variance, points)
    line = max_bias_variance * np.linspace(0, 1, 100) ** 2  # it bends near 0
    grid = [[phase_point(activation, float(w), float(b)) for w in weights] for b in biases]
    return PhaseDiagram(
        activation,
        weights,
        biases,
        np.array([[point.chi_1 for point in row] for row in grid]),
        np.array([[point.xi_c for point in row] for row in grid]),
        np.array([(critical_weight_variance(activation, b), b) for b in line.tolist()]),
    )


def draw(diagram: PhaseDiagram) -> "Figure":
    """Two maps side by side, chi_1 and the correlation depth, with the critical line in both.

    Uses no pyplot and no global state, so it works without a display.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure((9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    where = diagram.weight_variances, diagram.bias_variances
    endless = np.isinf(diagram.xi_c) & (diagram.chi_1 > 1 + CRITICAL)  # no fixed point: left blank
    depth = np.where(endless, np.nan, np.minimum(diagram.xi_c, _DEEPEST))
    for axes, values, norm, colours, label in (
        (left, diagram.chi_1, LogNorm(0.5, 2.0), "RdBu_r", "gradient factor chi_1"),
        (right, depth, LogNorm(1.0, _DEEPEST), "viridis", "correlation depth xi_c, layers"),
    ):
        shades = axes.pcolormesh(*where, values, norm=norm, cmap=colours, shading="nearest")
        bounds = axes.get_xlim(), axes.get_ylim()
        axes.plot(*diagram.critical.T, color="black", label="chi_1 = 1")
        axes.set(xlim=bounds[0], ylim=bounds[1], xlabel="fan-in x variance of weights")
        figure.colorbar(shades, ax=axes, label=label, extend="both")
    beyond = "divergent" if endless.any() else "chaotic"
    left.set(ylabel="variance of biases")
    left.set_title(f"{diagram.activation}: ordered (blue), {beyond} (red)")
    left.legend(loc="upper left")
    right.set_title("how deep signals travel")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw a phase diagram into a file; exit with status 2 where that is impossible."""
    options = _parser().parse_args(arguments)
    try:
        out = Path(options.out)
        if not out.parent.is_dir():
            raise ValueError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
        diagram = phase_diagram(
            options.activation,
            max_weight_variance=options.max_weight_variance,
            max_bias_variance=options.max_bias_variance,
            points=options.points,
        )
        draw(diagram).savefig(out, dpi=150)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR) from None
    print(f"wrote {out}; critical weight variance without biases: {diagram.critical[0, 0]:.4f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m darts_gdas.ntk.meanfield",
        description="Draw where wide networks are ordered, critical and chaotic.",
    )
    add = parser.add_argument
    add("--activation", default="tanh", metavar="NAME", help="erf, relu or tanh (default: tanh)")
    add("--out", default="phases.png", metavar="PATH", help=".png, .svg, .pdf (phases.png)")
    add("--max-weight-variance", type=float, default=4.0, metavar="X", help="default: 4")
    add("--max-bias-variance", type=float, default=0.5, metavar="X", help="default: 0.5")
    add("--points", type=int, default=40, metavar="N", help="per axis (default: 40)")
    return parser


if __name__ == "__main__":
    main()
