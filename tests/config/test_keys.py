"""Names of settings, of programs and of what can be chosen in them."""

import pytest

from darts_gdas.config import known_keys, programs_with


def test_known_keys_name_every_setting():
    assert {
        "epochs", "relaxation.tau.end", "optimizer.schedule.gamma", "dataset.root",
        "penalties.cost.target", "penalties.beta_decay.weight.end", "perturbation.epsilon.start",
        "perturbation.steps", "stages.2.layers",
    } <= set(known_keys())  # fmt: skip


@pytest.mark.parametrize(
    ("key", "programs"),
    [
        ("genotype", ["train"]),
        ("weights_fraction", ["search"]),
        ("epochs", ["search", "train"]),
        ("cells", ["score"]),
        ("seed", ["search", "train", "score"]),
        ("method", ["search"]),
        ("dataset.root", []),  # of some data sets
    ],
)
def test_programs_with_a_setting(key: str, programs: list[str]):
    assert programs_with(key) == programs
