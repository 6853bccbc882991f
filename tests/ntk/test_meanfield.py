"""The drawing of a phase diagram, and the command that writes it."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from darts_gdas.ntk.diagram import phase_diagram
from darts_gdas.ntk.meanfield import draw, main


@pytest.mark.parametrize(("activation", "beyond"), [("tanh", "chaotic"), ("relu", "divergent")])
def test_a_drawing_names_the_activation_and_its_phases(activation: str, beyond: str):
    figure = draw(phase_diagram(activation, points=4))
    assert isinstance(figure, Figure)
    left, right = figure.axes[:2]
    assert left.get_title() == f"{activation}: ordered (blue), {beyond} (red)"
    line = left.get_lines()[0].get_xydata()
    assert line.shape == (100, 2) and right.get_lines()


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_command_writes_a_figure(suffix: str, tmp_path: Path, capsys):
    out = tmp_path / f"relu.{suffix}"
    main(["--activation", "relu", "--out", str(out), "--points", "3"])
    assert out.stat().st_size > 1000
    assert capsys.readouterr().out == (
        f"wrote {out}; critical weight variance without biases: 2.0000\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--activation", "gelu"], "unknown activation 'gelu'; known: erf, relu, tanh"),
        (["--points", "1"], "points must be a whole number and at least 2, got 1"),
        (
            ["--max-weight-variance", "0"],
            "max_weight_variance must be positive and finite, got 0.0",
        ),
        (["--max-bias-variance", "nan"], "max_bias_variance must be positive and finite, got nan"),
        (["--out", "nowhere/x.png"], "--out 'nowhere/x.png': there is no folder 'nowhere'"),
        (["--out", "x.docx", "--points", "2"], "Format 'docx' is not supported"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    told = capsys.readouterr()
    assert stopped.value.code == 2 and told.out == ""
    assert told.err.startswith(f"error: {message}") and told.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_it_runs_as_a_module_without_a_warning():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-m", "darts_gdas.ntk.meanfield"]
    command += ["--activation", "swish"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: unknown activation 'swish'; known: erf, relu, tanh\n"
