import json
from pathlib import Path

import pytest
import yaml

from darts_gdas.report.runs import (
    ACCURACY,
    BENCHMARK,
    DEFAULT_METHOD,
    LATENCY,
    PARAMETERS,
    PERCENTILE,
    REGRET,
    SECONDS,
    Run,
    find_folders,
    group_runs,
    read_run,
)
from darts_gdas.space import Genotype

RESULT = {
    "kind": "search",
    "metrics": {"validation/accuracy": 0.9, "train/loss": 1.0},
    "parameters": 1000,
    "multiply_adds": 5000,
    "seconds": 12.5,
}


def make_run(folder: Path, *overrides: str, result: dict | None = None, **config) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(RESULT if result is None else result))
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "epochs": 3} | config))
    return folder


def read(folder: Path) -> Run:
    return read_run(folder)


def test_a_search_is_read_with_its_method_seed_and_figures(tmp_path: Path):
    known = {"column": "test", "accuracy": 93.5, "regret": 0.87, "percentile": 99.0, "index": None}
    folder = make_run(
        tmp_path / "a", "method=darts", "epochs=3", "seed=4", "device=cpu", "epochs=5",
        result=RESULT | {"benchmark": known}, seed=4, optimizer={"lr": 0.1}, device="cpu",
    )  # fmt: skip
    run = read(folder)
    assert (run.kind, run.method, run.seed) == ("search", "darts", 4)
    assert run.choices == {"epochs": "5"}
    assert run.settings == {"epochs": 3, "optimizer.lr": 0.1}
    assert run.measures[ACCURACY] == pytest.approx(90.0)
    assert (run.measures[PARAMETERS], run.measures[SECONDS]) == (1000, 12.5)
    assert [run.measures[name] for name in (BENCHMARK, REGRET, PERCENTILE)] == [93.5, 0.87, 99.0]


def test_what_a_run_does_not_have_is_left_out(tmp_path: Path):
    untrained = {**RESULT, "metrics": {}}
    run = read(make_run(tmp_path / "a", result=untrained))
    assert run.method == DEFAULT_METHOD
    assert ACCURACY not in run.measures and BENCHMARK not in run.measures


def test_a_retraining_is_named_after_the_search_that_found_its_cell(tmp_path: Path):
    found = make_run(tmp_path / "found", "method=darts_2nd")
    test = {"kind": "train", "test": {"accuracy": 0.97}, "metrics": {"validation/accuracy": 0.1}}
    origins = {
        str(found / "genotype.json"): "darts_2nd", str(found): "darts_2nd", "DARTS_V2": "DARTS_V2",
        str(tmp_path / "gone" / "genotype.json"): str(tmp_path / "gone" / "genotype.json"),
    }  # fmt: skip
    for i, (source, method) in enumerate(origins.items()):
        run = read(
            make_run(tmp_path / str(i), "genotype=x", result=test | {"genotype_source": source})
        )
        assert (run.kind, run.method) == ("train", method)
        assert run.measures == {ACCURACY: pytest.approx(97.0)} and run.choices == {}


def test_cells_that_were_written_out_are_methods_of_their_own(tmp_path: Path):
    names = ("DARTS_V1", "DARTS_V2", "DARTS_V2")
    cells = [Genotype.load(name) for name in names]
    spellings = [cells[0].to_json(), cells[1].to_json(), json.dumps(json.loads(cells[2].to_json()))]
    assert len(spellings[1]) > 255 and spellings[1] != spellings[2]  # no name of a file is so long
    found = []
    for i, text in enumerate(spellings):
        result = {"kind": "train", "genotype_source": text, "parameters": 7}
        found.append(read(make_run(tmp_path / str(i), f"genotype={text}", result=result)))
    first, second, third = (run.method for run in found)
    assert first != second == third and all(len(run.method) < 30 for run in found)
    assert [len(group.runs) for group in group_runs(found)] == [1, 2]


def test_what_a_search_was_to_cost_is_known_of_its_retraining_too(tmp_path: Path):
    cost = {"quantity": "latency", "target": 0.25, "found": 0.2}
    found = make_run(
        tmp_path / "found", result=RESULT | {"cost": cost}, penalties={"cost": cost, "beta": None}
    )
    source = {"kind": "train", "genotype_source": str(found / "genotype.json"), "parameters": 7}
    free = make_run(tmp_path / "free", penalties={"cost": None})
    retrained = read(make_run(tmp_path / "retrained", result=source))
    assert read(found).aim == retrained.aim == ("latency", 0.25)
    assert read(found).measures[LATENCY] == 0.2 and LATENCY not in retrained.measures
    assert read(free).aim is None
    assert read(make_run(tmp_path / "named", result=source | {"genotype_source": "x"})).aim is None


def test_a_share_of_the_dearest_network_is_known_by_what_it_came_to(tmp_path: Path):
    """The target of such a run is null in its settings, and a number in its result."""
    shares = {"quantity": "parameters", "target": None, "share": 0.5}
    cost = {"quantity": "parameters", "target": 20_756.0, "found": 20_000}
    found = make_run(tmp_path / "found", result=RESULT | {"cost": cost}, penalties={"cost": shares})
    source = {"kind": "train", "genotype_source": str(found / "genotype.json"), "parameters": 7}
    retrained = read(make_run(tmp_path / "retrained", result=source))
    assert read(found).aim == retrained.aim == ("parameters", 20_756.0)
    silent = make_run(tmp_path / "silent", penalties={"cost": shares})
    assert read(silent).aim is None  # no target is known, so none is made up


def test_counted_costs_are_no_latency(tmp_path: Path):
    cost = {"quantity": "parameters", "target": 2000, "found": 1000}
    run = read(make_run(tmp_path / "a", result=RESULT | {"cost": cost}))
    assert LATENCY not in run.measures and run.measures[PARAMETERS] == 1000


def test_runs_that_differ_in_the_seed_alone_are_one_group(tmp_path: Path):
    """A default that is said is the same as one that is not."""
    folders = [
        make_run(tmp_path / "0", "method=darts", "seed=0"),
        make_run(tmp_path / "1", "method=darts", "seed=1", seed=1),
        make_run(tmp_path / "2", "method=darts", "epochs=3", "seed=2", seed=2),
        make_run(tmp_path / "3", "seed=0"),
    ]
    groups = group_runs(map(read, folders))
    assert [(group.label, [run.seed for run in group.runs]) for group in groups] == [
        ("darts", [0, 1, 2]),
        (DEFAULT_METHOD, [0]),
    ]
    assert groups[0].values(PARAMETERS) == [1000.0] * 3


def test_labels_say_what_tells_groups_apart_and_no_more(tmp_path: Path):
    folders = [
        make_run(tmp_path / "0", "net.channels=4", "epochs=3", net={"channels": 4}),
        make_run(tmp_path / "1", "net.channels=4", "epochs=9", epochs=9, net={"channels": 4}),
        make_run(tmp_path / "2", "net.channels=4", "epochs=3", net={"channels": 4}, hidden=1),
        make_run(
            tmp_path / "3", "net.channels=4", "epochs=1",
            result={"kind": "train", "genotype_source": "DARTS_V1"},
        ),
    ]  # fmt: skip
    labels = [group.label for group in group_runs(map(read, folders))]
    # The third differs in something its user did not set.
    found = [f"{DEFAULT_METHOD} {setting}" for setting in ("epochs=3", "epochs=9", "epochs=3 #2")]
    assert labels == [*found, "DARTS_V1"]


def test_finished_and_unfinished_runs_are_found_below_a_folder(tmp_path: Path):
    a, b = make_run(tmp_path / "sweep" / "0"), make_run(tmp_path / "sweep" / "1")
    (b / "result.json").unlink()
    assert find_folders(tmp_path) == ([a], [b])
    assert find_folders(a) == ([a], [])
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "no run folder"), (tmp_path / "x", "is no folder")):
        with pytest.raises(ValueError, match=message):
            find_folders(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("result.json", "{", "result.json' cannot be read"),
        ("result.json", "[]", "result.json' is damaged: it must hold a dict"),
        ("result.json", '{"kind": "score"}', "is a run of kind 'score'"),
        ("config.yaml", "a: [", "config.yaml' cannot be read"),
        ("overrides.yaml", "a: 1", "overrides.yaml' is damaged: it must hold a list"),
        ("overrides.yaml", None, "overrides.yaml' cannot be read"),
    ],
)
def test_damaged_and_foreign_folders_are_refused(
    tmp_path: Path, name: str, text: str | None, message: str
):
    folder = make_run(tmp_path / "a")
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read(folder)


@pytest.mark.parametrize("classes", [["a", "b"], "cats", 3, {"names": None}, {"names": "cats"}])
def test_classes_that_nobody_wrote_are_unknown(tmp_path: Path, classes: object):
    run = read_run(make_run(tmp_path / "a", result={**RESULT, "classes": classes}))
    assert run.classes == () and run.dataset == "digits"


def test_classes_are_the_same_in_any_order(tmp_path: Path):
    found = [{**RESULT, "classes": {"names": names}} for names in (["b", "a"], ["a", "b"])]
    runs = [read_run(make_run(tmp_path / str(i), result=each)) for i, each in enumerate(found)]
    assert runs[0].classes == runs[1].classes == ("a", "b") and len(group_runs(runs)) == 1
