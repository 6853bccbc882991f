"""What TensorBoard shows at the end, read back."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from darts_gdas.report.graph import derived_graph
from darts_gdas.report.outcome import closing_figures, write_outcome
from darts_gdas.space import Genotype
from tests.report.test_runs import RESULT
from tests.report.test_tensorboard import run_epochs

GENOTYPE, KINDS = Genotype.load("DARTS_V2"), ("normal", "reduce", "normal")
CONFIG = {"seed": 3, "net": {"channels": 4, "stem": "cifar"}, "penalties": None, "fast": True}


def write(folder: Path) -> EventAccumulator:
    write_outcome(folder, CONFIG, RESULT, GENOTYPE, kinds=KINDS, step=40)
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def content(events: EventAccumulator, tag: str) -> plugin_data_pb2.HParamsPluginData:
    data = events.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(data)


def test_settings_and_final_figures_come_back(tmp_path: Path):
    events = write(tmp_path)
    shown = content(events, metadata.SESSION_START_INFO_TAG).session_start_info.hparams
    assert shown["seed"].number_value == 3 and shown["net.stem"].string_value == "cifar"
    assert shown["penalties"].string_value == "None" and shown["fast"].string_value == "true"
    figures = {"accuracy": 90.0, "parameters": 1000, "multiply-adds": 5000, "seconds": 12.5}
    for name, value in figures.items():
        (scalar,) = events.Scalars(f"final/{name}")
        assert scalar.step == 40 and scalar.value == pytest.approx(value)
    experiment = content(events, metadata.EXPERIMENT_TAG).experiment
    assert {info.name.tag for info in experiment.metric_infos} == {f"final/{n}" for n in figures}
    assert content(events, metadata.SESSION_END_INFO_TAG).HasField("session_end_info")


def test_a_retraining_ends_with_how_far_it_can_be_trusted():
    test = {"accuracy": 0.9, "balanced_accuracy": 0.8}
    result = {"kind": "train", "test": test, "calibration": {"error": 0.025}, "seconds": 2.0}
    figures = closing_figures(result)
    assert figures["accuracy"] == pytest.approx(90.0)
    assert figures["balanced_accuracy"] == pytest.approx(80.0)
    assert figures["calibration_error"] == pytest.approx(2.5) and figures["seconds"] == 2.0


def test_the_graph_comes_back(tmp_path: Path):
    found = GraphDef.FromString(write(tmp_path).Graph().SerializeToString())
    assert found == derived_graph(GENOTYPE, KINDS)


def test_a_run_that_ends_twice_shows_its_end_once(tmp_path: Path):
    run_epochs(tmp_path, range(4))
    write(tmp_path)
    events = write(tmp_path)
    assert [scalar.step for scalar in events.Scalars("final/accuracy")] == [40]
    assert [scalar.step for scalar in events.Scalars("train/loss")] == [10, 20, 30, 40]
    assert len(list(tmp_path.iterdir())) == 2
