import json

import pytest
import torch

from darts_gdas.tasks.confusion import Confusion

COUNTS = torch.tensor([[300, 0, 0], [3, 1, 0], [0, 0, 0]])
LOPSIDED = Confusion(COUNTS, ("many", "few", "none"))


def test_one_accuracy_hides_what_the_classes_say():
    """301 of 304 are right, and three quarters of the small class are wrong."""
    assert LOPSIDED.images == [300, 4, 0]
    assert LOPSIDED.accuracies == [1.0, 0.25, None]
    assert LOPSIDED.balanced_accuracy == pytest.approx((1 + 0.25) / 2)
    assert LOPSIDED.worst() == "'few', 25.00 % of 4 images"


def test_of_many_classes_the_matrix_is_left_out():
    told = json.loads(json.dumps(LOPSIDED.to_dict()))
    assert LOPSIDED.to_dict() == told  # a page is written before the file is
    assert told["confusion"] == COUNTS.tolist() and told["names"] == ["many", "few", "none"]
    assert LOPSIDED.to_dict(most=2) == {
        k: v for k, v in LOPSIDED.to_dict().items() if k != "confusion"
    }
