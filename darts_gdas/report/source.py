"""Where the cell of a retraining came from, as its settings name it."""

import contextlib
import hashlib
from pathlib import Path

from darts_gdas.runtime.files import RunFolder
from darts_gdas.space import Genotype
from darts_gdas.space.genotype import is_written_out


def source_name(source: str) -> str:
    """The source in few words: a cell that was written out goes by digits of its own."""
    if not is_written_out(source):
        return source
    with contextlib.suppress(ValueError):  # however it is spelt
        source = Genotype.load(source).to_json()
    return f"cell {hashlib.sha256(source.encode()).hexdigest()[:6]}, written out"


def folder_of(source: str) -> Path | None:
    """The run folder that a source may be, or may lie in; None of a cell that is written out."""
    if is_written_out(source):
        return None  # its text may be too long for the name of a file
    path = Path(source)
    return path if path.is_dir() else path.parent


def search_folder(source: str) -> Path | None:
    """The finished run that a source names, or lies in."""
    folder = folder_of(source)
    if folder is None or not (folder / "overrides.yaml").exists():
        return None
    return folder if RunFolder(folder).result.exists() else None
