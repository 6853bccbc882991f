"""What TensorBoard will show, read back from the events."""

import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PageAccumulator,
)
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.summary.writer import event_file_writer

from darts_gdas.report.budget import Budget
from darts_gdas.report.tensorboard import TensorBoard
from darts_gdas.report.view import SearchView, edge_name
from darts_gdas.runtime.task import EpochReport, Progress
from darts_gdas.space import CellSpace, SearchSpace
from tests.deaths import die, is_killed

SPACE = SearchSpace.darts(num_nodes=2, candidates=("none", "skip_connect", "sep_conv_3x3"))
STEPS = 10


def view_at(seed: int, space: SearchSpace = SPACE) -> SearchView:
    generator = np.random.default_rng(seed)
    probabilities = {
        kind: generator.dirichlet(np.ones(cell.num_candidates), len(cell.edges))
        for kind, cell in space.cells.items()
    }
    alphas = {kind: np.log(values) for kind, values in probabilities.items()}
    genotype = space.sample(random.Random(seed // 2))
    return SearchView(space, probabilities, genotype, alphas=alphas)


def run_epochs(
    folder: Path, epochs: range, *, start: Progress | None = None, share: float = 1.0
) -> None:
    seed = [0]
    board = TensorBoard(folder, view=lambda: view_at(seed[0]), budget=Budget(share))
    board.on_start(start or Progress(epochs[0], 4, 0, STEPS))
    for epoch in epochs:
        seed[0] = epoch
        metrics = {"train/loss": 1.0 / (epoch + 1)}
        board.on_epoch_end(EpochReport(epoch, 4, STEPS * (epoch + 1), metrics, False, 0.5))
    board.on_stop()


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(
        str(folder), size_guidance={"images": 0, "tensors": 0, "histograms": 0}
    )
    events.Reload()
    return events


def test_every_candidate_of_every_edge_has_a_curve(tmp_path: Path):
    run_epochs(tmp_path, range(4))
    events = read(tmp_path)
    curves = [tag for tag in events.Tags()["scalars"] if tag.startswith("probability_")]
    assert len(curves) == 2 * 5 * 3
    scalars = events.Scalars("probability_reduce/c_k-1->1/sep_conv_3x3")
    assert [scalar.step for scalar in scalars] == [10, 20, 30, 40]
    expected = [view_at(epoch).probabilities["reduce"][3, 2] for epoch in range(4)]
    assert [scalar.value for scalar in scalars] == pytest.approx(expected, rel=1e-6)
    assert [s.value for s in events.Scalars("train/loss")] == pytest.approx(
        [1, 1 / 2, 1 / 3, 1 / 4]
    )


def test_one_chart_per_edge_matches_the_curves_exactly(tmp_path: Path):
    run_epochs(tmp_path, range(1))
    events = read(tmp_path)
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    titles = [category.title for category in layout.category]
    assert titles == ["overview", "normal cell", "reduce cell"]
    tags = set(events.Tags()["scalars"])
    for category in layout.category[1:]:
        assert len(category.chart) == 5
        for chart in category.chart:
            names = [pattern.strip("^$") for pattern in chart.multiline.tag]
            assert len(names) == 3 and set(names) <= tags


def overview(folder: Path) -> dict[str, set[str]]:
    """The charts that stand first, with the curves that they show."""
    events = read(folder)
    (event,) = events.Tensors("custom_scalars__config__")
    first = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0]).category[0]
    assert first.title == "overview"
    tags = events.Tags()["scalars"]
    return {
        chart.title: {tag for name in chart.multiline.tag for tag in tags if re.match(name, tag)}
        for chart in first.chart
    }


def test_a_search_opens_on_its_leads(tmp_path: Path):
    board = TensorBoard(tmp_path, view=lambda: view_at(0))
    board.on_start(Progress(0, 1, 0, STEPS))
    names = {"train/loss", "validation/loss", "train/accuracy", "entropy/normal", "search/tau"}
    board.on_epoch_end(EpochReport(0, 1, STEPS, dict.fromkeys(names, 0.5), False, 0.5))
    board.on_stop()
    shown = overview(tmp_path)
    assert [*shown][:2] == ["leads in the normal cell", "leads in the reduce cell"]
    assert len(shown["leads in the normal cell"]) == len(shown["leads in the reduce cell"]) == 5
    assert shown["loss"] == {"train/loss", "validation/loss"}
    assert shown["accuracy"] == {"train/accuracy"}
    assert shown["entropy: 1 is undecided"] == {"entropy/normal"}
    edges = [edge_name(SPACE.cells["normal"], edge) for edge in range(5)]
    assert shown["leads in the normal cell"] == {f"lead_normal/{edge}" for edge in edges}
    for edge, name in enumerate(edges):
        (scalar,) = read(tmp_path).Scalars(f"lead_normal/{name}")
        row = sorted(view_at(0).probabilities["normal"][edge])
        assert scalar.value == pytest.approx(row[-1] - row[-2], rel=1e-5)


def test_a_retraining_opens_on_accuracy_loss_and_what_was_scheduled(tmp_path: Path):
    board = TensorBoard(tmp_path)
    board.on_start(Progress(0, 1, 0, STEPS))
    names = ("test/loss", "test/accuracy", "train/learning_rate", "train/drop_path")
    board.on_epoch_end(EpochReport(0, 1, STEPS, dict.fromkeys(names, 0.5), False, 0.5))
    board.on_stop()
    assert overview(tmp_path) == {
        "accuracy": {"test/accuracy"},
        "loss": {"test/loss"},
        "learning rate": {"train/learning_rate"},
        "drop-path": {"train/drop_path"},
    }


@pytest.mark.parametrize(("num_epochs", "drawn"), [(4, [1, 2, 3, 4]), (600, [1, 25, 49, 50])])
def test_pictures_come_at_most_about_as_often_as_they_are_shown(
    tmp_path: Path, num_epochs: int, drawn: list[int]
):
    """Every 24th of 600 epochs; here the run ends after 50."""
    last = min(num_epochs, 50)
    board = TensorBoard(tmp_path, view=lambda: view_at(0), budget=Budget(1.0))
    board.on_start(Progress(0, num_epochs, 0, STEPS))
    for epoch in range(last):
        board.on_epoch_end(EpochReport(epoch, num_epochs, STEPS * (epoch + 1), {}, False, 0.5))
    board.on_stop()
    steps = steps_shown(tmp_path)
    assert steps["alphas/normal"] == steps["genotype"] == [STEPS * epoch for epoch in drawn]
    assert len(steps["lead_normal/c_k-1->0"]) == last


def test_weights_of_edges_have_curves_and_one_chart_per_kind(tmp_path: Path):
    weights = {kind: np.arange(5) / 10 for kind in SPACE.cells}
    view = replace(view_at(0), edge_weights=weights)
    board = TensorBoard(tmp_path, view=lambda: view)
    board.on_start(Progress(0, 1, 0, STEPS))
    board.on_epoch_end(EpochReport(0, 1, STEPS, {}, False, 0.5))
    board.on_stop()
    events = read(tmp_path)
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("edge_weight_")]
    assert len(tags) == 2 * 5
    assert events.Scalars("edge_weight_reduce/c_k-1->1")[0].value == pytest.approx(0.3)
    (event,) = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = [chart for category in layout.category for chart in category.chart]
    shown = [chart.multiline.tag for chart in charts if chart.title == "edge weights"]
    assert {tag.strip("^$") for names in shown for tag in names} == set(tags)


def test_the_genotype_is_drawn_after_every_epoch(tmp_path: Path):
    run_epochs(tmp_path, range(4))
    events = read(tmp_path)
    assert [image.step for image in events.Images("genotype")] == [10, 20, 30, 40]
    assert [image.step for image in events.Images("alphas/normal")] == [10, 20, 30, 40]
    assert events.Images("genotype")[0].width > 300


def test_where_epochs_are_short_the_first_and_the_last_are_drawn(tmp_path: Path):
    run_epochs(tmp_path, range(4), share=1e-6)
    steps = steps_shown(tmp_path)
    assert steps["genotype"] == steps["alphas/normal"] == steps["alphas/reduce"] == [10, 40]
    assert steps["train/loss"] == steps["genotype/text_summary"] == [10, 20, 30, 40]


def test_the_alphas_have_a_histogram_after_every_epoch(tmp_path: Path):
    run_epochs(tmp_path, range(4))
    for kind in SPACE.cells:
        events = read(tmp_path).Histograms(f"alphas_of_{kind}")
        assert [event.step for event in events] == [10, 20, 30, 40]
        for epoch, event in enumerate(events):
            values = view_at(epoch).alphas[kind]
            assert event.histogram_value.num == values.size
            assert event.histogram_value.sum == pytest.approx(values.sum())
            assert event.histogram_value.min == pytest.approx(values.min())


def test_candidates_that_an_edge_lacks_are_in_no_histogram(tmp_path: Path):
    view = replace(view_at(0), alphas={"normal": np.array([[0.5, np.nan], [1.0, 2.0]])})
    board = TensorBoard(tmp_path, view=lambda: view)
    board.on_start(Progress(0, 1, 0, STEPS))
    board.on_epoch_end(EpochReport(0, 1, STEPS, {}, False, 0.5))
    board.on_stop()
    (event,) = read(tmp_path).Histograms("alphas_of_normal")
    assert event.histogram_value.num == 3 and event.histogram_value.sum == pytest.approx(3.5)


def steps_shown(folder: Path) -> dict[str, list[int]]:
    """Steps of all that is written after epochs, by its tag, from the reader behind the pages."""
    events = PageAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["tensors"] if not tag.startswith("custom_scalars")]
    return {tag: [event.step for event in events.Tensors(tag)] for tag in tags}


def test_a_resumed_run_replaces_what_came_after_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Files are read in the order of their names: second, process, number within the process. A
    # resumed run has a later second; here both have one, so the numbers must sort (not 9, 10).
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    run_epochs(tmp_path, range(3))
    run_epochs(tmp_path, range(2, 4), start=Progress(2, 4, 3, STEPS))
    steps = steps_shown(tmp_path)
    expected = {"train/loss", "alphas_of_normal", "alphas/reduce", "genotype/text_summary"}
    assert expected <= set(steps)
    assert all(found == [10, 20, 30, 40] for found in steps.values()), steps


@pytest.mark.parametrize("start", [Progress(1, 4, 0, STEPS), Progress(1, 4, 7, STEPS),
                                   Progress(0, 4, 0, STEPS), Progress(0, 4, 3, STEPS)])  # fmt: skip
def test_killed_after_a_flush_nothing_is_lost_doubled_or_out_of_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Progress
):
    """The checkpoint to go on from may be older than the events, or not be there at all."""

    def at_second(second: int) -> None:  # files are read in the order of their names
        monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: second))

    def live_for_two_epochs() -> None:
        at_second(1_000_000_000)
        board = TensorBoard(tmp_path)
        board.on_start(Progress(0, 4, 0, STEPS))
        for epoch in range(2):
            metrics = {"train/loss": float(epoch)}
            board.on_epoch_end(EpochReport(epoch, 4, STEPS * (epoch + 1), metrics, False, 0.5))
        die()

    assert is_killed(live_for_two_epochs)
    steps = [scalar.step for scalar in read(tmp_path).Scalars("train/loss")]
    assert steps == [10, 20]
    at_second(1_000_000_001)
    run_epochs(tmp_path, range(start.epoch, 4), start=start)
    steps = [scalar.step for scalar in read(tmp_path).Scalars("train/loss")]
    assert steps == [10, 20, 30, 40]


def test_gone_on_from_an_older_checkpoint_no_kind_of_event_stands_twice(tmp_path: Path):
    """Texts too, which readers do not purge; the layout of the charts once."""
    run_epochs(tmp_path, range(3))
    run_epochs(tmp_path, range(1, 4))
    events = read(tmp_path)
    for tag in events.Tags()["tensors"]:
        steps = [event.step for event in events.Tensors(tag)]
        assert steps == ([0] if tag.startswith("custom") else [10, 20, 30, 40]), tag


def test_without_a_view_there_are_only_scalars(tmp_path: Path):
    board = TensorBoard(tmp_path)
    board.on_start(Progress(0, 1, 0, STEPS))
    board.on_epoch_end(EpochReport(0, 1, STEPS, {"test/accuracy": 0.5}, True, 0.5))
    board.on_stop()
    tags = read(tmp_path).Tags()
    assert tags["scalars"] == ["test/accuracy", "time/seconds_per_epoch"]
    assert tags["images"] == []


def test_edges_with_different_candidates_have_their_own_curves(tmp_path: Path):
    rows = (("none", "skip_connect"), ("sep_conv_3x3",))
    space = SearchSpace({"normal": CellSpace(rows, num_nodes=1)})
    board = TensorBoard(tmp_path, view=lambda: view_at(0, space))
    board.on_start(Progress(0, 1, 0, STEPS))
    board.on_epoch_end(EpochReport(0, 1, STEPS, {}, True, 0.5))
    board.on_stop()
    curves = [tag for tag in read(tmp_path).Tags()["scalars"] if tag.startswith("prob")]
    assert sorted(curves) == [
        "probability_normal/c_k-1->0/sep_conv_3x3",
        "probability_normal/c_k-2->0/none",
        "probability_normal/c_k-2->0/skip_connect",
    ]
