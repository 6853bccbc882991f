"""What a logger of somebody else is to this project: a place to send figures to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Protocol

from darts_gdas.reasons import installing


@dataclass(frozen=True)
class Logged:
    """The run whose figures are sent.

    Attributes:
        folder: The run's folder.
        outputs: The folder below which all runs go.
        kind: "search" or "train".
        settings: By dotted names, plain values.
        known: What `Sink.memory` said when this run was sent to before; None for a new one.
    """

    folder: Path
    outputs: Path
    kind: str
    settings: Mapping[str, Any]
    known: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """What the run is called."""
        return f"{self.kind} {self.folder.resolve().name}"


class Sink(Protocol):
    """A run of a logger that is open."""

    memory: Mapping[str, Any]
    """Plain values by which the same run is found again, such as an id."""

    last_step: int
    """Training step of the newest point that the run holds; -1 before the first."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to the curve of each metric."""
        ...

    def finish(self, figures: Mapping[str, float], genotype: str, step: int) -> None:
        """Add what is known at the end: final figures by name, the genotype as JSON."""
        ...

    def close(self, *, is_finished: bool) -> None:
        """Hand over all that is left; a run that is not finished may be opened again."""
        ...


@dataclass
class Logger(ABC):
    """A logger that a user has chosen, with its settings: `logger=[NAME]`.

    Attributes:
        package: Whose distribution it needs; it is imported by `open` alone.
        extra: The extra of this project that installs it; None where there is none.
    """

    package: ClassVar[str]
    extra: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        try:
            version(self.package)
        except PackageNotFoundError:
            wanted = installing(self.extra, self.package)
            raise ValueError(
                f"this logger needs the package {self.package}: {wanted}; or leave it "
                "out, logger=[]"
            ) from None

    @abstractmethod
    def open(self, run: Logged) -> Sink:
        """Begin to send, or go on where the run was sent before."""
