import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from darts_gdas.runtime.images import ImageSet
from darts_gdas.tasks.answers import Answers
from darts_gdas.tasks.mistakes import MOST, SIDE, thumbnail, write_mistakes


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def answers_to(labels: torch.Tensor) -> Answers:
    """Two of three are wrong, and later ones surer."""
    said = (labels + torch.tensor([0, 1, 1]).repeat(len(labels) // 3)) % 3
    return Answers(said, torch.linspace(0.5, 0.9, len(labels)).double(), labels)


def test_the_surest_mistakes_are_told_and_their_pictures_are_the_images(tmp_path: Path):
    labels = torch.arange(6) % 3
    pixels = torch.arange(6 * 3 * 4 * 5, dtype=torch.int64).view(6, 3, 4, 5).to(torch.uint8)
    names = tuple(f"test/{i}.png" for i in range(6))
    images = ImageSet(pixels, labels, ("a", "b", "c"), names=names)
    (tmp_path / "mistakes").mkdir()
    (tmp_path / "mistakes" / "09.png").write_bytes(b"of an end before")
    found = write_mistakes(tmp_path, images, answers_to(labels))
    assert [mistake["index"] for mistake in found] == [5, 4, 2, 1]
    assert found[0] == {
        "index": 5, "file": "test/5.png", "class": "c", "said": "a",
        "confidence": pytest.approx(0.9), "picture": "mistakes/01.png",
    }  # fmt: skip
    for mistake in found:
        shown = pixels_of((tmp_path / mistake["picture"]).read_bytes())
        assert np.array_equal(shown, pixels[mistake["index"]].permute(1, 2, 0).numpy())
    assert len([*(tmp_path / "mistakes").iterdir()]) == 4


def test_of_many_mistakes_the_surest_are_kept_and_of_none_nothing(tmp_path: Path):
    labels = torch.arange(60) % 3
    images = ImageSet(torch.zeros(60, 1, 2, 2, dtype=torch.uint8), labels, ("a", "b", "c"))
    found = write_mistakes(tmp_path, images, answers_to(labels))
    assert len(found) == MOST and found[0]["index"] == 59 and "file" not in found[0]
    right = Answers(labels, torch.ones(60).double(), labels)
    assert write_mistakes(tmp_path, images, right) == []
    assert not [*(tmp_path / "mistakes").iterdir()]


@pytest.mark.parametrize(("channels", "shape"), [(1, (8, 64)), (3, (8, 64, 3)), (4, (8, 64))])
def test_large_pictures_are_scaled_down_and_bounded(channels: int, shape: tuple[int, ...]):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (channels, 32, 256), generator=generator, dtype=torch.uint8)
    content = thumbnail(noise)
    assert pixels_of(content).shape == shape and len(content) < 3 * SIDE**2 + 1000
    levels = thumbnail(torch.full((channels, 32, 256), 77, dtype=torch.uint8))
    assert (pixels_of(levels) == 77).all()
