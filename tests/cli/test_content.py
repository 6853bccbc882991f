"""A finished run is compared with what lies there now, by content."""

import os
import shutil
from pathlib import Path

from PIL import Image

from darts_gdas.space import Genotype
from tests.cli.test_resume import TINY


def picture(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level, 255 - level, 40)).save(path)


def test_a_finished_run_on_other_data_of_the_same_path_is_refused(run, tmp_path: Path):
    for part in ("train", "test"):
        for i in range(8):
            picture(tmp_path / "photos" / part / "ab"[i % 2] / f"{i}.png", 30 * i)
    data = ("dataset=image_folder", "dataset.root=photos", "dataset.image_size=8")
    command = (*TINY, *data, "batch_size=2", "run_dir=mine", "resume=auto")
    assert run("search.py", *command)[0] == 0
    done = "mine has finished already; nothing to resume\n"
    assert run("search.py", *command)[:2] == (0, done)
    touched = tmp_path / "photos" / "train" / "a" / "0.png"
    os.utime(touched, (0, 0))  # the same content: looked at once, and known from then on
    kept = (tmp_path / "mine" / "content.json").read_text()
    assert run("search.py", *command)[:2] == (0, done)
    assert (tmp_path / "mine" / "content.json").read_text() != kept
    picture(touched, 255)
    status, out, err = run("search.py", *command)
    assert status == 2 and out == "" and "error: mine has finished with other data than" in err
    shutil.rmtree(tmp_path / "photos")  # nothing to compare with
    assert run("search.py", *command)[:2] == (0, done)


def test_a_finished_retraining_of_another_cell_of_the_same_name_is_refused(run, tmp_path: Path):
    cell = tmp_path / "cell.json"
    cell.write_text(Genotype.load("DARTS_V2").to_json())
    small = ("net.channels=2", "net.layers=3", "epochs=1", "dataset.test_fraction=0.9")
    command = ("genotype=cell.json", *small, "run_dir=mine", "resume=auto")
    assert run("train.py", *command)[0] == 0
    assert run("train.py", *command)[0] == 0
    cell.write_text(Genotype.load("GDAS_V1").to_json())
    status, _, err = run("train.py", *command)
    assert status == 2 and "mine has finished with another cell than what lies there now" in err
