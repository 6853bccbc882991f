"""What the page of a study says beside its runs: what was asked for, and what is best."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from darts_gdas.report.numbers import few_digits
from darts_gdas.report.runs import read_file
from darts_gdas.runtime.files import write_text

SUMMARY = "study.json"
"""The file in a study's folder that its page can be written from once more."""


@dataclass(frozen=True)
class TrialSummary:
    """A trial that has come to its end.

    Attributes:
        run: The name of its run.
        values: Of the objectives, in their order.
        settings: Of what was varied, by name, as they are typed.
    """

    run: str
    values: Sequence[float]
    settings: Mapping[str, str]

    def told(self, objectives: Sequence[str]) -> str:
        """The trial in a line."""
        short = few_digits(self.settings.values())
        settings = (f"{name}={short[value]}" for name, value in self.settings.items())
        pairs = zip(objectives, self.values, strict=True)
        found = ", ".join(f"{name} {value:.4g}" for name, value in pairs)
        return f"{self.run}: {found}; {' '.join(settings)}"


@dataclass(frozen=True)
class StudySummary:
    """A study: runs that were started one after the other, by what came out.

    Attributes:
        objectives: What trials are judged by.
        directions: For each of them "maximize" or "minimize".
        counts: How many runs ended how.
        varied: Ranges by the names of settings.
        fixed: Settings of all runs.
        best: The best trial; of several objectives, those that no other beats in all.
        even: Settings whose ranges are even over orders of magnitude.
    """

    objectives: Sequence[str]
    directions: Sequence[str]
    counts: Mapping[str, int]
    varied: Mapping[str, str]
    fixed: Sequence[str]
    best: Sequence[TrialSummary]
    even: Sequence[str] = ()

    @classmethod
    def of(cls, folder: Path) -> "StudySummary | None":
        """What was saved in a folder; None where nothing was.

        Raises:
            ValueError: If the file is damaged.
        """
        path = folder / SUMMARY
        if not path.exists():
            return None
        found = read_file(path, json.loads, dict)
        try:
            best = [TrialSummary(**trial) for trial in found.pop("best")]
            study = cls(**found, best=best)
            study._check()
            return study
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}; delete it, or tune again") from None

    def _check(self) -> None:
        """Raise a `TypeError` for what a file may hold and a study does not."""
        lists = [self.objectives, self.directions, self.fixed, self.even]
        lists += [trial.values for trial in self.best]
        tables = [self.counts, self.varied, *(trial.settings for trial in self.best)]
        if not all(isinstance(one, list) for one in lists):
            raise TypeError("a list is something else")
        if not all(isinstance(one, dict) for one in tables):
            raise TypeError("a table is something else")
        numbers = [*self.counts.values(), *(value for trial in self.best for value in trial.values)]
        if not all(isinstance(one, int | float) for one in numbers):
            raise TypeError("a number is something else")
        lengths = {len(self.directions), *(len(trial.values) for trial in self.best)}
        if lengths != {len(self.objectives)} or {*self.directions} - {"maximize", "minimize"}:
            raise ValueError("objectives, directions and values do not belong together")

    def save(self, folder: Path) -> None:
        """Write it into the study's folder."""
        write_text(folder / SUMMARY, json.dumps(asdict(self), indent=2) + "\n")

    @property
    def title(self) -> str:
        """What is varied, in how many trials."""
        return f"Study of {', '.join(self.varied)}: {sum(self.counts.values())} trials"

    def facts(self) -> dict[str, str]:
        """What is worth a line, by name."""
        better = {"maximize": "more is better", "minimize": "less is better"}
        pairs = zip(self.objectives, self.directions, strict=True)
        what = "best trial" if len(self.objectives) == 1 else "trials that no other beats in all"
        return {
            "objective": ", ".join(f"{name} ({better[towards]})" for name, towards in pairs),
            "trials": ", ".join(f"{number} {state}" for state, number in self.counts.items()),
            what: " | ".join(trial.told(self.objectives) for trial in self.best),
            "varied": "; ".join(f"{name}: {values}" for name, values in self.varied.items()),
            "settings of all": " ".join(self.fixed) or "none",
        }
