"""Names of pictures below a folder, whoever lists them, against a slow walk."""

import os
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from PIL import Image

from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.decoders import Decoders
from darts_gdas.runtime.folder import ImageFolder, Storage
from darts_gdas.runtime.listing import SUFFIXES, PassedOver, listed

NAMES = ["b.png", "a.PNG", "Z.png", "é.png", "zz.png", "\uf8ff.png", "a", "in/b.png", "in/a.png"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three classes for training, two of them for testing, with all that is passed over."""
    for part, classes in (("train", "xyz"), ("val", "zx")):
        for name in (f"{part}/{one}/{file}" for one in classes for file in NAMES):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 9).save(path, format="png")
    folder = tmp_path / "train" / "y"
    (folder / "notes").write_text("no picture")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "round").symlink_to("..")
    (folder / "more").symlink_to("../z/in")
    (folder / ".hidden.png").write_text("")
    return tmp_path


def walked(folder: Path) -> list[str]:
    """Its pictures in order, by questions about each path."""
    paths = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_dir() and path.name != "round":
            paths += walked(path)
        elif path.is_file() and path.name not in ("notes", ".hidden.png"):
            paths.append(str(path))
    return paths


def test_names_are_those_of_a_walk_in_the_order_of_texts(tree: Path):
    names, passed = listed(str(tree), str(tree / "train" / "y"))
    paths = [str(tree / os.fsdecode(name)) for name in names.tolist()]
    assert paths == walked(tree / "train" / "y") and len(paths) == len(NAMES) + 2
    left_out = {Path(path).name for paths in passed.found.values() for path in paths}
    assert left_out == {"notes", "gone.png", "round"}


def test_names_that_are_no_text_are_sorted_as_python_reads_them(tmp_path: Path):
    written = [b"\xff.png", "\uf8ff.png".encode(), b"z.png", "é.png".encode()]
    for name in written:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()
    names, _ = listed(str(tmp_path), str(tmp_path))
    assert names.tolist() == sorted(written, key=os.fsdecode) != sorted(written)


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
def test_processes_list_what_this_one_does(
    tree: Path, workers: int, caplog: pytest.LogCaptureFixture
):
    settings = {"root": str(tree), "image_size": 8}
    alone = ImageFolder(**settings, storage=Storage.memory).load()
    told = caplog.messages[0]
    caplog.clear()
    spread = ImageFolder(**settings, storage=Storage.stream, workers=workers).load()
    assert "passed over below dataset.root: 1 dead links" in told == caplog.messages[0]
    for one, other in zip(alone, spread, strict=True):
        assert one.labels.tolist() == other.labels.tolist() and one.classes == other.classes
        assert [*map(one.file_of, range(len(one)))] == [*map(other.file_of, range(len(other)))]
    train = [path for one in "xyz" for path in walked(tree / "train" / one)]
    assert spread[0].files.paths == train


def test_notes_of_several_are_those_of_one_after_another():
    first, second, both = PassedOver(), PassedOver(), PassedOver()
    for passed, names in ((first, "ab"), (second, "cd")):
        for name in names:
            passed.add("dead links", name)
            both.add("dead links", name)
    second.add("special files", "e")
    both.add("special files", "e")
    first.update(second)
    assert first == both and "4 dead links (such as 'a'), 1 special files" in str(first.words())


def are_gone(children: set[BaseProcess]) -> bool:
    for process in children:
        process.join(10)
    return not children & {*active_children()}


def test_a_folder_that_is_refused_leaves_no_process(tree: Path):
    before = {*active_children()}
    (tree / "train" / "empty").mkdir()
    made = ImageFolder(root=str(tree), storage=Storage.stream, workers=2)
    with pytest.raises(ValueError, match=r"but '.*empty' has none") as refused:
        made.load()
    assert are_gone({*active_children()} - before), refused.traceback  # which is still held


def test_what_a_process_is_told_to_do_and_cannot_is_its_own_error():
    before, made = {*active_children()}, Decoders(2)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        made.map(os.listdir, [".", "nowhere"])
    assert made.map(len, ["", "a", "ab"]) == [0, 1, 2] == Decoders(0).map(len, ["", "a", "ab"])
    children = {*active_children()} - before
    with pytest.raises(DataFault, match=r"has died: killed .*\(dataset\.workers=2\)$"):
        made.map(os._exit, [1, 1])
    assert len(children) == 2 and are_gone(children)


def starved(_: int) -> None:
    raise MemoryError


def test_a_process_without_memory_is_one_error():
    with pytest.raises(DataFault, match=r"has no memory left; pass fewer"):
        Decoders(1).map(starved, [1])


def test_endings_are_in_either_case(tmp_path: Path):
    for i, suffix in enumerate(SUFFIXES):
        for ending in {suffix, suffix.upper(), suffix.title()}:
            (tmp_path / f"{i}{ending}").touch()  # empty: the ending alone tells
    (tmp_path / "none.txt").touch()
    names, passed = listed(str(tmp_path), str(tmp_path))
    assert len(names) == len(list(tmp_path.iterdir())) - 1
    assert passed.found == {
        "files without a picture that can be read": [str(tmp_path / "none.txt")]
    }
