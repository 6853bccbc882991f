import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from darts_gdas.runtime import augment
from darts_gdas.runtime.augment import Augment, Normalize, Place


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(*shape: int) -> Tensor:
    """Bytes from 1 to 255: no pixel looks like padding."""
    return torch.randint(1, 256, shape, generator=rng(9), dtype=torch.uint8)


def crop(image: Tensor, padding: int, row: int, column: int) -> Tensor:
    """One image [C, H, W], pixel by pixel."""
    out = torch.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            i, j = y + row - padding, x + column - padding
            if 0 <= i < height and 0 <= j < width:
                out[:, y, x] = image[:, i, j]
    return out


def is_some_crop_of_some_flip(changed: Tensor, image: Tensor, padding: int) -> bool:
    offsets = range(2 * padding + 1)
    return any(
        torch.equal(changed, crop(source, padding, row, column))
        for source in (image, image.flip(-1))
        for row in offsets
        for column in offsets
    )


@given(
    padding=st.integers(0, 3),
    channels=st.sampled_from([1, 3]),
    height=st.integers(4, 6),
    width=st.integers(4, 6),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_crop_equals_the_crop_pixel_by_pixel(padding, channels, height, width, seed):
    """The offsets are drawn anew here, in the order in which `geometric` draws them."""
    images = pixels(5, channels, height, width)
    changed = Augment(crop_padding=padding).geometric(images, rng(seed))
    if padding:
        offsets = torch.randint(2 * padding + 1, (2, 5, 1), generator=rng(seed)).squeeze(-1)
    else:
        offsets = torch.zeros(2, 5, dtype=torch.long)
    for image, out, row, column in zip(images, changed, *offsets.tolist(), strict=True):
        assert torch.equal(out, crop(image, padding, row, column))


@pytest.mark.parametrize("place", [None, Place(2, 9)], ids=str)
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
def test_windows_are_what_one_gather_takes(
    padding: int, flip: bool, place: Place | None, monkeypatch: pytest.MonkeyPatch
):
    images = pixels(6, 3, 9, 11)
    change = Augment(crop_padding=padding, flip=flip)
    gathered = change.geometric(images, rng(), place)
    monkeypatch.setattr(augment, "_LARGE", 0)
    assert torch.equal(change.geometric(images, rng(), place), gathered)
    assert torch.equal(gathered, images) == (not padding and not flip)


def test_crop_and_flip_are_each_some_crop_of_some_flip():
    images = pixels(40, 3, 5, 7)
    changed = Augment(crop_padding=2, flip=True).geometric(images, rng())
    pairs = zip(changed, images, strict=True)
    assert all(is_some_crop_of_some_flip(out, image, 2) for out, image in pairs)


def test_offsets_are_uniform_and_independent_of_each_other_and_of_the_flip():
    """Chi-square over the 2 * 3 * 3 outcomes of padding 1: mean 17, sigma sqrt(2 * 17)."""
    num_images = 3600
    image = torch.arange(1, 17, dtype=torch.uint8).view(1, 4, 4)
    outcomes = {
        tuple(crop(image.flip(-1) if is_flipped else image, 1, row, column).flatten().tolist()): 0
        for is_flipped in (False, True)
        for row in range(3)
        for column in range(3)
    }
    assert len(outcomes) == 18
    images = image.expand(num_images, 1, 4, 4)
    for out in Augment(crop_padding=1, flip=True).geometric(images, rng()):
        outcomes[tuple(out.flatten().tolist())] += 1
    expected = num_images / 18
    chi_square = sum((count - expected) ** 2 / expected for count in outcomes.values())
    assert chi_square < 17 + 5 * (2 * 17) ** 0.5


def test_flipping_twice_with_the_same_noise_changes_nothing():
    images, augment = pixels(32, 3, 4, 5), Augment(flip=True)
    once = augment.geometric(images, rng())
    assert not torch.equal(once, images)
    assert torch.equal(augment.geometric(once, rng()), images)


def test_half_of_the_images_are_flipped():
    images = pixels(1, 1, 1, 2).expand(10_000, 1, 1, 2)
    changed = Augment(flip=True).geometric(images, rng())
    share = (changed != images).any(-1).double().mean().item()
    assert abs(share - 0.5) < 4 * 0.5 / 10_000**0.5  # 4 sigma


def test_the_same_noise_moves_all_channels_alike():
    grey = pixels(8, 1, 6, 6)
    changed = Augment(crop_padding=2, flip=True).geometric(grey.expand(8, 3, 6, 6), rng())
    assert torch.equal(changed[:, 0], changed[:, 1])
    assert torch.equal(changed[:, 0], changed[:, 2])


def test_settings_of_zero_draw_nothing_and_copy_nothing():
    generator, images = rng(), pixels(4, 3, 5, 5)
    before = generator.get_state()
    assert Augment().geometric(images, generator) is images
    floats = images.float()
    assert Augment().erase(floats, generator) is floats
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 6])
def test_cutout_erases_a_clipped_square_around_a_uniform_centre(side: int, channels_last: bool):
    """DeVries and Taylor: rows from centre - side // 2, `side` of them, clipped to the image."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.ones(64, 3, 6, 7).contiguous(memory_format=layout)
    erased = Augment(cutout=side).erase(images, rng(1))
    assert erased.is_contiguous(memory_format=layout)
    assert torch.equal(images, torch.ones(64, 3, 6, 7))
    noise = rng(1)
    rows = torch.randint(6, (64, 1), generator=noise).flatten().tolist()
    columns = torch.randint(7, (64, 1), generator=noise).flatten().tolist()
    for out, row, column in zip(erased, rows, columns, strict=True):
        expected = torch.ones(3, 6, 7)
        top, left = row - side // 2, column - side // 2
        expected[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = 0
        assert torch.equal(out, expected)


def test_cutout_area_has_the_mean_of_a_clipped_square():
    """Rows and columns are independent: the mean area is the mean overlap squared."""
    side, size, num_images = 4, 8, 20_000
    overlaps = [min(c + 2, size) - max(c - 2, 0) for c in range(size)]  # of each centre
    mean = (sum(overlaps) / size) ** 2
    variance = (sum(o * o for o in overlaps) / size) ** 2 - mean**2
    erased = Augment(cutout=side).erase(torch.ones(num_images, 1, size, size), rng())
    areas = (erased == 0).sum((1, 2, 3)).double()
    assert abs(areas.mean().item() - mean) < 4 * (variance / num_images) ** 0.5  # 4 sigma


@pytest.mark.parametrize("name", ["crop_padding", "cutout"])
def test_negative_pixels_are_refused(name: str):
    with pytest.raises(ValueError, match=rf"dataset\.augment\.{name} must be .* got -1"):
        Augment(**{name: -1})


def test_settings_that_leave_nothing_of_an_image_are_refused():
    Augment(crop_padding=7, cutout=7).check_size(8, 9)
    with pytest.raises(ValueError, match="crop_padding must be less than the image's 8 pixels"):
        Augment(crop_padding=8).check_size(8, 9)
    with pytest.raises(ValueError, match="cutout must be less than the image's 8 pixels, got 8"):
        Augment(cutout=8).check_size(9, 8)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalize_is_its_formula_in_float32(layout: torch.memory_format):
    images = pixels(4, 3, 5, 6).contiguous(memory_format=layout)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.25, 0.3])
    normalized = Normalize(mean, std)(images)
    expected = (images.double() / 255 - mean.double()[:, None, None]) / std.double()[:, None, None]
    assert normalized.is_contiguous(memory_format=layout)
    # values up to 5, of which a float32 holds 2^-24 * 8
    assert_close(normalized, expected.float(), atol=2e-6, rtol=0)


def test_normalize_moves():
    assert Normalize(torch.zeros(1), torch.ones(1)).to("cpu").std.device.type == "cpu"


def test_normalize_refuses_numbers_that_cannot_be_meant():
    with pytest.raises(ValueError, match=r"one value per channel each, got shapes \[3\] and \[1\]"):
        Normalize(torch.zeros(3), torch.ones(1))
    with pytest.raises(ValueError, match="std must be positive"):
        Normalize(torch.zeros(2), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match="images have 1 channels, but mean and std have 3"):
        Normalize(torch.zeros(3), torch.ones(3))(pixels(2, 1, 4, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_the_same_images():
    images = pixels(16, 3, 32, 32)
    augment = Augment(crop_padding=4, flip=True, cutout=16)
    normalize = Normalize(torch.full((3,), 0.5), torch.full((3,), 0.25))
    on_cpu, on_gpu = (
        augment.erase(normalize(augment.geometric(part, generator)), generator).cpu()
        for part, generator in ((images, rng()), (images.cuda(), rng()))
    )
    assert_close(on_cpu, on_gpu)
