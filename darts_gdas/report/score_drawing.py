"""A ranking of untrained cells as scatter plots.

Knows numbers and names only; what they mean is the caller's.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from darts_gdas.report.text import FONT_SIZE, text_style

PANEL = 2.6  # inches
COLUMNS = 4
DOT = "#2F74AE"


def draw_scores(
    scores: Mapping[str, Sequence[float]], against: Sequence[float], label: str
) -> Figure:
    """One panel per score: every cell a dot, the score from left to right, `against` upwards.

    Args:
        scores: Values by name; infinite ones are left out.
        against: What the scores are held against, one number per cell, for example accuracies.
        label: What `against` is called.

    Raises:
        ValueError: If a score has another number of values, or there is no score.
    """
    if not scores or any(len(values) != len(against) for values in scores.values()):
        lengths = {name: len(values) for name, values in scores.items()}
        raise ValueError(f"every score needs {len(against)} values, one per cell, got {lengths}")
    columns = min(COLUMNS, len(scores))
    rows = math.ceil(len(scores) / columns)
    figure = Figure((PANEL * columns, PANEL * rows), facecolor="white")
    figure.set_layout_engine("constrained")
    y = np.asarray(against, dtype=float)
    for i, (name, values) in enumerate(scores.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        x = np.asarray(values, dtype=float)
        shown = np.isfinite(x) & np.isfinite(y)
        axes.scatter(x[shown], y[shown], s=9, color=DOT, alpha=0.6, linewidths=0)
        axes.set_xlabel(name, **text_style())
        if i % columns == 0:
            axes.set_ylabel(label, **text_style())
        axes.tick_params(labelsize=FONT_SIZE - 2)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
