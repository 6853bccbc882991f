"""The phase diagram on a grid."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from darts_gdas.ntk.diagram import phase_diagram
from darts_gdas.ntk.phases import critical_weight_variance, phase_point


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh"])
def test_the_grid_holds_the_phase_of_each_pair(activation: str):
    diagram = phase_diagram(activation, max_weight_variance=3.0, max_bias_variance=0.2, points=3)
    assert diagram.weight_variances.tolist() == pytest.approx([1.0, 2.0, 3.0])
    assert diagram.bias_variances.tolist() == pytest.approx([0.0, 0.1, 0.2])
    for i, j in np.ndindex(3, 3):
        point = phase_point(
            activation, float(diagram.weight_variances[j]), float(diagram.bias_variances[i])
        )
        assert diagram.chi_1[i, j] == point.chi_1 and diagram.xi_c[i, j] == point.xi_c


def test_the_line_is_the_critical_one():
    diagram = phase_diagram("erf", max_bias_variance=0.2, points=2)
    assert diagram.critical[0].tolist() == pytest.approx([math.pi / 4, 0.0])
    assert diagram.critical[-1].tolist() == pytest.approx(
        [critical_weight_variance("erf", 0.2), 0.2]
    )
    assert (np.diff(diagram.critical, axis=0) > 0).all()


def test_the_mathematics_draws_nothing():
    """Neither it nor what the package shows needs matplotlib."""
    program = "import sys, darts_gdas.ntk.diagram; sys.exit('matplotlib' in sys.modules)"
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, check=False).returncode == 0


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 2.5}, "points must be a whole number and at least 2, got 2.5"),
        ({"max_bias_variance": "1"}, "max_bias_variance must be positive and finite, got '1'"),
    ],
)
def test_bad_input_is_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        phase_diagram("erf", **options)
