"""Any of torchvision's sets of labelled pictures, by its name."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

from darts_gdas.runtime.dataset import Pair
from darts_gdas.runtime.folder import ImageFolder, Storage
from darts_gdas.runtime.formats.kinds import KINDS, Kind
from darts_gdas.runtime.formats.owners import looking, owner, reading
from darts_gdas.runtime.formats.sized import Sample, SizedSet
from darts_gdas.runtime.formats.splits import check_known, checked_labels
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.listing import with_headers
from darts_gdas.runtime.picture_files import Files
from darts_gdas.runtime.stream import SAMPLE, some

OURS = frozenset(
    ("self", "root", "download", "loader", "transform", "transforms", "target_transform", "kwargs")
)
"""Arguments of torchvision's sets that are not for `options`."""


@final
@dataclass(kw_only=True)
class Torchvision(SizedSet):
    """A set of `torchvision.datasets`, such as SVHN: read, and fetched if wanted, by its own class.

    Sets of files (Food101, ImageNet) may be streams, as those of `image_folder`; all others are
    decoded into memory.

    Attributes:
        name: The class, such as `FashionMNIST`.
        root: Where its files are, or will be.
        download: Fetch it if it is not there.
        options: Further arguments of the class: `{partition: 2}` of DTD, `{split: letters}` of
            EMNIST.
        storage: Of a set of files: where the pixels are.
        workers: Of a stream: processes that decode; null is one per core.
        cache: Of a stream: folder that keeps decoded pixels.
    """

    name: str = ""
    root: str = "data"
    download: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    storage: Storage = Storage.auto
    workers: int | None = None
    cache: str | None = None

    def load(self) -> Pair:
        """Build the set's object for each chosen part, and take pictures or files from it."""
        kind = KINDS.get(self.name)
        if kind is None:
            raise ValueError(
                f"dataset.name must be one of torchvision's sets with a class for each picture, "
                f"{', '.join(sorted(KINDS))}, got {self.name!r}"
            )
        factory = getattr(owner("torchvision.datasets"), self.name)
        self._check(kind, factory)
        if kind.is_in_files:
            return self._of_files(kind, factory)
        return self.pair({part: partial(self._read, kind, factory, part) for part in kind.splits})

    def _check(self, kind: Kind, factory: Any) -> None:
        known = _arguments(factory)
        allowed = sorted(known - OURS - {kind.argument})
        if strange := sorted(self.options.keys() - set(allowed)):
            raise ValueError(
                f"dataset.options of {self.name} may have {', '.join(allowed) or 'nothing'}, got "
                f"{strange[0]!r}"
            )
        if self.download and "download" not in known:
            raise ValueError(
                f"dataset.download=true: torchvision cannot fetch {self.name}; put its files into "
                f"dataset.root={self.root!r}"
            )
        asked = {"workers": self.workers, "cache": self.cache}
        named = [name for name, value in asked.items() if value is not None]
        named += ["storage"] * (self.storage is not Storage.auto)
        if named and not kind.is_in_files:
            raise ValueError(
                f"dataset.{named[0]} is for sets of files, and has no effect on {self.name}, which "
                "is decoded into memory; leave it out"
            )

    def _part(self, kind: Kind, factory: Any, part: str) -> Any:
        """The set's own object."""
        settings = dict(kind.defaults) | self.options
        if kind.argument is not None:
            settings[kind.argument] = part == "train" if kind.argument == "train" else part
        can_fetch = "download" in _arguments(factory)
        if can_fetch:
            settings["download"] = self.download
        if kind.is_in_files:
            settings["loader"] = str  # in place of a picture its path
        with looking(self.name, self.root, can_fetch=can_fetch, has_tried=self.download):
            return factory(str(Path(self.root).expanduser()), **settings)

    def _read(self, kind: Kind, factory: Any, part: str) -> ImageSet:
        found, what = self._part(kind, factory, part), f"{self.name}: {part}"
        return self.decoded(_samples(found, what), _class_names(found), what)

    def _of_files(self, kind: Kind, factory: Any) -> Pair:
        """As a folder of pictures, whose files and classes the set's object knows."""
        names = [chosen for chosen in self.chosen(kind.splits) if chosen]
        objects = [[self._part(kind, factory, name) for name in chosen] for chosen in names]
        root = str(Path(self.root).expanduser())
        parts = [_files(root, together, self.name) for together in objects]
        said = [_class_names(one) for together in objects for one in together]
        classes = self.classes(said, [part.labels for part in parts])
        if len(parts) == 1:
            kept, left = self.kept_for_testing(parts[0].labels)
            parts = [parts[0].select(left), parts[0].select(kept)]
        check_known(parts[0].labels, parts[1].labels, classes)
        height, width = self._size(parts[0])
        folder = ImageFolder(
            root=root,
            image_size=height,
            image_width=width,
            channels=self.channels or 3,
            value_range=self.value_range,
            fraction=self.fraction,
            seed=self.seed,
            storage=self.storage,
            max_gigabytes=self.max_gigabytes,
            workers=self.workers,
            cache=self.cache,
            max_megapixels=self.max_megapixels,
        )
        return folder.pair(classes, parts[0], parts[1])

    def _size(self, files: Files) -> tuple[int, int]:
        if self.image_size is not None:
            return self.image_size, self.image_width or self.image_size
        looked = with_headers(files.select(some(len(files), SAMPLE)).paths)
        sizes = {picture.header.size for picture in looked if picture.header}
        if len(sizes) != 1:
            raise ValueError(
                f"the pictures of {self.name} have {len(sizes)} sizes (looked at: {len(looked)}); "
                "pass dataset.image_size=PIXELS, to which they are scaled"
            )
        ((width, height),) = sizes
        return height, width


def _arguments(factory: Any) -> set[str]:
    """What a class can be called with, also by way of those that it is derived from."""
    known: set[str] = set()
    for kind in inspect.getmro(factory):
        parameters = inspect.signature(kind.__init__).parameters
        known |= parameters.keys()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return known


def _samples(found: Any, what: str) -> Iterator[Sample]:
    with reading(what):
        for i in range(len(found)):
            picture, label = found[i]
            yield Sample(picture, label, f"image {i} (from 0)")


def _files(root: str, parts: list[Any], name: str) -> Files:
    with reading(name):  # sorted, for SUN397 takes them as the file system has them
        pairs = sorted((part[i] for part in parts for i in range(len(part))), key=str)
    labels = checked_labels([label for _, label in pairs], len(pairs), f"{name}: labels")
    return Files.of(root, [str(path) for path, _ in pairs], labels)


def _class_names(found: Any) -> tuple[str, ...]:
    """As the set calls them; of several words for a class (ImageNet) all. Empty if it does not."""
    names = getattr(found, "classes", None) or getattr(found, "categories", None) or ()
    return tuple(name if isinstance(name, str) else ", ".join(name) for name in names)
