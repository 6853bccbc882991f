"""Two ranks score as one does, bit for bit: rankings, warm starts, and pruning in batches."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

from darts_gdas.nets import Layout
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.compute import Compute
from darts_gdas.runtime.distributed import ALONE, Ranks
from darts_gdas.runtime.images import ImageSet
from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring.pruning import prune
from darts_gdas.scoring.supernets import Measurement
from darts_gdas.scoring.warm_start import NtkWarmStart, Setting
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.ranking import ScoreTask
from tests.ranks import on_ranks

SPACE = SearchSpace.darts(num_nodes=1, candidates=("none", "skip_connect", "sep_conv_3x3"))
LAYOUT = Layout(2, 3, 3, in_channels=2)
SCORES = ("ntk_condition", "naswot", "params")


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def ranked(journal: Journal) -> object:
    pixels = (40 * images(20) + 128).byte()
    task = ScoreTask(
        tuple(SPACE.sample(Random(i)) for i in range(5)), LAYOUT,
        ImageSet(pixels, torch.arange(20) % 3, ("a", "b", "c")),
        Normalize(torch.full((2,), 0.5), torch.full((2,), 0.25)), 4, SCORES, (), 1,
        Compute(torch.device("cpu")), 3,
    )  # fmt: skip
    return task.run(journal).means


def warmed(journal: Journal) -> object:
    start = NtkWarmStart(samples=10, scores=list(SCORES), batch_size=4, channels=2)
    first = start(Setting(SPACE, lambda _: LAYOUT, images, 7, journal, lambda *_: None))
    return {kind: logits.tolist() for kind, logits in first.logits.items()}


def pruned(journal: Journal) -> object:
    return prune(SPACE, Measurement(LAYOUT, images(4), 2, 40, 0), journal=journal)


def scored(folder: Path, ranks: Ranks = ALONE) -> list[object]:
    """What each of the three finds, one after the other; journals are kept."""

    def journal(make: Callable[[Journal], object]) -> Journal:
        name = folder / make.__name__ if ranks.is_first else None
        return Journal(name, "s", ranks=ranks)

    return [make(journal(make)) for make in (ranked, warmed, pruned)]


def test_two_ranks_score_what_one_does_and_each_cell_once(tmp_path: Path):
    (tmp_path / "one").mkdir()
    alone = scored(tmp_path / "one")
    assert on_ranks(lambda ranks: scored(tmp_path, ranks), tmp_path) == [alone] * 2
    for name in ("ranked", "warmed", "pruned"):
        lines = (tmp_path / name).read_text().splitlines()
        assert sorted(lines) == sorted((tmp_path / "one" / name).read_text().splitlines())
        assert len(set(lines)) == len(lines)  # each once
        # Cut in the middle, they go on to the same.
        (tmp_path / name).write_text("\n".join(lines[: len(lines) // 2]) + "\n")
    assert on_ranks(lambda ranks: scored(tmp_path, ranks), tmp_path) == [alone] * 2
