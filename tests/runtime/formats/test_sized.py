"""Pictures that are in no files of their own become images of one size."""

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from darts_gdas.runtime.formats.sized import Sample, SizedSet

RNG = np.random.default_rng(0)


@dataclass(kw_only=True)
class Given(SizedSet):
    samples: list = field(default_factory=list)

    def load(self):
        return self.pair({"train": lambda: self.decoded(iter(self.samples), (), "train")})


def picture(*shape: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


def sample(image: Image.Image, label: object = 0, *, encode: bool = False) -> Sample:
    if not encode:
        return Sample(image, label, "this one")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return Sample(buffer.getvalue(), label, "this one")


@pytest.mark.parametrize("encode", [True, False])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_pictures_of_one_size_stay_as_they_are(encode: bool, shape: tuple[int, ...]):
    pictures = [picture(*shape) for _ in range(300)]  # more than are decoded at once
    samples = [sample(one, i % 2, encode=encode) for i, one in enumerate(pictures)]
    found = Given().decoded(samples, ("a", "b"), "train")
    expected = np.stack([np.asarray(one).reshape(6, 5, -1) for one in pictures])
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), expected)
    assert found.labels.tolist() == [0, 1] * 150 and found.file_of(3) == "this one"


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        (
            [(6, 5), (5, 6)],
            {},
            "must have one size, got 5x6 and 6x5 .this one.; pass dataset.image_s",
        ),
        (
            [(6, 5), (6, 5, 3)],
            {},
            "first picture is grey, this one is not; pass dataset.channels=3",
        ),
        ([(60, 50)] * 400, {"max_gigabytes": 1e-6}, "of 256 pictures and more take more than"),
        ([], {}, "train: labels: there are no images"),
        ([(6, 5)], {"value_range": [0, 9]}, "value_range has no effect: this one of train has 8"),
    ],
)
def test_pictures_that_do_not_go_together_are_told(samples, settings, message: str):
    with pytest.raises(ValueError, match=message):
        Given(samples=[sample(picture(*shape)) for shape in samples], **settings).load()


def test_what_cannot_be_decoded_is_named():
    whole = sample(picture(60, 50), encode=True)
    for content in (whole.source[:200], b"", b"no picture"):
        broken = Sample(content, 0, "the second")
        with pytest.raises(ValueError, match=r"^train holds no readable picture in the second"):
            Given(samples=[whole, broken]).load()
    with pytest.raises(ValueError, match=r"this one .it has 0 megapixels; .*max_megapixels=1"):
        Given(samples=[whole], max_megapixels=0.001).load()


def test_values_of_sixteen_bits_have_a_declared_range():
    values = np.array([[0, 1000], [500, 2000]], dtype=np.uint16)
    samples = [sample(Image.fromarray(values), i, encode=True) for i in (0, 1)]
    with pytest.raises(ValueError, match=r"pass dataset.value_range=\[BLACK,WHITE\]"):
        Given(samples=samples).load()
    found = Given(value_range=[0, 1000]).decoded(samples, (), "train")
    assert found.images[0].tolist() == [[[0, 255], [128, 255]]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "dataset.image_size must be at least 1 pixel, got 0"),
        ({"image_width": 9}, "dataset.image_width needs dataset.image_size beside it"),
        ({"channels": 4}, r"dataset.channels must be 3 \(colour\) or 1 \(grey\), got 4"),
        ({"max_gigabytes": 0.0}, "dataset.max_gigabytes must be positive, got 0.0"),
        ({"max_megapixels": -1.0}, "dataset.max_megapixels must be positive, got -1.0"),
    ],
)
def test_impossible_settings_are_refused_at_once(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Given(**settings)
