"""Names of pictures below a folder, whoever lists them, against a slow walk."""

import os
import re
import time
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from PIL import Image

from darts_gdas.runtime.dataset import DataFault
from darts_gdas.runtime.decoders import Decoders
from darts_gdas.runtime.folder import ImageFolder, Storage
from darts_gdas.runtime.listing import SUFFIXES, PassedOver, listed
from darts_gdas.runtime.picture_files import Files
from darts_gdas.runtime.stream import FileSet

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
    (folder / ".round").symlink_to(".round")  # as editors and syncs leave them
    return tmp_path


def made_of(root: Path, *, workers: int = 0, **settings: object) -> tuple[FileSet, FileSet]:
    told = {"image_size": 8, "storage": Storage.stream, "workers": workers, **settings}
    train, test = ImageFolder(root=str(root), **told).load()
    assert isinstance(train, FileSet) and isinstance(test, FileSet)
    return train, test


def walked(folder: Path) -> list[str]:
    """Its pictures in order, by questions about each path."""
    paths = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.is_dir() and path.name != "round":
            paths += walked(path)
        elif path.is_file() and path.name not in ("notes", ".hidden.png", ".round"):
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


def test_a_digest_knows_nothing_of_files_that_are_not_in_the_set(tree: Path):
    half = made_of(tree, fraction=0.5)
    kept = {path for part in half for path in part.files.paths}
    paths = made_of(tree)[0].files.paths
    unused = next(path for path in paths if path.endswith(".png") and path not in kept)
    os.rename(unused, f"{unused}.{60 * 'x'}.png")
    again = made_of(tree, fraction=0.5)
    assert {path for part in again for path in part.files.paths} == kept
    assert [part.digest() for part in again] == [part.digest() for part in half]


@pytest.mark.parametrize("root", [".", "./", "", "absolute"])
def test_paths_are_as_the_root_is_written(
    tree: Path, root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.chdir(tree)
    root = str(tree) if root == "absolute" else root or f"../{tree.name}/"
    start = {".": "", "./": ""}.get(root, root.rstrip("/") + "/")
    train, _ = made_of(Path(root))
    assert all(path.startswith(start + "train/") for path in train.files.paths)
    assert f"dead links (such as '{start}train/y/gone.png')" in caplog.text
    assert train.file_of(0) == "train/x/Z.png"


def test_paths_elsewhere_are_whole():
    labels = torch.zeros(2, dtype=torch.long)
    for paths in (["/data/a.png", "/data/b/c.png"], ["other/a.png", "/data/b.png"]):
        assert Files.of("/data", paths, labels).paths == paths
    assert Files.of("/data", ["/data/a.png", "/data/b"], labels).names.tolist() == [b"a.png", b"b"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_link_that_leads_nowhere_but_to_itself_is_named_in_one_error(tree: Path, workers: int):
    link = tree / "train" / "z" / "self.png"
    link.symlink_to("self.png")
    for _ in range(5):
        with pytest.raises(OSError, match=re.escape(f"symbolic links: {str(link)!r}")):
            made_of(tree, workers=workers)


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
    """Within seconds. A thread of the pool joins them, too: which one hears of an end is chance."""
    deadline = time.monotonic() + 20
    while (alive := bool(children & {*active_children()})) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive


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
