"""Parts of a data set: which is trained on, what it is tested on, and labels that can be right."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from darts_gdas.runtime.formats.splits import SplitSet, checked_labels, joined
from darts_gdas.runtime.images import ImageSet, checked_parts
from darts_gdas.runtime.look import remarks


@dataclass(kw_only=True)
class Named(SplitSet):
    def load(self):
        return self.pair(
            {
                "train": lambda: part([0, 1] * 5, 0),
                "val": lambda: part([1, 0], 100),
                "extra": lambda: part([1, 1, 1], 200),
            }
        )


def part(labels: list[int], first: int, names: tuple[str, ...] = ()) -> ImageSet:
    """Images whose only pixel counts from `first`."""
    pixels = torch.arange(first, first + len(labels), dtype=torch.uint8)
    return ImageSet(pixels.view(-1, 1, 1, 1), torch.tensor(labels), names)


def pixels(images) -> list[int]:
    return images.images.flatten().tolist()


def test_the_usual_parts_are_taken_and_others_where_they_are_asked_for():
    train, test = Named().load()
    assert pixels(train) == [*range(10)] and pixels(test) == [100, 101]
    assert train.classes == test.classes == ("0", "1")
    train, test = Named(train_split="extra+train", class_names=["no", "yes"]).load()
    assert pixels(train) == [200, 201, 202, *range(10)] and pixels(test) == [100, 101]
    assert train.classes == ("no", "yes")


def test_without_a_part_for_testing_a_share_of_each_class_is_kept(caplog):
    with caplog.at_level(logging.WARNING):
        train, test = Named(train_split="train+val").load()
    assert "there is no part for testing: 0.2 of each class is kept" in caplog.text
    assert sorted(pixels(train) + pixels(test)) == [*range(10), 100, 101]
    assert test.labels.bincount().tolist() == [1, 1]
    caplog.clear()
    _, test = Named(train_split="train+val", test_fraction=0.5).load()
    assert test.labels.bincount().tolist() == [3, 3] and not caplog.text


def test_one_image_of_each_class_cannot_be_split():
    with pytest.raises(ValueError, match=r"dataset.test_fraction=0.2 cannot split 5 images of 5 c"):
        Named().kept_for_testing(torch.arange(5))


def test_a_fraction_is_of_what_is_trained_on_alone():
    train, test = Named(fraction=0.4).load()
    assert train.labels.bincount().tolist() == [2, 2] and len(test) == 2
    assert pixels(train) == pixels(Named(fraction=0.4).load()[0])
    assert pixels(train) != pixels(Named(fraction=0.4, seed=1).load()[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"train_split": "trian"},
            r"train_split must be of 'train', 'val', 'extra', .*got 'trian'",
        ),
        ({"test_split": "all"}, r"test_split must be of 'train', 'val', 'extra', .*got 'all'"),
        ({"train_split": "train+train"}, r"train_split='train\+train' must name each part once"),
        ({"test_split": "val+val"}, r"test_split='val\+val' must name each part once"),
        ({"test_split": "val+train"}, r"test_split must not be trained on, but 'train' is"),
        ({"test_fraction": 0.1}, r"test_fraction=0.1 has no effect: 'val' holds the images for"),
        ({"class_names": ["one"]}, r"dataset.class_names names 1 classes, but a label is 1"),
    ],
)
def test_parts_that_cannot_be_are_told(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Named(**settings).load()


AIRCRAFT = ("trainval", "train", "val", "test")


def test_a_part_that_holds_another_is_not_tested_on_it():
    """FGVCAircraft's `trainval` is its `train` and `val` together."""
    assert Named().chosen(AIRCRAFT) == (["trainval"], ["test"])
    assert Named().chosen(AIRCRAFT[:3]) == (["trainval"], [])  # a share is kept, not `val`
    assert Named(train_split="train").chosen(AIRCRAFT) == (["train"], ["test"])
    assert Named(train_split="train").chosen(AIRCRAFT[:3]) == (["train"], ["val"])
    assert Named(train_split="train", test_split="val").chosen(AIRCRAFT) == (["train"], ["val"])
    for train, test, shared in (
        ("trainval", "val", "val"),
        ("train", "trainval", "train"),
        ("trainval", "test+train", "train"),
    ):
        told = rf"not be trained on, but '{shared}' is, as a part of 'trainval'$"
        with pytest.raises(ValueError, match=told):
            Named(train_split=train, test_split=test).chosen(AIRCRAFT)
    with pytest.raises(ValueError, match=r"train_split='val\+trainval' .* once, got 'val'"):
        Named(train_split="val+trainval").chosen(AIRCRAFT)
    places = ("train-standard", "train-challenge", "val")
    with pytest.raises(ValueError, match="but 'train-standard' is, as a part of"):
        Named(test_split="train-challenge").chosen(places)


@pytest.mark.parametrize("name", ["test", "testing", "eval", "val", "validation", "dev"])
def test_a_part_for_testing_is_trained_on_only_if_it_is_asked_for(name: str):
    with pytest.raises(ValueError, match=rf"train_split must name one of the .* are '{name}'$"):
        Named().chosen([name])
    assert Named(train_split=name).chosen([name]) == ([name], [])
    assert Named().chosen([name, "training"]) == (["training"], [name])
    assert Named().chosen(["photos"]) == (["photos"], [])


def test_classes_of_one_name_are_refused_or_numbered():
    """A user may not give them; ImageNet has two kinds of cranes."""
    with pytest.raises(ValueError, match=r"class_names: each class must .*, got 'a' twice$"):
        Named(class_names=["a", "b", "a"])
    names = Named().classes([("crane", "dog", "crane")], [torch.tensor([0, 2, 1])])
    assert names == ("crane (0)", "dog", "crane (2)")
    with pytest.raises(ValueError, match="name of its own, got 'x' twice"):
        checked_parts((part([0, 1], 0, ("x", "x")), part([0, 1], 0, ("x", "x"))))


@pytest.mark.parametrize(("name", "value"), [("fraction", 0.0), ("test_fraction", 1.0)])
def test_impossible_settings_are_refused_at_once(name: str, value: float):
    with pytest.raises(ValueError, match=f"dataset.{name} must lie"):
        Named(**{name: value})


def test_a_root_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="but none is given"):
        Named().place()
    with pytest.raises(ValueError, match=r"there is nothing at '.*gone'"):
        Named(root=str(tmp_path / "gone")).place()
    assert Named(root=str(tmp_path)).place() == tmp_path


def test_parts_of_other_classes_are_told():
    chosen = Named()
    with pytest.raises(ValueError, match=r"of the same classes, got \('a', 'b'\) and \('a', 'c'\)"):
        chosen.classes([("a", "b"), ("a", "c")], [torch.tensor([0, 1])])
    with pytest.raises(ValueError, match="must count the classes from 0; the largest of 2 is 70"):
        chosen.classes([()], [torch.tensor([0, 70])])
    with pytest.raises(ValueError, match="parts that are joined must be alike"):
        joined([part([0], 0, ("a",)), part([0], 0, ("b",))])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1], r"one number for each of the 3 images, got shape \[2\]"),
        ([[0, 1], [1, 0], [0, 1]], r"one number for each of the 3 images, got shape \[3, 2\]"),
        ([0, -1, -1], "must count the classes from 0, got -1 for 2 of 3 images; leave out images"),
        (
            np.array([0, 1, 2**63], np.uint64),
            "must count the classes from 0, got 9223372036854775808",
        ),
        ([0.0, 1.0, np.nan], "must be whole numbers, got float64"),
        (["a", "b", "c"], "must be whole numbers, got <U1"),
        ([0, None, 1], "must be whole numbers, got object"),
    ],
    ids=repr,
)
def test_labels_that_cannot_be_right_are_told(values: list, message: str):
    with pytest.raises(ValueError, match=rf"^these .*{message}"):
        checked_labels(values, 3, "these")


def test_a_class_that_is_only_tested_on_is_refused():
    """A network would have an output for it that never learns."""

    @dataclass(kw_only=True)
    class Lacking(SplitSet):
        def load(self):
            test = part([0, 2, 3, 4, 5], 9)
            return self.pair({"train": lambda: part([0, 1, 1], 0), "test": lambda: test})

    with pytest.raises(ValueError, match=r"no images for training of '2', '3', '4', and 1 more$"):
        Lacking().load()
    names = [*"abcdef", "never"]
    with pytest.raises(ValueError, match=r"of 'c', 'd', 'e', and 1 more$"):
        Lacking(class_names=names).load()
    train, test = Named(class_names=["no", "yes", "never"]).load()  # may be lacking in both
    assert "there are no training images of class 'never'" in remarks(train, test)


def test_labels_are_taken_as_numpy_and_medmnist_have_them():
    expected = torch.tensor([2, 0])
    assert_close(checked_labels([2, 0], 2, ""), expected)
    assert_close(checked_labels(np.array([[2], [0]], dtype=np.uint8), 2, ""), expected)
    with pytest.raises(ValueError, match="there are no images"):
        checked_labels([], 0, "none")
