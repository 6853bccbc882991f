"""Tar shards that the package webdataset has written."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from darts_gdas.runtime.formats.webdataset import WebDataset, check_complete
from darts_gdas.runtime.look import loaded

NEEDS = "needs webdataset: pip install 'darts-gdas[datasets]'"
RNG = np.random.default_rng(0)
formats = pytest.mark.formats
pytestmark = pytest.mark.filterwarnings("ignore")  # the package leaves files open


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, np.ndarray]:
    """Two shards to train on and one to test on, 12 pictures each; returns the pixels."""
    package = pytest.importorskip("webdataset", reason=NEEDS)
    written = {}
    for name in ("train-000", "train-001", "test-000"):
        written[name] = RNG.integers(0, 256, (12, 8, 10, 3), dtype=np.uint8)
        with package.TarWriter(str(tmp_path / f"set-{name}.tar")) as writer:
            for i, pixels in enumerate(written[name]):
                writer.write({"__key__": f"{i:04}", "png": pixels, "cls": i % 3})
    return written


@formats
def test_shards_are_read_as_they_were_written(shards, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # every rank reads everything
    monkeypatch.setenv("RANK", "1")
    train, test = loaded(WebDataset(root=str(tmp_path)))
    both = np.concatenate([shards["train-000"], shards["train-001"]])
    assert np.array_equal(train.images.permute(0, 2, 3, 1).numpy(), both)
    assert np.array_equal(test.images.permute(0, 2, 3, 1).numpy(), shards["test-000"])
    assert train.labels.tolist() == [*range(3)] * 8 and train.classes == ("0", "1", "2")
    assert train.file_of(13) == "0001 of set-train-001.tar"
    (tmp_path / "._set-train-000.tar").write_bytes(b"what macOS adds")
    small, _ = WebDataset(root=str(tmp_path), image_size=4, channels=1).load()
    assert small.shape == (1, 4, 4)


@formats
@pytest.mark.parametrize("names", [("training", "testing"), ("train", "eval"), ("trainval", "dev")])
def test_parts_are_called_as_people_call_them_in_any_folder(names, shards, tmp_path: Path):
    """Also with an ending in capitals, and in a path that would be cut off as a URL."""
    folder = tmp_path / "a#b?c=%20" / "two"
    folder.mkdir(parents=True)
    for old, new in zip(("train-000", "test-000"), names, strict=True):
        (tmp_path / f"set-{old}.tar").rename(folder / f"{new}-000.TAR")
    train, test = loaded(WebDataset(root=str(folder.parent)))
    for part, name in ((train, "train-000"), (test, "test-000")):
        assert np.array_equal(part.images.permute(0, 2, 3, 1).numpy(), shards[name])


@formats
def test_shards_for_testing_alone_are_not_trained_on(shards, tmp_path: Path):
    for path in tmp_path.glob("set-train*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"train_split must name one of the parts that .* 'test'$"):
        WebDataset(root=str(tmp_path)).load()
    train, test = WebDataset(root=str(tmp_path), train_split="test", test_fraction=0.25).load()
    assert (len(train), len(test)) == (9, 3)


def member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(content)
    tar.addfile(about, io.BytesIO(content))


@formats
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["a.png", "b.cls"],
            r"'a' must have one picture and one member \.cls, got \.png; members of",
        ),
        (["a.1.png", "a.2.png"], r"got \.1\.png, \.2\.png; .*its name ends at the first dot"),
        (["a.png", "a.jpg", "a.cls"], r"one picture and one member \.cls, got \.png, \.jpg, \.cls"),
        (["a.cls"], r"one picture and one member \.cls, got \.cls"),
    ],
    ids=str,
)
def test_members_that_do_not_belong_together_are_named(names, message, tmp_path: Path):
    pytest.importorskip("webdataset", reason=NEEDS)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in names:
            member(tar, name, b"1")
    with pytest.raises(ValueError, match=message):
        WebDataset(root=str(tmp_path)).load()


@formats
@pytest.mark.parametrize("label", ["dog", "1_0", ""])
def test_labels_are_digits(label: str, shards, tmp_path: Path):
    path = tmp_path / "set-train-000.tar"
    with tarfile.open(path, "a") as tar:
        member(tar, "z.png", b"")
        member(tar, "z.cls", label.encode())
    with pytest.raises(ValueError, match=f"of 'z' must be a number in digits, got b'{label}'"):
        WebDataset(root=str(tmp_path)).load()


def tar_of(path: Path, count: int) -> bytearray:
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            member(tar, f"{i}.png", bytes([i + 1]) * 700)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("kept", [0, 100, 512, 900, 1536, 1600, 4096, 4608])
def test_a_shard_that_is_cut_off_is_told_wherever_that_is(kept: int, tmp_path: Path):
    """A member takes 3 blocks of 512 bytes; readers end at a header that is cut off, unsaid."""
    path = tmp_path / "a.tar"
    content = tar_of(path, 3)
    check_complete(path)
    path.write_bytes(content[:kept])
    with pytest.raises((ValueError, tarfile.TarError)):
        check_complete(path)


def test_a_picture_whose_name_begins_with_a_dot_is_told(tmp_path: Path):
    """Readers pass it over; so they do what macOS adds to a tar file, which is no picture."""
    path = tmp_path / "a.tar"
    for name, is_told in (("x/._0.png", False), (".DS_Store", False), ("x/.00077.png", True)):
        with tarfile.open(path, "w") as tar:
            member(tar, name, b"1")
        if is_told:
            with pytest.raises(ValueError, match=r"picture 'x/\.00077\.png' would be left out"):
                check_complete(path)
        else:
            check_complete(path)


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        (tarfile.LNKTYPE, "2.png", "is a link"),
        (tarfile.SYMTYPE, "2.png", "is a link"),
        (tarfile.REGTYPE, "__more__/2.png", "metadata"),
    ],
)
def test_a_picture_that_webdataset_passes_over_is_told(kind, name: str, why: str, tmp_path: Path):
    path = tmp_path / "train.tar"
    with tarfile.open(path, "w") as tar:
        member(tar, "1.png", b"1")
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "1.png"
        tar.addfile(info)
    with pytest.raises(ValueError, match=rf"{name}' would be left out, for .*{why}"):
        check_complete(path)


def test_a_shard_with_a_damaged_header_is_told(tmp_path: Path):
    path = tmp_path / "a.tar"
    content = tar_of(path, 3)
    content[1536] ^= 1  # of the second member's name
    path.write_bytes(content)
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["0.png"]  # the other two are passed over
    with pytest.raises(ValueError, match="cut off or damaged: members are lacking at its end"):
        check_complete(path)


def test_a_shard_of_no_members_is_whole_and_zeros_of_another_length_are_not(tmp_path: Path):
    """A writer that was given nothing leaves one record of zeros."""
    path = tmp_path / "a.tar"
    tar_of(path, 0)
    check_complete(path)
    for content in (bytes(512), bytes(1 << 20)):
        path.write_bytes(content)
        with pytest.raises((ValueError, tarfile.TarError)):
            check_complete(path)


@formats
def test_shards_that_are_empty_packed_or_of_no_part(shards, tmp_path: Path, caplog):
    tar_of(tmp_path / "set-train-002.tar", 0)
    tar_of(tmp_path / "more.tar", 1)
    train, _ = WebDataset(root=str(tmp_path)).load()
    assert len(train) == 24
    assert "1 of 5 shards are not read, for their names do not say" in caplog.text
    (tmp_path / "set-val-000.tar.gz").touch()
    with pytest.raises(ValueError, match=r"holds compressed shards, such as 'set-val-000.tar.gz'"):
        WebDataset(root=str(tmp_path)).load()


@formats
def test_a_damaged_shard_is_one_line(shards, tmp_path: Path):
    path = tmp_path / "set-train-001.tar"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"the shard '.*train-001.tar' cannot be read \(") as error:
        WebDataset(root=str(tmp_path)).load()
    assert "\n" not in str(error.value)


@formats
def test_a_folder_without_shards_is_told(tmp_path: Path):
    pytest.importorskip("webdataset", reason=NEEDS)
    with pytest.raises(ValueError, match=r"must be a folder with shards, \*.tar"):
        WebDataset(root=str(tmp_path)).load()
