from pathlib import Path

from darts_gdas.report.artifacts import BestGenotype, write_genotype
from darts_gdas.runtime.task import EpochReport
from darts_gdas.space import Genotype


def test_the_best_genotype_is_that_of_the_best_epoch(tmp_path: Path):
    names = ["DARTS_V1", "DARTS_V2", "GDAS_V1"]
    current = [""]
    best = BestGenotype(tmp_path / "best.json", lambda: Genotype.load(current[0]))
    for epoch, name in enumerate(names):
        current[0] = name
        best.on_epoch_end(EpochReport(epoch, 3, epoch, {}, is_best=epoch < 2, seconds=0.0))
    assert Genotype.load(tmp_path / "best.json") == Genotype.load("DARTS_V2")


def test_a_genotype_is_written_with_its_drawings(tmp_path: Path):
    genotype = Genotype.load("GDAS_V1")
    write_genotype(tmp_path, genotype, title="GDAS_V1")
    assert Genotype.load(tmp_path) == genotype
    assert "sep conv" in (tmp_path / "cells.svg").read_text()
    assert (tmp_path / "cells.png").read_bytes().startswith(b"\x89PNG")
