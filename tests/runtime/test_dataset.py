"""What errors say of a data set's size."""

import pytest

from darts_gdas.runtime.dataset import Dataset, needing_size
from darts_gdas.runtime.datasets import Digits, ImageFolder
from darts_gdas.runtime.formats import MedMnist, Npz


@pytest.mark.parametrize(
    ("dataset", "remedy"),
    [
        (ImageFolder(), "see dataset.image_size"),
        (MedMnist(), "see dataset.size"),
        (Npz(), "see dataset.layout"),
        (Digits(), "those of this data set have one size"),
    ],
)
def test_a_size_that_is_too_small_names_a_setting_that_there_is(dataset: Dataset, remedy: str):
    with pytest.raises(ValueError, match=rf"^too small; {remedy}$"), needing_size(dataset):
        raise ValueError("too small")
