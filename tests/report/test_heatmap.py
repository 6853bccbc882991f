from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Affine2D

from darts_gdas.report.heatmap import SLANT, draw_probabilities
from darts_gdas.space import DARTS_CANDIDATES, CellSpace


def probabilities(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(shape[1]), size=shape[0])


def drawn(figure: Figure) -> list[Text]:
    return [text for text in figure.axes[0].texts if text.get_text()]


def numbers(figure: Figure) -> list[str]:
    return [text.get_text() for text in drawn(figure) if "." in text.get_text()]


def rows(figure: Figure) -> list[str]:
    return [text.get_text() for text in drawn(figure) if "rightarrow" in text.get_text()]


def corners(text: Text, renderer) -> np.ndarray:
    """The four corners of a text's own, turned rectangle."""
    angle = text.get_rotation()
    text.set_rotation(0)
    box = text.get_window_extent(renderer).corners()[[0, 1, 3, 2]]
    text.set_rotation(angle)
    return (
        Affine2D()
        .rotate_deg_around(*text.get_transform().transform(text.get_position()), angle)
        .transform(box)
    )


def is_apart(a: np.ndarray, b: np.ndarray) -> bool:
    """Separating axis theorem for two convex polygons, `corners x 2`."""
    for polygon in (a, b):
        for side in np.roll(polygon, 1, axis=0) - polygon:
            normal = np.array([-side[1], side[0]])
            if (a @ normal).max() <= (b @ normal).min() or (b @ normal).max() <= (a @ normal).min():
                return True
    return False


@pytest.mark.parametrize(
    ("num_nodes", "num_inputs", "candidates", "title"),
    [
        (4, 2, DARTS_CANDIDATES, "normal cell"),
        (8, 2, DARTS_CANDIDATES, ""),
        (1, 1, ("skip_connect",), "A title that is wider than the whole table"),
        (3, 1, ("none", "an_operation_with_quite_a_long_name", "nor_conv_3x3"), "reduce"),
    ],
)
def test_texts_never_overlap(
    num_nodes: int, num_inputs: int, candidates: tuple[str, ...], title: str
):
    edges = CellSpace(candidates, num_nodes, num_inputs, keep=1).edges
    values = probabilities((len(edges), len(candidates)))
    figure = draw_probabilities(values, edges, candidates, num_inputs=num_inputs, title=title)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    outlines = [corners(text, canvas.get_renderer()) for text in drawn(figure)]
    assert all(is_apart(a, b) for a, b in combinations(outlines, 2))
    everything = np.concatenate(outlines)
    assert (everything >= 0).all() and (everything <= figure.bbox.max).all()


def test_rows_columns_and_numbers_stand_in_order():
    values = np.array([[0.25, 0.75], [1.0, 0.0], [0.125, 0.875]])
    edges, names = [(0, 0), (0, 1), (1, 2)], ("skip_connect", "sep_conv_3x3")
    figure = draw_probabilities(values, edges, names)
    assert numbers(figure) == ["0.25", "0.75", "1.00", "0.00", "0.12", "0.88"]
    assert rows(figure) == [
        r"$c_{k{-}2} \rightarrow 0$",
        r"$c_{k{-}1} \rightarrow 0$",
        r"$0 \rightarrow 1$",
    ]
    columns = [text.get_text() for text in drawn(figure) if text.get_rotation() == SLANT]
    assert columns == ["skip", "sep conv 3\u00d73"]
    heights = [text.get_position()[1] for text in drawn(figure) if "rightarrow" in text.get_text()]
    assert heights == sorted(heights) and figure.axes[0].yaxis_inverted()


def test_the_largest_of_a_row_is_bold():
    figure = draw_probabilities(np.array([[0.2, 0.8], [0.6, 0.4]]), [(0, 0), (0, 1)], "ab")
    bold = [text.get_text() for text in drawn(figure) if text.get_fontweight() == "bold"]
    assert bold == ["0.80", "0.60"]


def test_absent_candidates_are_blank():
    values = np.array([[np.nan, 1.0], [np.nan, np.nan]])
    figure = draw_probabilities(values, [(0, 0), (0, 1)], "ab")
    assert numbers(figure) == ["1.00"]
    table = figure.axes[0].collections[0]
    assert isinstance(table, QuadMesh)
    assert np.ma.getmaskarray(table.get_array()).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("value", [0.1, 0.9])
def test_the_shades_run_from_0_to_1_whatever_the_values(value: float):
    figure = draw_probabilities(np.full((2, 2), value), [(0, 0), (0, 1)], "ab")
    assert [mesh.get_clim() for mesh in figure.axes[0].collections] == [(0, 1), (0, 1)]


def test_lines_part_the_nodes():
    edges = CellSpace(DARTS_CANDIDATES).edges
    figure = draw_probabilities(probabilities((14, 8)), edges, DARTS_CANDIDATES)
    heights = [line.get_ydata()[0] for line in figure.axes[0].lines]
    row = np.diff(
        sorted(
            {text.get_position()[1] for text in drawn(figure) if "rightarrow" in text.get_text()}
        )
    )[0]
    assert np.allclose(np.array(heights) / row, [2, 5, 9])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 3)), r"\(2, 2\) here .* got \(2, 3\)"),
        (np.ones(4), r"\(2, 2\) here .* got \(4,\)"),
        (np.array([[0.5, 0.5], [-1.0, 2.0]]), r"lie in 0\.\.1, got -1\.\.2; pass them after"),
        (np.array([[0.5, 0.5], [np.inf, 0.0]]), r"lie in 0\.\.1, got 0\.\.inf"),
    ],
)
def test_what_is_no_table_of_probabilities_is_refused(values: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        draw_probabilities(values, [(0, 0), (0, 1)], "ab")


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match=r"at least \(1, 1\)"):
        draw_probabilities(np.ones((0, 0)), [], [])
