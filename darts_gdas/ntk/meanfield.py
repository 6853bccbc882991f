"""The program that draws a phase diagram: `python -m darts_gdas.ntk.meanfield --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from darts_gdas.ntk.diagram import PhaseDiagram, phase_diagram
from darts_gdas.ntk.phases import CRITICAL

USAGE_ERROR = 2
_DEEPEST = 1e3
"""Correlation depth, in layers, where the colours end."""


def draw(diagram: PhaseDiagram) -> Figure:
    """Two maps side by side, chi_1 and the correlation depth, with the critical line in both.

    Uses no pyplot and no global state, so it works without a display.
    """
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
