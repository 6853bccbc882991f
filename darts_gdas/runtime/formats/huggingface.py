"""Folders of Hugging Face: what `datasets` has saved, and parquet files as they are on the hub."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, final

from darts_gdas.runtime.dataset import Pair
from darts_gdas.runtime.formats.owners import owner, reading
from darts_gdas.runtime.formats.sized import Sample, SizedSet
from darts_gdas.runtime.images import ImageSet

SAVED = ("dataset_dict.json", "state.json")
"""Files of a folder that `save_to_disk` has written."""

PICTURES, LABELS = ("image", "img", "picture"), ("label", "labels", "fine_label")
"""Names of columns where the types do not tell."""


@final
@dataclass(kw_only=True)
class HuggingFace(SizedSet):
    """A folder that `datasets` reads: one of `save_to_disk`, or of parquet files by their parts.

    Nothing is fetched, and no code of the folder is run. Pictures are decoded into memory, as those
    of a folder are: the orientation in EXIF is not applied, which `datasets` itself does.

    Attributes:
        root: The folder.
        config: Which of several configurations; null where there is one.
        image_column: The column with the pictures; null is the only one of this type.
        label_column: The column with the classes; null is the only one of this type.
    """

    config: str | None = None
    image_column: str | None = None
    label_column: str | None = None

    def load(self) -> Pair:
        """Open the folder, and read the chosen parts row by row."""
        package, root = owner("datasets"), self.place()
        what = f"dataset.root={self.root!r}"
        if not root.is_dir():
            raise ValueError(f"{what} must be the folder that holds the data, got a file")
        is_saved = any((root / name).exists() for name in SAVED)
        if is_saved and self.config is not None:
            raise ValueError(
                f"dataset.config={self.config!r} has no effect: {what} was written by "
                "save_to_disk, which knows no configurations; leave it out"
            )
        with offline():
            with reading(what):
                if is_saved:
                    found = package.load_from_disk(str(root))
                else:  # without a copy in a cache
                    found = package.load_dataset(str(root), self.config, streaming=True)
            if not isinstance(found, dict):
                found = {"train": found}
            return self.pair(
                {
                    str(name): partial(self._read, package, part, f"{what}: {name}")
                    for name, part in found.items()
                }
            )

    def _read(self, package: Any, part: Any, what: str) -> ImageSet:
        features = part.features or {}
        image = self._column("image_column", features, package.Image, PICTURES, what)
        label = self._column("label_column", features, package.ClassLabel, LABELS, what)
        names = getattr(features[label], "names", None) or ()
        with reading(what):
            kept = part.select_columns([image, label])
            kept = kept.cast_column(image, package.Image(decode=False))
        return self.decoded(_samples(kept, image, label, what), tuple(names), what)

    def _column(
        self, setting: str, features: Any, kind: Any, usual: tuple[str, ...], what: str
    ) -> str:
        asked = getattr(self, setting)
        of_type = [name for name, feature in features.items() if isinstance(feature, kind)]
        named = [name for name in usual if name in features]
        found = [asked] if asked else of_type or named
        if len(found) != 1 or found[0] not in features:
            raise ValueError(
                f"{what}: dataset.{setting} must name one of the columns "
                f"{', '.join(map(repr, features))}, got {asked or found or 'none that tells'}"
            )
        return found[0]


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Inside, no server is asked, since all is on this disc; afterwards as the process had it.

    The packages read the environment once, when they are imported.
    """
    switches = [owner("huggingface_hub.constants"), owner("datasets.config")]
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        for switch in switches:
            switch.HF_HUB_OFFLINE = True
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = was


def _samples(part: Any, image: str, label: str, what: str) -> Iterator[Sample]:
    """The rows of a part; pictures as bytes, or as files where the rows name some."""
    with reading(what):
        for i, row in enumerate(part):
            held = row[image] or {}
            source = held.get("bytes") or held.get("path") or b""
            yield Sample(source, row[label], f"row {i} (from 0)")
