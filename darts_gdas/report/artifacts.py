"""Files that a search writes for people: genotypes and drawings."""

from collections.abc import Callable
from pathlib import Path

from darts_gdas.report.cell_drawing import draw_genotype, save_drawing
from darts_gdas.runtime.files import write_text
from darts_gdas.runtime.task import Callback, EpochReport
from darts_gdas.space import Genotype


class BestGenotype(Callback):
    """Keep the genotype of the epoch with the highest validation accuracy.

    It is there to compare with; the search's answer is the last one, taken after the last
    update, because validation accuracy under shared weights ranks epochs only roughly.
    """

    def __init__(self, path: Path, genotype: Callable[[], Genotype]) -> None:
        self.path = path
        self.genotype = genotype

    def on_epoch_end(self, report: EpochReport) -> None:
        """Replace the file where this epoch is the best so far."""
        if report.is_best:
            write_text(self.path, self.genotype().to_json())


def write_genotype(folder: Path, genotype: Genotype, *, title: str) -> None:
    """Write `genotype.json` and its drawing, `cells.svg` and `cells.png`."""
    write_text(folder / "genotype.json", genotype.to_json())
    figure = draw_genotype(genotype, title=title)
    for suffix in ("svg", "png"):
        save_drawing(figure, folder / f"cells.{suffix}")
