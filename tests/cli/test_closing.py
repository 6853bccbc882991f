"""What a run says at its end to go on with."""

from pathlib import Path

import pytest

from darts_gdas.cli.closing import how_to_retrain
from darts_gdas.runtime.files import RunFolder
from darts_gdas.space import Genotype


@pytest.mark.parametrize("chosen", [[], ["dataset=digits"], ["dataset=cifar10", "seed=3"]])
def test_a_retraining_of_the_papers_size_says_so(chosen: list[str], tmp_path: Path):
    """A pasted command may mean days; of the digits it means minutes."""
    genotype = Genotype.load("DARTS_V2")
    command, *said = how_to_retrain(RunFolder(tmp_path), genotype, chosen)
    assert command.endswith(" ".join([f"genotype={tmp_path}", *chosen[:1]]))
    size = "# C=36, L=20, 600 epochs, as in the paper; for a smaller one net.channels=16 epochs=100"
    assert said == ([size] if "dataset=cifar10" in chosen else [])
    small = Genotype.load("|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")
    _, *said = how_to_retrain(RunFolder(tmp_path), small, chosen)
    size = "# C=16, L=17, 600 epochs, the default; for a smaller one net.channels=8 epochs=100"
    assert said == ([size] if "dataset=cifar10" in chosen else [])
