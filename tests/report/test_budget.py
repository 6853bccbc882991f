import pytest

from darts_gdas.report.budget import Budget


@pytest.mark.parametrize("share", [0.02, 0.05, 0.5])
def test_work_takes_its_share_of_the_time(share: float):
    now, spent = [0.0], 0.0
    budget = Budget(share, lambda: now[0])
    while now[0] < 2000:
        now[0] += 0.25
        if budget.is_due:
            with budget.spend():
                now[0] += 1.0
            spent += 1.0
    assert spent / now[0] == pytest.approx(share, rel=0.3)
    assert spent <= share * now[0] + 1


def test_with_all_of_the_time_it_is_always_due():
    now = [5.0]
    budget = Budget(1.0, lambda: now[0])
    for _ in range(3):
        assert budget.is_due
        with budget.spend():
            now[0] += 1.0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float):
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\], got "):
        Budget(share)
