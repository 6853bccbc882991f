"""What the page of a study says beside its runs: what was asked for, and what is best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from darts_gdas.report.numbers import few_digits


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
        counts: How many trials ended in which state.
        varied: Ranges by the names of settings.
        fixed: Settings of all runs.
        best: The best trial; of several objectives, those that no other beats in all.
    """

    objectives: Sequence[str]
    directions: Sequence[str]
    counts: Mapping[str, int]
    varied: Mapping[str, str]
    fixed: Sequence[str]
    best: Sequence[TrialSummary]

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
