"""What is said to help is not in use already, and the numbers of a warning are the cell's."""

from dataclasses import replace

from darts_gdas.search import ArgMax, BetaDecay, RandomPerturbation
from darts_gdas.search.cost import Cost
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.remedies import of_size, remedies, without_effect
from tests.tasks.test_stage import DARTS

SPACE = SearchSpace.named("darts")


def test_a_method_in_use_is_told_its_settings():
    plain = remedies(DARTS, SPACE, stop_below=0.0)
    for name in ("robust_darts", "sdarts_rs", "beta_darts", "darts_pt"):
        assert name in plain
    used = replace(
        DARTS,
        discretizer=ArgMax(max_skips=2),
        perturbation=RandomPerturbation(),
        penalties={"beta_decay": BetaDecay()},
    )
    told = remedies(used, SPACE, stop_below=0.75)
    for name in ("robust_darts", "sdarts", "beta_darts"):
        assert name not in told
    for setting in (
        "discretizer.max_skips below 2",
        "diagnostics.stop_below",
        "perturbation.epsilon.end above 0.3",
        "penalties.beta_decay.weight.end",
    ):
        assert setting in told


def test_no_setting_is_told_to_go_beyond_what_can_be_typed():
    """`max_skips` is at least 0 and `stop_below` at most 1."""
    for limit, told in ((1, "discretizer.max_skips below 1, "), (0, "")):
        used = replace(DARTS, discretizer=ArgMax(max_skips=limit))
        text = remedies(used, SPACE, stop_below=1.0)
        assert text.startswith(f"What helps: {told}a larger optimizer.weight_decay, method=sdarts")
    assert "stop_below nearer to 1" in remedies(DARTS, SPACE, stop_below=0.99)


def test_a_limit_of_skips_is_told_where_the_space_takes_one():
    chain = SearchSpace.chain([["skip_connect", "mbconv3_3x3"]], reductions=[], widths=[1])
    asked = ArgMax(max_skips=2).fits(chain)
    assert asked is not None and "the space has none" in asked
    assert "max_skips" not in remedies(DARTS, chain, stop_below=0.0)
    assert "discretizer.max_skips=2" in remedies(DARTS, SPACE, stop_below=0.0)


def test_the_largest_cell_is_told_of_a_limit_or_of_a_smaller_one():
    assert "penalties=[cost] (the best cell with at most 0.6 of the parameters" in of_size(DARTS)
    told = of_size(replace(DARTS, penalties={"cost": Cost(share=0.9)}))
    assert told.endswith("a smaller penalties.cost.target or penalties.cost.share")


def test_what_adds_nothing_is_counted():
    text = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    told = without_effect("normal", Genotype.load(text).cells["normal"])
    assert told.startswith("6 of 6 operations of the normal cell have learnt nothing that reaches")
    assert "(5 none); no path leads from its inputs to its output" in told
    told = without_effect("reduce", Genotype.load("DARTS_V1").cells["reduce"])
    assert told.startswith("8 of 8") and told.endswith("retrains well")
    told = without_effect("stem", Genotype.load("DARTS_V1").cells["reduce"])
    assert told.endswith("look good under shared weights and mostly retrain badly")
