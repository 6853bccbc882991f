"""Folders that the package datasets has written: saved sets, and parquet as on the hub."""

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darts_gdas.runtime.formats.huggingface import HuggingFace
from darts_gdas.runtime.look import loaded

pytestmark = [pytest.mark.formats, pytest.mark.filterwarnings("ignore")]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def package():
    return pytest.importorskip(
        "datasets", reason="needs datasets: pip install 'darts-gdas[datasets]'"
    )


@pytest.fixture(scope="module")
def pixels() -> dict[str, np.ndarray]:
    return {p: RNG.integers(0, 256, (n, 8, 10, 3), dtype=np.uint8) for p, n in COUNTS.items()}


COUNTS = {"train": 20, "validation": 8, "test": 10}


def parts(package, pixels, image="image", label="label"):
    names = package.ClassLabel(names=["cat", "dog"])
    features = package.Features({image: package.Image(), label: names})
    return {
        part: package.Dataset.from_dict(
            {
                image: [Image.fromarray(x) for x in values],
                label: [i % 2 for i in range(len(values))],
            },
            features=features,
        )
        for part, values in pixels.items()
    }


def save(found, folder: Path, form: str, package) -> str:
    if form == "saved":
        package.DatasetDict(found).save_to_disk(folder)
    else:
        (folder / "data").mkdir(parents=True)
        for part, rows in found.items():
            rows.to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")
    return str(folder)


@pytest.mark.parametrize("form", ["saved", "parquet"])
def test_a_folder_is_read_as_it_was_written(form: str, package, pixels, tmp_path: Path):
    root = save(parts(package, pixels, "img", "fine"), tmp_path / "set", form, package)
    for part, name in zip(loaded(HuggingFace(root=root)), ("train", "test"), strict=True):
        assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), pixels[name])
        assert part.labels.tolist() == [0, 1] * (len(pixels[name]) // 2)
        assert part.classes == ("cat", "dog")
    chosen = HuggingFace(root=root, test_split="validation", image_size=6, channels=1)
    train, test = chosen.load()
    assert train.shape == (1, 6, 6) and len(test) == 8


def test_a_single_set_is_split(package, pixels, tmp_path: Path):
    parts(package, pixels)["train"].save_to_disk(tmp_path)
    train, test = HuggingFace(root=str(tmp_path), test_fraction=0.2).load()
    assert (len(train), len(test)) == (16, 4)


def test_parquet_of_plain_bytes_is_read_where_the_columns_are_named(
    package, pixels, tmp_path: Path
):
    import pyarrow
    import pyarrow.parquet

    def encoded(values) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        return buffer.getvalue()

    rows = {"photo": [encoded(x) for x in pixels["test"]], "kind": [i % 2 for i in range(10)]}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "train.parquet")
    root = str(tmp_path)
    with pytest.raises(
        ValueError, match=r"image_column must name one of the columns 'photo', 'kind'"
    ):
        HuggingFace(root=root, test_fraction=0.2).load()
    named = {"image_column": "photo", "label_column": "kind"}
    train, test = HuggingFace(root=root, **named, test_fraction=0.2).load()
    assert (len(train), len(test)) == (8, 2) and train.classes == ("0", "1")


def test_no_server_is_asked_and_the_process_is_left_as_it_was(
    package, pixels, tmp_path: Path, monkeypatch
):
    import huggingface_hub.constants as hub

    root = save(parts(package, pixels), tmp_path / "set", "parquet", package)
    asked = []
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(package.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *at, **_: asked.append(at))
    environment = dict(os.environ)
    HuggingFace(root=root).load()
    with pytest.raises(ValueError, match="train_split must be of"):
        HuggingFace(root=root, train_split="more").load()
    assert not asked and (hub.HF_HUB_OFFLINE, package.config.HF_HUB_OFFLINE) == (False, False)
    assert dict(os.environ) == environment


def test_what_is_no_folder_and_a_configuration_without_effect_are_told(
    package, pixels, tmp_path: Path
):
    root = Path(save(parts(package, pixels), tmp_path / "set", "parquet", package))
    (file,) = root.glob("data/train-*.parquet")
    with pytest.raises(ValueError, match=r"parquet' must be the folder that holds the data, got a"):
        HuggingFace(root=str(file)).load()
    with pytest.raises(ValueError, match=r"cannot be read \(ValueError: BuilderConfig 'nonsense'"):
        HuggingFace(root=str(root), config="nonsense").load()
    saved = save(parts(package, pixels), tmp_path / "saved", "saved", package)
    with pytest.raises(
        ValueError, match=r"config='nonsense' has no effect: .* save_to_disk, which"
    ):
        HuggingFace(root=saved, config="nonsense").load()


def test_hidden_labels_and_damaged_files_are_one_line(package, pixels, tmp_path: Path):
    found = parts(package, pixels)
    found["test"] = found["test"].map(lambda row: {"label": -1})
    root = Path(save(found, tmp_path / "set", "parquet", package))
    with pytest.raises(ValueError, match=r"test: labels must count .*got -1 for 10 of 10 images"):
        HuggingFace(root=str(root)).load()
    HuggingFace(root=str(root), test_split="validation").load()
    (file,) = root.glob("data/train-*.parquet")
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"^dataset.root='.*cannot be read \(\w+: ") as error:
        HuggingFace(root=str(root)).load()
    assert "\n" not in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' cannot be read \(\w+: "):
        HuggingFace(root=str(tmp_path / "empty")).load()
