"""What is measured when, when it warns, when it stops; and that none of it is lost on the way."""

import logging
import random
from dataclasses import replace

import pytest
import torch

from darts_gdas.search import ArchParameters, Softmax
from darts_gdas.space import Genotype, SearchSpace
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.monitor import End, Monitor
from darts_gdas.tasks.remedies import CHANCE, UNCHANGED, UNDECIDED
from tests.tasks.test_search import plain as plain_search
from tests.tasks.test_stage import DARTS, at, flat, task_of

BENCH = SearchSpace.named("nasbench201")
_CELL = "|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|"
SKIPS = Genotype.from_arch_string(_CELL.format("skip_connect"))
CONVS = Genotype.from_arch_string(_CELL.format("nor_conv_3x3"))
ARCH = ArchParameters(BENCH)
LED = ArchParameters(BENCH)  # to skip connections, by odds of e to 1
with torch.no_grad():
    LED.logits["normal"][:, BENCH.cells["normal"].candidates[0].index("skip_connect")] += 1.0
STOP = Diagnostics(eigenvalue_every=1, stop_below=0.75, stop_window=3, stop_first_epoch=0)


class Scripted:
    """A probe whose curvature is a list."""

    def __init__(self, values: list[float]) -> None:
        self.values = iter(values)

    def curvature(self, arch, relaxation, *, num_batches: int) -> float:
        return next(self.values)

    def accuracy(self, mixture) -> float:
        return 0.9 if mixture["normal"].active is None else 0.3  # the mixture, and its genotype


def monitor_of(
    values: list[float],
    diagnostics: Diagnostics,
    *,
    num_epochs: int = 50,
    learns: bool = True,
    arch_warmup_epochs: int = 0,
) -> Monitor:
    probe = Scripted(values)
    return Monitor(
        diagnostics,
        BENCH,
        probe,  # type: ignore[arg-type]
        num_epochs=num_epochs,
        learns=learns,
        arch_warmup_epochs=arch_warmup_epochs,
        remedies="What helps: tea",
    )


def cells(count: int) -> list[Genotype]:
    rng = random.Random(0)
    return [BENCH.sample(rng) for _ in range(count)]


def follow(
    monitor: Monitor, genotypes: list[Genotype], first: int = 0, arch: ArchParameters = LED
) -> list[dict[str, float]]:
    """Epoch after epoch, until the monitor stops."""
    seen = []
    for epoch, genotype in enumerate(genotypes, start=first):
        seen.append(monitor.observe(epoch, arch, Softmax(), genotype))
        if monitor.end is not None:
            break
    return seen


def test_shares_are_always_there_and_the_rest_when_it_is_due():
    diagnostics = Diagnostics(eigenvalue_every=2, gap_every=3)
    seen = follow(monitor_of([1.0, 2.0, 3.0], diagnostics), [SKIPS] * 6)
    assert all(metrics["search/parameter_free_share_normal"] == 1.0 for metrics in seen)
    assert [metrics.get("search/eigenvalue") for metrics in seen] == [None, 1, None, 2, None, 3]
    gaps = [metrics.get("search/discretisation_gap") for metrics in seen]
    assert gaps == [None, None, pytest.approx(0.6)] * 2
    assert set(follow(monitor_of([], Diagnostics()), [CONVS])[0]) == {
        "search/parameter_free_share_normal"
    }


def test_the_search_stops_where_the_paper_says_and_returns_the_cell_of_then():
    """By hand, k = 3: means of epochs 4..6 and 1..3 are 3 and 2, ratio 2/3; before that 7/9.

    bar(5) / bar(2): epochs 2 and 5 are the middles of the windows; epoch 2's cell is returned.
    """
    values = [9.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0, 99.0]
    ratio = [(9 + 2 + 2) / (2 + 2 + 3), (2 + 2 + 2) / (2 + 3 + 4)]
    assert ratio[0] > 0.75 > ratio[1]
    genotypes = cells(8)
    monitor = monitor_of(values, STOP)
    assert len(follow(monitor, genotypes)) == 7
    assert monitor.end == End(7, 2, genotypes[2])
    assert monitor.remarks() == {
        "stopped": "after epoch 7 of 50, for the curvature grew; the genotype is that of epoch 3"
    }


def test_no_cell_of_the_first_epochs_is_returned():
    growing = [1.5**i for i in range(30)]  # 1.5^-3 < 0.75 all along
    late = Diagnostics(eigenvalue_every=1, stop_below=0.75, stop_window=3, stop_first_epoch=10)
    genotypes = cells(30)
    monitor = monitor_of(growing, late)
    follow(monitor, genotypes)
    assert monitor.end == End(15, 10, genotypes[10])


def test_steady_curvature_never_stops():
    monitor = monitor_of([1.0] * 40, STOP)
    assert len(follow(monitor, cells(40))) == 40
    assert monitor.end is None and monitor.remarks() == {}
    assert len(monitor.state_dict()["history"]) == 6  # two windows, however long the search


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_resumed_search_stops_at_the_same_place(cut: int):
    """Also where an epoch is observed twice, because its checkpoint was not written."""
    values, genotypes = [9.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0, 99.0], cells(8)
    first = monitor_of(values, STOP)
    follow(first, genotypes[:cut])
    again = monitor_of(values[cut - 1 :], STOP)
    again.load_state_dict(first.state_dict())
    follow(again, genotypes[cut - 1 :], first=cut - 1)
    assert again.end == End(7, 2, genotypes[2])
    restored = monitor_of([], STOP)
    restored.load_state_dict(again.state_dict())
    assert restored.remarks() == again.remarks() and restored.end == again.end


def test_a_collapse_is_told_once_with_its_remedies(caplog: pytest.LogCaptureFixture):
    monitor = monitor_of([], Diagnostics(), num_epochs=12)
    with caplog.at_level(logging.WARNING):
        follow(monitor, [CONVS, *[SKIPS] * 11])
    (record,) = caplog.records
    assert record.getMessage() == (
        "epoch 6: the search is collapsing: for 5 epochs, 6 of 6 operations of the normal cell "
        "have learnt nothing that reaches its output (6 skip_connect). Such cells look good under "
        "shared weights and mostly retrain badly. What helps: tea"
    )
    assert monitor.warnings == {"normal cell": record.getMessage()}


def test_recovering_resets_the_count(caplog: pytest.LogCaptureFixture):
    monitor = monitor_of([], Diagnostics(), num_epochs=12)
    with caplog.at_level(logging.WARNING):
        follow(monitor, [SKIPS] * 4 + [CONVS] + [SKIPS] * 4)
    assert not caplog.records


def test_random_beginnings_are_no_collapse(caplog: pytest.LogCaptureFixture):
    monitor = monitor_of([], Diagnostics(), num_epochs=100)
    with caplog.at_level(logging.WARNING):
        follow(monitor, [SKIPS] * 25)
        assert not caplog.records
        follow(monitor, [SKIPS], first=25)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("arch_warmup_epochs", [0, 9, 15])
def test_cells_are_judged_where_alphas_have_moved(arch_warmup_epochs: int):
    """By hand: five epochs with arch steps, and more than a quarter of all that there are.

    Of 50 epochs that is the 13th; of 41 after 9 the 11th, of 35 after 15 the 9th: epochs 20, 24.
    """
    monitor = monitor_of([], Diagnostics(), arch_warmup_epochs=arch_warmup_epochs)
    follow(monitor, [SKIPS] * 50)
    first = {0: 13, 9: 20, 15: 24}[arch_warmup_epochs]
    assert monitor.warnings["normal cell"].startswith(f"epoch {first}: the search is collapsing")


def test_four_epochs_of_moving_alphas_are_too_few():
    monitor = monitor_of([], Diagnostics(), num_epochs=10, arch_warmup_epochs=6)
    follow(monitor, [SKIPS] * 10)
    assert not monitor.warnings
    monitor = monitor_of([], Diagnostics(), num_epochs=10, arch_warmup_epochs=5)
    follow(monitor, [SKIPS] * 10)
    assert monitor.warnings["normal cell"].startswith("epoch 10: the search is collapsing")


def test_alphas_that_have_ruled_nothing_out_are_leading_nowhere():
    """Nor do their epochs count; those of a warm start have ruled out what it has."""
    monitor = monitor_of([], Diagnostics(), num_epochs=24)
    follow(monitor, [SKIPS] * 12, arch=ARCH)
    follow(monitor, [SKIPS] * 4, first=12)
    assert not monitor.warnings
    follow(monitor, [SKIPS], first=16)
    assert monitor.warnings["normal cell"].startswith("epoch 17: the search is collapsing")
    warm = monitor_of([], Diagnostics(), num_epochs=12)
    warm.begin(SKIPS)
    follow(warm, [SKIPS] * 5, arch=ARCH)
    assert list(warm.warnings) == ["normal cell"]


def test_what_the_answer_disproves_is_withdrawn(caplog: pytest.LogCaptureFixture):
    """An early stop answers with an earlier cell, and a search can recover."""
    monitor = monitor_of([], Diagnostics(), num_epochs=12)
    follow(monitor, [SKIPS] * 12)
    assert list(monitor.warnings) == ["normal cell"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        monitor.conclude(CONVS, Softmax().expected(LED))
        monitor.conclude(CONVS, Softmax().expected(LED))
    assert monitor.warnings == {}
    (record,) = caplog.records
    assert record.getMessage() == "withdrawn: the normal cell of the answer has not collapsed"


def test_what_an_earlier_stage_has_dropped_is_ruled_out():
    """Level alphas of the last stage over three of five candidates: 2 of 5 are gone."""
    names = BENCH.cells["normal"].candidates[0]
    kept = {"normal": dict.fromkeys(range(6), ("none", "skip_connect", "avg_pool_3x3"))}
    assert set(kept["normal"][0]) < set(names)
    left = BENCH.restrict(kept)
    for whole, told in ((left, True), (BENCH, False)):
        monitor = Monitor(
            Diagnostics(),
            left,
            Scripted([]),  # type: ignore[arg-type]
            num_epochs=1,
            learns=True,
        )
        monitor.whole = whole
        monitor.conclude(SKIPS, Softmax().expected(ArchParameters(left)))
        assert (monitor.warnings.get("alphas") == UNDECIDED) is told
        # All that is left learns nothing, so the stage's own space calls no cell collapsed.
        assert (monitor.collapsed(SKIPS) == {}) is told
        assert ("normal cell" in monitor.warnings) is not told


def test_where_no_alpha_moves_nothing_can_collapse(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        follow(monitor_of([], Diagnostics(), num_epochs=12, learns=False), [SKIPS] * 12)
    assert not caplog.records


def test_a_resumed_search_neither_repeats_nor_forgets_its_warning(
    caplog: pytest.LogCaptureFixture,
):
    first = monitor_of([], Diagnostics(), num_epochs=12)
    follow(first, [SKIPS] * 4)
    for _ in range(2):  # before and after the warning
        again = monitor_of([], Diagnostics(), num_epochs=12)
        again.load_state_dict(first.state_dict())
        with caplog.at_level(logging.WARNING):
            follow(again, [SKIPS] * 2, first=4)
        first = again
    assert len(caplog.records) == 1 and list(first.warnings) == ["normal cell"]


def test_growing_curvature_is_told_where_the_search_does_not_stop(
    caplog: pytest.LogCaptureFixture,
):
    watching = Diagnostics(eigenvalue_every=1, stop_window=3, stop_first_epoch=0)
    monitor = monitor_of([1.5**i for i in range(12)], watching)
    with caplog.at_level(logging.WARNING):
        assert len(follow(monitor, [CONVS] * 12)) == 12
    (record,) = caplog.records
    assert f"grows (by a factor of {1.5**3:.2f} since epoch 2)" in record.getMessage()


def test_curvature_is_told_of_epochs_in_which_alphas_move():
    """Two windows of three behind four epochs: the tenth is the first that can be told."""
    watching = Diagnostics(eigenvalue_every=1, stop_window=3, stop_first_epoch=0)
    monitor = monitor_of([1.5**i for i in range(12)], watching, arch_warmup_epochs=4)
    follow(monitor, [CONVS] * 9)
    assert not monitor.warnings
    follow(monitor, [CONVS], first=9)
    assert monitor.warnings["curvature"].startswith("epoch 10: the curvature")


def test_the_answer_is_judged_however_short_the_search_was():
    monitor = monitor_of([], Diagnostics(), num_epochs=1)
    monitor.conclude(SKIPS, Softmax().expected(ARCH))
    monitor.conclude(SKIPS, Softmax().expected(ARCH))
    assert list(monitor.warnings) == ["normal cell", "alphas"]
    assert monitor.warnings["alphas"] == UNDECIDED and "close to a random one" in UNDECIDED


def test_alphas_that_hardly_moved_have_led_into_no_collapse(caplog: pytest.LogCaptureFixture):
    """What was said on the way is said anew: its remedies hold back what never moved."""
    monitor = monitor_of([], Diagnostics(), num_epochs=12)
    follow(monitor, [SKIPS] * 12)
    assert "What helps: tea" in monitor.warnings["normal cell"]
    monitor.conclude(SKIPS, Softmax().expected(ARCH))
    assert monitor.warnings["normal cell"].endswith(CHANCE)
    assert "tea" not in "".join(monitor.warnings.values())


@pytest.mark.parametrize(
    ("learns", "moved", "remedy"),
    [(True, True, "What helps: tea"), (True, False, CHANCE), (False, True, CHANCE)],
)
def test_what_holds_alphas_back_helps_where_alphas_have_led_into_it(learns, moved, remedy):
    """Cells that are drawn, or of alphas that hardly moved, are poor by chance."""
    monitor = monitor_of([], Diagnostics(), num_epochs=1, learns=learns)
    monitor.conclude(SKIPS, Softmax().expected(LED if moved else ARCH) if learns else None)
    told = monitor.warnings["normal cell"]
    assert "6 of 6 operations of the normal cell" in told and told.endswith(remedy)
    assert told.startswith("the search has ended in a collapse") is (learns and moved)
    assert ("alphas" in monitor.warnings) is (learns and not moved)


def test_a_warm_start_that_nothing_was_changed_of_is_told_as_one():
    monitor = monitor_of([], Diagnostics())
    monitor.begin(CONVS)
    again = monitor_of([], Diagnostics())
    again.load_state_dict(monitor.state_dict())
    again.conclude(CONVS, Softmax().expected(ARCH))
    assert again.warnings == {"alphas": UNCHANGED}
    monitor.conclude(cells(1)[0], Softmax().expected(ARCH))
    assert "alphas" not in monitor.warnings


def test_the_state_of_a_search_that_knew_one_warning_loads():
    monitor, now = monitor_of([], Diagnostics()), monitor_of([], Diagnostics()).state_dict()
    old = {key: now[key] for key in ("chosen", "chosen_epoch", "stopped_after", "history")}
    monitor.load_state_dict({**old, "warning": "told", "collapsed_since": 3})
    assert monitor.warnings == {"normal cell": "told"}
    monitor.load_state_dict({**old, "warning": "", "collapsed_since": None})
    assert monitor.state_dict() == now


def test_alphas_that_did_not_choose_are_not_judged():
    monitor = monitor_of([], Diagnostics())
    monitor.conclude(CONVS, None)
    assert not monitor.warnings


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("first", [0, 10])
@pytest.mark.parametrize("still", [0, 4, 20])
def test_the_fewest_epochs_with_which_a_stop_can_come_are_the_fewest(
    every: int, first: int, still: int
):
    """The curvature doubles at every measurement, so the search stops as soon as it may."""
    watching = replace(STOP, eigenvalue_every=every, stop_window=5, stop_first_epoch=first)
    least, curvature = watching.epochs_to_stop(still), [2.0**i for i in range(60)]
    monitor = monitor_of(curvature, watching, num_epochs=1000, arch_warmup_epochs=still)
    follow(monitor, [CONVS] * 400)
    assert monitor.end is not None and monitor.end.after == least
    measured = [e for e in range(still, least) if (e + 1) % every == 0]
    assert len(measured) >= 10  # two windows of alphas that move
    for epochs, told in ((least - 1, True), (least, False)):
        monitor = monitor_of([], watching, num_epochs=epochs, arch_warmup_epochs=still)
        monitor.begin(None)
        assert ("early stop" in monitor.warnings) is told
        assert not told or f"epochs={epochs + 1} or more" in monitor.warnings["early stop"]


def test_measuring_changes_nothing_of_the_search():
    """Bit for bit: the same steps with everything measured and with nothing."""
    everything = Diagnostics(eigenvalue_every=1, gap_every=1)
    plain, watched = task_of(DARTS), task_of(DARTS, diagnostics=everything)
    for step in range(6):
        for task in (plain, watched):
            task.train_step(at(task, step))
        if step == 2:
            a, b = (task.evaluate(at(task, step)) for task in (plain, watched))
            assert {name: b[name] for name in a} == a
            assert set(b) - set(a) == {"search/eigenvalue", "search/discretisation_gap"}
    for part in ("supernet", "alphas"):
        a, b = getattr(plain, part).state_dict(), getattr(watched, part).state_dict()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(flat(plain.alphas.parameters()), flat(watched.alphas.parameters()))


def test_a_task_that_has_stopped_says_so_and_answers_with_the_chosen_cell():
    stop = replace(STOP, stop_window=1)
    task, again = (plain_search(DARTS, diagnostics=stop) for _ in range(2))
    assert not task.is_finished and task.answer is None
    task.current.monitor.probe = Scripted([1.0, 2.0])  # type: ignore[assignment]
    first = task.genotype()
    task.evaluate(at(task.current, 0))
    task.current.alphas.logits["normal"].data.neg_()
    assert not task.is_finished and task.genotype() == task.current.genotype() != first
    task.evaluate(at(task.current, task.steps_per_epoch))
    assert task.is_finished and task.genotype() == task.answer == first
    again.load_state_dict(task.state_dict())
    assert again.is_finished and again.genotype() == again.answer == first
