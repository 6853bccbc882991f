"""Rankings as pictures."""

import math

import pytest

from darts_gdas.report.score_drawing import draw_scores


def test_every_score_has_a_panel_with_its_finite_values():
    scores = {"a": [1.0, 2.0, -math.inf], "b": [3.0, 1.0, 2.0]}
    figure = draw_scores(scores, [90.0, 91.0, 92.0], "accuracy")
    assert [axes.get_xlabel() for axes in figure.axes] == ["a", "b"]
    offsets = [axes.collections[0].get_offsets().tolist() for axes in figure.axes]  # type: ignore[attr-defined]
    assert offsets == [[[1, 90], [2, 91]], [[3, 90], [1, 91], [2, 92]]]


@pytest.mark.parametrize("scores", [{}, {"a": [1.0]}])
def test_scores_must_cover_the_cells(scores: dict):
    with pytest.raises(ValueError, match="every score needs 2 values"):
        draw_scores(scores, [1.0, 2.0], "accuracy")
