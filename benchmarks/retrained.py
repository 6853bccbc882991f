"""Searched cells against random cells, all retrained alike; what is finished is not run again."""

import json
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darts_gdas.runtime.files import write_text
from darts_gdas.space import SearchSpace

ROOT = Path(__file__).parents[1]
HEAD = (
    "| | test accuracy | parameters | multiply-adds | seconds of search + retraining |\n"
    "|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Comparison:
    """A table of cells of the DARTS space.

    Attributes:
        out: Folder of the runs. Those that are finished stay, those that were stopped go on.
        data: Settings that both programs get.
        search: Further settings of the searches.
        retraining: Further settings of the retrainings, those of random cells too.
        repeats: Retrainings of each cell, of seeds 0, 1, ...
    """

    out: Path
    data: Sequence[str]
    search: Sequence[str] = ()
    retraining: Sequence[str] = ()
    repeats: int = 1
    accuracies: dict[str, list[float]] = field(default_factory=dict)

    def searched(self, method: str, seeds: Sequence[int]) -> None:
        """Search with one method and several seeds, and retrain what was found."""
        rows = []
        for seed in seeds:
            name = f"{'_'.join(method.split())}_{seed}"
            settings = [f"method={method.split()[0]}", *method.split()[1:], f"seed={seed}"]
            result = self._run("search.py", name, [*self.data, *self.search, *settings])
            rows.append(self._retrained(name, self.out / name, result["seconds"]))
        self._print_mean(f"{len(seeds)} cells of {method}", rows)

    def drawn(self, seeds: Sequence[int]) -> None:
        """Retrain one random cell per seed."""
        rows = []
        for seed in seeds:
            path = self.out / f"random_{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, SearchSpace.named("darts").sample(random.Random(seed)).to_json())
            rows.append(self._retrained(f"random_{seed}", path, 0.0))
        self._print_mean(f"{len(seeds)} random cells", rows)
        random_cells = self.accuracies.pop(f"{len(seeds)} random cells")
        for name, found in self.accuracies.items():
            below = sum(accuracy < statistics.mean(found) for accuracy in random_cells)
            print(f"\nThe mean of {name} lies above {below} of {len(random_cells)} random cells.")
        if self.repeats > 1 and len(random_cells) > 1:
            between, within = statistics.stdev(random_cells), self._noise(rows)
            print(
                f"Random cells differ by {100 * between:.2f} points (standard deviation); of that "
                f"the seeds of their retrainings account for {100 * within:.2f}."
            )

    def _noise(self, rows: Sequence[dict[str, Any]]) -> float:
        """Standard deviation that the mean accuracy of one cell has by its seeds alone."""
        variances = [statistics.variance(row["accuracies"]) for row in rows]
        return math.sqrt(statistics.mean(variances) / self.repeats)

    def _retrained(self, name: str, genotype: Path, seconds: float) -> dict[str, Any]:
        settings = [*self.data, *self.retraining, f"genotype={genotype}"]
        results = [
            self._run("train.py", f"{name}_retrained_{seed}", [*settings, f"seed={seed}"])
            for seed in range(self.repeats)
        ]
        accuracies = [result["test"]["accuracy"] for result in results]
        found = {
            "accuracies": accuracies,
            "accuracy": statistics.mean(accuracies),
            "parameters": results[0]["parameters"],
            "multiply_adds": results[0]["multiply_adds"],
        }
        trained = sum(result["seconds"] for result in results)
        print(
            f"| {name.replace('_', ' ')} | {100 * found['accuracy']:.2f} % "
            f"| {found['parameters']:,} | {found['multiply_adds']:,} "
            f"| {seconds:.0f} + {trained:.0f} |",
            flush=True,
        )
        return found

    def _run(self, script: str, name: str, settings: Sequence[str]) -> dict:
        folder = self.out / name
        if not (folder / "result.json").exists():
            command = [sys.executable, str(ROOT / script), f"run_dir={folder}", "resume=auto"]
            subprocess.run([*command, *settings], check=True, stdout=subprocess.DEVNULL)
        return json.loads((folder / "result.json").read_text())

    def _print_mean(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        measures = ("accuracy", "parameters", "multiply_adds")
        means = {key: statistics.mean(row[key] for row in rows) for key in measures}
        self.accuracies[name] = [row["accuracy"] for row in rows]
        deviation = statistics.stdev(self.accuracies[name]) if len(rows) > 1 else 0.0
        print(
            f"| mean of {name} | {100 * means['accuracy']:.2f} +- {100 * deviation:.2f} % "
            f"| {means['parameters']:,.0f} | {means['multiply_adds']:,.0f} | - |",
            flush=True,
        )
