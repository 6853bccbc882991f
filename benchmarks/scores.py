"""How well untrained scores order cells whose trained accuracies are known."""

import argparse
import csv
import itertools
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from darts_gdas.scoring.correlation import kendall_tau, rank_sum
from darts_gdas.scoring.effects import main_effects
from darts_gdas.scoring.scores import DEFAULT_SCORES, SCORES
from darts_gdas.scoring.table import AccuracyTable
from darts_gdas.search import ArchParameters, ArgMax, Softmax
from darts_gdas.space import Genotype, SearchSpace

SUBSETS, SUBSET = 20, 100
WARM_STARTS = (
    DEFAULT_SCORES,
    ("ntk_condition",),
    ("ntk_logdet",),
    ("ntk_condition", "naswot"),
    ("params",),
)
LARGEST_SUM = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="of darts_gdas.score, space=nasbench201 benchmark=")
    parser.add_argument("table", type=Path, help="the known accuracies")
    parser.add_argument("--column", help="which of them")


def run(arguments: argparse.Namespace) -> None:
    with open(arguments.run / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    random.Random(0).shuffle(rows)  # the file is in order of rank
    names = [name for name in SCORES if name in rows[0]]
    scores = {name: [float(row[name]) for row in rows] for name in names}
    accuracies = [float(row["accuracy"]) for row in rows]
    single(scores, accuracies)
    halves(scores, accuracies)
    genotypes = [Genotype.load(row["cell"]) for row in rows]
    warm_starts(scores, genotypes, AccuracyTable.load(arguments.table, arguments.column))


def single(scores: Mapping[str, Sequence[float]], accuracies: Sequence[float]) -> None:
    """Every score and the default sum, on all cells and on the better half."""
    columns = {**scores}
    if set(DEFAULT_SCORES) <= set(scores):
        columns["default rank sum"] = total(scores, DEFAULT_SCORES, range(len(accuracies)))
    print(f"{len(accuracies)} cells\n\n| score | Kendall tau [95 %] | better half |\n|---|---|---|")
    for name, values in columns.items():
        tops = kendall_tau(values, accuracies, top_half=True)
        print(f"| {name} | {kendall_tau(values, accuracies)} | {tops} |")
    print()


def halves(scores: Mapping[str, Sequence[float]], accuracies: Sequence[float]) -> None:
    """The best sum of ranks, chosen on one half of the cells and judged on the other, both ways."""
    middle = len(accuracies) // 2
    parts = range(middle), range(middle, len(accuracies))
    print("| chosen on | best rank sum there | tau there | tau on the other half [95 %] |")
    print("|---|---|---|---|")
    for number, (here, there) in enumerate((parts, parts[::-1]), 1):
        sums = [
            chosen
            for size in range(1, LARGEST_SUM + 1)
            for chosen in itertools.combinations(scores, size)
        ]
        # The interval is a bootstrap: one number per candidate is enough to choose by.
        taus = {chosen: tau(scores, accuracies, chosen, here) for chosen in sums}
        for what, chosen in (
            ("best", max(taus, key=taus.__getitem__)),
            ("default", DEFAULT_SCORES),
        ):
            if set(chosen) <= set(scores):
                known = [accuracies[i] for i in there]
                found = kendall_tau(total(scores, chosen, there), known)
                text = f"{what}: {' + '.join(chosen)}"
                own = tau(scores, accuracies, chosen, here)
                print(f"| half {number} | {text} | {own:.3f} | {found} |")
    print()


def total(
    scores: Mapping[str, Sequence[float]], names: Sequence[str], cells: Sequence[int]
) -> list[float]:
    """Sum of ranks among some cells."""
    return rank_sum([[scores[name][i] for i in cells] for name in names]).tolist()


def tau(
    scores: Mapping[str, Sequence[float]],
    accuracies: Sequence[float],
    names: Sequence[str],
    cells: Sequence[int],
) -> float:
    """Kendall's tau of a rank sum on some cells."""
    known = [accuracies[i] for i in cells]
    return kendall_tau(total(scores, names, cells), known, num_resamples=1).value


def warm_starts(
    scores: Mapping[str, Sequence[float]], genotypes: Sequence[Genotype], table: AccuracyTable
) -> None:
    """Accuracy of the cell of the largest first alphas, from random subsets of the cells."""
    space = SearchSpace.named("nasbench201")
    arch = ArchParameters(space)
    rng = random.Random(0)
    subsets = [rng.sample(range(len(genotypes)), SUBSET) for _ in range(SUBSETS)]
    print(f"Warm start from {SUBSET} cells, {SUBSETS} random subsets: argmax of the first alphas\n")
    print("| scores | mean accuracy | worst | mean percentile |\n|---|---|---|---|")
    for names in WARM_STARTS:
        if not set(names) <= set(scores):
            continue
        found = []
        for cells in subsets:
            sums = total(scores, names, cells)
            effects = main_effects(space, [genotypes[i] for i in cells], sums)
            for kind, logits in effects.logits(temperature=1.0, cap=2.0).items():
                arch.logits[kind].data.copy_(logits)
            found.append(ArgMax()(Softmax().expected(arch), space))
        reached = [table.accuracy(genotype) for genotype in found]
        percentile = statistics.fmean(map(table.percentile, found))
        mean = statistics.fmean(reached)
        print(f"| {' + '.join(names)} | {mean:.2f} | {min(reached):.2f} | {percentile:.1f} |")
    best = max(table.accuracies.values())
    average = statistics.fmean(v for v in table.accuracies.values() if math.isfinite(v))
    print(f"\nBest cell {best:.2f}, mean of all cells {average:.2f}")
