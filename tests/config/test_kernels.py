"""Networks of which there is no kernel: noise is no function of the image."""

import pytest

from darts_gdas.config.kernels import of_scores
from tests.test_config import search_config

REFUSED = {
    (): "warm_start.scores=ntk_condition could ask; use warm_start.scores=[naswot,synflow]",
    ("warm_start.scores=[ntk_logdet,te_nas]",): (
        "warm_start.scores=ntk_logdet,te_nas could ask; use warm_start.scores=[naswot,synflow]"
    ),
    ("method=te_nas",): "warm_start=te_nas could prune by; use warm_start=none",
    ("method=darts", "optimizer.lr=auto"): "optimizer.lr=auto could ask; use optimizer.lr=0.025",
    ("method=gdas", "discretizer=best_of_draws"): (
        "discretizer.scores=ntk_condition could ask; use discretizer.scores=[naswot,synflow,params]"
    ),
    ("method=evolution", "epochs=0", "discretizer/judge=untrained",
     "discretizer.judge.score=te_nas"): (
        "discretizer.judge.score=te_nas could ask; use discretizer.judge.score=naswot"
    ),
}  # fmt: skip


@pytest.mark.parametrize("overrides", REFUSED, ids=str)
@pytest.mark.parametrize("noisy", ["space=s4", "space.candidates=[noise,sep_conv_3x3]"])
def test_what_asks_for_a_kernel_is_refused_beside_noise(overrides: tuple[str, ...], noisy: str):
    search_config(*overrides, "space=s3")
    with pytest.raises(ValueError, match="noise is no function of the image") as caught:
        search_config(*overrides, noisy)
    told = str(caught.value).splitlines()[0]
    assert told.endswith(REFUSED[overrides])
    mended = told.rpartition("use ")[2]
    if mended == "warm_start=none":  # which leaves nothing that would find a cell
        return
    search_config(*overrides, noisy, mended)


def test_scores_without_a_kernel_are_taken_beside_noise():
    search_config("space=s4", "warm_start.scores=[naswot,synflow]")
    search_config("space=s4", "warm_start=none")
    assert not list(of_scores(["naswot", "params"], ["noise"], "scores"))
    assert not list(of_scores(["ntk_condition"], ["sep_conv_3x3"], "scores"))
    (text,) = of_scores(["ntk_condition", "params"], ["noise"], "scores")
    assert text.endswith("use scores=[params]")
