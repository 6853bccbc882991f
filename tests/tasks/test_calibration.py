"""Expected calibration error, against a loop and by hand."""

import json
import math
import random

import pytest
import torch

from darts_gdas.tasks.calibration import calibration


def slow_error(confidence: list[float], is_right: list[bool], bins: int) -> float:
    """Guo et al. 2017, eq. (3), image by image."""
    total = 0.0
    for m in range(1, bins + 1):
        members = [
            (p, hit)
            for p, hit in zip(confidence, is_right, strict=True)
            if (m - 1) / bins < p <= m / bins or (m == 1 and p == 0)
        ]
        if members:
            accuracy = sum(hit for _, hit in members) / len(members)
            total += len(members) * abs(accuracy - sum(p for p, _ in members) / len(members))
    return total / len(confidence)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_error_is_that_of_a_loop_over_images(bins: int):
    draw = random.Random(bins)
    confidence = [draw.random() for _ in range(400)] + [m / bins for m in range(bins + 1)]
    is_right = [draw.random() < p**2 for p in confidence]
    found = calibration(torch.tensor(confidence, dtype=torch.float64), torch.tensor(is_right), bins)
    assert found.error == pytest.approx(slow_error(confidence, is_right, bins), abs=1e-12)
    excess = (sum(confidence) - sum(is_right)) / len(confidence)
    assert found.excess == pytest.approx(excess, abs=1e-12)
    assert sum(found.images) == len(confidence)


def test_five_answers_by_hand():
    """Bins of a half: (0.4; 1 right) and (0.6, 0.7, 0.8, 0.9; 2 right)."""
    confidence = torch.tensor([0.4, 0.6, 0.7, 0.8, 0.9], dtype=torch.float64)
    found = calibration(confidence, torch.tensor([True, True, False, False, True]), 2)
    assert found.images == [1, 4]
    assert found.confidence == pytest.approx([0.4, 0.75])
    assert found.accuracy == [1.0, 0.5]
    assert found.error == pytest.approx((0.6 + 4 * 0.25) / 5)
    assert found.excess == pytest.approx((-0.6 + 4 * 0.25) / 5)


def test_an_edge_counts_in_the_lower_bin_and_empty_bins_have_no_means():
    confidence = torch.tensor([1 / 3, 1.0], dtype=torch.float64)
    found = calibration(confidence, torch.tensor([False, True]), 3)
    assert found.images == [1, 0, 1] and found.accuracy == [0.0, None, 1.0]
    told = json.loads(json.dumps(found.to_dict()))
    assert told["confidence"] == [1 / 3, None, 1.0]
    assert math.isclose(told["error"], 1 / 6)
