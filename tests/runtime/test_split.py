import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from darts_gdas.runtime.split import class_share, split_in_two, stratified_split


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
@settings(deadline=None, max_examples=50)
def test_parts_are_disjoint_complete_sorted_and_stratified(labels, fraction, seed):
    tensor = torch.tensor(labels)
    first, second = stratified_split(tensor, fraction, seed)
    assert sorted(first.tolist() + second.tolist()) == list(range(len(labels)))
    assert first.tolist() == sorted(first.tolist())
    assert second.tolist() == sorted(second.tolist())
    for label in set(labels):
        n, in_first = labels.count(label), int((tensor[first] == label).sum())
        if n == 1:
            assert in_first in (0, 1)
        else:
            assert in_first == min(max(round(fraction * n), 1), n - 1)


def test_split_is_a_function_of_its_seed():
    labels = torch.arange(200) % 4
    parts = [stratified_split(labels, 0.5, seed)[0].tolist() for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_split_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    stratified_split(torch.arange(20) % 2, 0.5, seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_every_image_is_equally_likely_to_be_in_the_first_part():
    labels, num_seeds = torch.arange(12) % 2, 2000
    hits = torch.zeros(12)
    for seed in range(num_seeds):
        hits[stratified_split(labels, 1 / 3, seed)[0]] += 1
    sigma = (1 / 3 * 2 / 3 / num_seeds) ** 0.5
    assert_close(hits / num_seeds, torch.full((12,), 1 / 3), atol=4.5 * sigma, rtol=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fraction_must_leave_two_parts(fraction: float):
    with pytest.raises(ValueError, match=f"between 0 and 1, got {fraction}"):
        stratified_split(torch.tensor([0, 1]), fraction, seed=0)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
@settings(deadline=None, max_examples=50)
def test_a_share_is_of_every_class_and_leaves_none_out(labels, fraction, seed):
    tensor = torch.tensor(labels)
    chosen = class_share(tensor, fraction, seed)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert torch.equal(chosen, class_share(tensor, fraction, seed))
    for label in set(labels):
        n, taken = labels.count(label), int((tensor[chosen] == label).sum())
        assert taken == (1 if n == 1 else min(max(round(fraction * n), 1), n - 1))


def test_another_seed_is_another_share():
    labels = torch.arange(200) % 4
    assert class_share(labels, 0.1, 0).tolist() != class_share(labels, 0.1, 1).tolist()


def test_two_parts_need_two_images_of_a_class():
    first, second = split_in_two(torch.tensor([0, 0, 1]), 0.2, 0, "dataset.test_fraction")
    assert first.tolist() in ([0], [1]) and len(second) == 2
    for fraction in (0.2, 0.8):  # nothing is left for one part, or for the other
        with pytest.raises(
            ValueError,
            match=rf"^weights_fraction={fraction} cannot split 4 images of 4 classes in two: at "
            "least 2 images of a class are needed",
        ):
            split_in_two(torch.arange(4), fraction, 0, "weights_fraction")
