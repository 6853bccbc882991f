"""Trials by their runs, ranges, and the end of a study, on studies in memory."""

import argparse
import sqlite3
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from darts_gdas.cli.plan import Plan
from darts_gdas.cli.ranges import untried
from darts_gdas.cli.study import STUDY, open_study
from darts_gdas.cli.study_end import best_lines, finish, save_summary
from darts_gdas.cli.trials import RUN, ask, by_run, counts, ended, take_up
from darts_gdas.cli.tune import _tune, main
from darts_gdas.report.study import StudySummary, TrialSummary
from darts_gdas.runtime.files import RunFolder
from tests.report.test_run_page import make_search


def test_a_combination_that_was_not_tried_is_found_from_anywhere():
    values = {"a": range(2, 7, 4), "b": ("x", "y", "z")}
    every = [{"a": a, "b": b} for b in "xyz" for a in (2, 6)]
    for i, missing in enumerate(every):
        others = every[:i] + every[i + 1 :]
        assert {str(untried(values, others, start)) for start in range(9)} == {str(missing)}
    assert untried(values, every, 3) is None
    assert [untried(values, [], start) for start in range(6)] == every


def test_runs_are_counted_once_by_their_last_trial():
    """A run that was cut off and went on has two trials, of which the first did not fail."""

    def trial(state: str, run: str | None) -> SimpleNamespace:
        name = SimpleNamespace(name=state, is_finished=lambda: state in ("COMPLETE", "FAIL"))
        return SimpleNamespace(state=name, user_attrs={} if run is None else {RUN: run})

    trials = [
        trial("FAIL", "0000"), trial("COMPLETE", "0000"), trial("FAIL", None),
        trial("FAIL", "0001"), trial("FAIL", "0002"), trial("WAITING", "0002"),
    ]  # fmt: skip
    study: object = SimpleNamespace(get_trials=lambda deepcopy: trials)
    assert counts(study) == {"complete": 1, "failed": 1, "cut off": 1}  # type: ignore[arg-type]
    assert ended(study) == ["0000", "0001"]  # type: ignore[arg-type]
    assert by_run(study)["0000"] is trials[1]  # type: ignore[arg-type]


def test_the_table_of_the_best_has_the_names_of_settings_and_few_digits():
    found = {"optimizer.lr": "0.016125897628752463", "method": "gdas"}
    lines = best_lines([TrialSummary("0007", (0.8123456789,), found)], ["validation_accuracy"])
    assert [line.split() for line in lines] == [
        ["best", "trial"], ["validation_accuracy", "run", "optimizer.lr", "method"],
        ["-" * len(lines[2])], ["0.812346", "0007", "0.01613", "gdas"],
    ]  # fmt: skip
    assert lines[1].index("optimizer.lr") + len("optimizer.lr") == lines[3].index("0.01613") + 7


@pytest.mark.parametrize("words", [["method=gdas"], ["optimizer/schedule=decay"], ["a=/x/y"]])
def test_a_setting_in_place_of_the_folder_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["--trials", "2", *words, "batch_size=32,64"])
    assert stop.value.code == 2 and not any(tmp_path.iterdir())
    said = capsys.readouterr().err
    assert f"there is no folder '{words[0]}'; if it is a setting, the study's folder is" in said
    assert f"tune outputs/tune/first {words[0]} ..." in said


@pytest.mark.parametrize("word", ["-m", "gdas", "~epochs", "++epochs=2", "+foo=1"])
def test_what_is_no_setting_is_refused_in_words(word: str):
    with pytest.raises(ValueError, match=r"is no setting; |cannot be removed|Could not override"):
        Plan.of("search", [word, "batch_size=8,16"])


@pytest.fixture
def optuna():
    found = pytest.importorskip("optuna")
    found.logging.set_verbosity(found.logging.WARNING)
    return found


RANGES = {
    "net.channels=range(2,9,4)": ("range(2,7,4)", "2 to 6 in steps of 4"),
    "net.layers=range(8,2,-1)": ("range(3,9)", "3 to 8"),
    "batch_size=tag(log, range(8,65))": (
        "tag(log,range(8,65))", "8 to 64, even over orders of magnitude",
    ),
    "optimizer.lr=tag(log, interval(0.01,0.1))": (
        "tag(log,interval(0.01,0.1))", "0.01 to 0.1, even over orders of magnitude",
    ),
    "optimizer.lr=interval(0.01,0.1)": ("interval(0.01,0.1)", "0.01 to 0.1"),
    "batch_size=8,16,8": ("choice(8,16)", "one of 8, 16"),
    "batch_size='8',16": ("choice(8,16)", "one of 8, 16"),
    "net.layers=range(3,9,8)": ("range(3,4,8)", "3 to 3 in steps of 8"),
}  # fmt: skip


@pytest.mark.parametrize("typed", RANGES)
def test_a_range_is_told_as_it_is_typed_and_reads_back(optuna, typed: str):
    plan, (short, words) = Plan.of("search", [typed]), RANGES[typed]
    name = typed.split("=")[0]
    assert plan.told() == ["--program search", f"{name}={short}"]
    assert plan.ranges() == {name: words} and plan.even() == [name] * ("log" in typed)
    assert Plan.of("search", [f"{name}={short}"]).space == plan.space


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("batch_size=tag(foo, choice(8,16))", "the tag of a range must be log, got foo"),
        ("batch_size=tag(log, choice(8,16))", "the tag log is for interval"),
        ("batch_size=tag(log, range(8,65,2))", "with the tag log a range has steps of 1, got 2"),
        ("batch_size=tag(log, 8, 16)", "this range cannot be read; there are choice"),
        ("batch_size=tag(log, interval(8,64))", r"batch_size=tag\(log,range\(8,65\)\)$"),
        ("method=glob(*)", r"method=glob\(\*\): a study takes names themselves"),
        (
            "batch_size=float(range(16,30))",
            r"^batch_size takes whole numbers, such as batch_size=range\(1,3\), not 16\.0$",
        ),
        ("batch_size=interval(16.5,20)", r"^batch_size takes whole numbers: .*=range\(17,21\)$"),
        ("batch_size=interval(16.2,16.8)", r"such as batch_size=range\(1,3\), not 16\.2$"),
        ("epochs=choice(1 2)", r"^epochs takes whole numbers, such as epochs=range\(1,3\), not 1"),
        ("epochs = choice(1,2)", "^'epochs = choice.* NAME=VALUE, without blanks around the =$"),
        ("epochs=1,,2", "^'epochs=1,,2' cannot be read; .*, or write values as epochs=a,b$"),
        ("epochs=uniform(1,2)", r"^epochs=uniform\(1,2\): this range cannot be read; there are ch"),
        ("optimizer.lr=choice(1,1.0)", "^optimizer.lr: 1 and 1.0 are the same; leave one of them"),
        ("seed=1,${epochs}", r"^seed=1,.*: a value that varies cannot refer to another setting$"),
        (
            "method=choice(gdas,random)",
            "^method=random: a run without epochs has no validation_acc",
        ),
    ],
)
def test_a_range_without_a_meaning_is_refused_in_words(optuna, typed: str, told: str):
    with pytest.raises(ValueError, match=told):
        Plan.of("search", [typed])


def study_in_memory(optuna, seed: int = 0, directions: tuple[str, ...] = ("maximize",)):
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=2)
    return optuna.create_study(sampler=sampler, directions=list(directions))


def test_no_combination_is_asked_twice_and_all_are_in_the_end(optuna, tmp_path: Path):
    space = {
        "a": optuna.distributions.IntDistribution(1, 3),
        "b": optuna.distributions.CategoricalDistribution(("x", "y")),
    }
    study, seen = study_in_memory(optuna), []
    while (trial := ask(study, space, folder=tmp_path)) is not None:
        seen.append(tuple(trial.params.items()))
        study.tell(trial, float(trial.params["a"]))
    assert len(seen) == len(set(seen)) == 6
    assert list(by_run(study)) == [f"{i:04d}" for i in range(6)] == ended(study)
    assert counts(study) == {"complete": 6}


def test_a_run_that_was_cut_off_goes_on_under_its_name(optuna, tmp_path: Path):
    space = {"a": optuna.distributions.FloatDistribution(0.0, 1.0)}
    study = study_in_memory(optuna)
    cut = ask(study, space, folder=tmp_path)
    assert cut is not None and counts(study) == {"cut off": 1}
    nameless = study.ask(space)  # killed before it had a run
    take_up(study, [t for t in study.trials if not t.state.is_finished()])
    trial = ask(study, space, folder=tmp_path)
    assert trial is not None and trial.params == cut.params and trial.number > nameless.number
    study.tell(trial, 0.5)
    assert counts(study) == {"complete": 1}
    other = ask(study, space, folder=tmp_path)
    assert other is not None and other.user_attrs[RUN] == "0001"


def finished(optuna, folder: Path) -> tuple:
    """A study of two runs whose folders are there; the second is better."""
    plan = Plan.of("search", ["method=gdas", "optimizer.lr=tag(log, interval(0.01,0.1))"])
    study = study_in_memory(optuna)
    for value in (0.5, 0.75):
        trial = ask(study, plan.space, folder=folder)
        assert trial is not None
        make_search(folder / trial.user_attrs[RUN], f"optimizer.lr={trial.params['optimizer.lr']}")
        study.tell(trial, value)
    return study, folder, plan


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ((), "Next:\n"),
        (("0001/genotype.json",), "0001 has no genotype.json any more, so there is no cell"),
        (("0001/*",), "0001 has no genotype.json any more, so there is no cell to retrain"),
        (("0000/*", "0001/*"), "no page: the folders of its runs are gone"),
    ],
)
def test_a_study_whose_folders_are_gone_ends_in_words(
    optuna, tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: tuple[str, ...], told: str
):
    study = finished(optuna, tmp_path)
    for name in ("0000", "0001"):
        (tmp_path / name / "genotype.json").touch()
        text = (Path(__file__).parents[2] / "darts_gdas/space/published/GDAS_V1.json").read_text()
        (tmp_path / name / "genotype.json").write_text(text)
    for pattern in gone:
        for path in tmp_path.glob(pattern):
            path.unlink()
    finish(*study)
    said = capsys.readouterr().out
    assert "study.db: 2 complete\nbest trial\n" in said and told in said
    assert (tmp_path / "report.html").exists() == (len(gone) < 2)
    assert ("Next:" in said) == (not gone)
    if len(gone) < 2:
        summary = StudySummary.of(tmp_path)
        assert summary is not None and summary.best[0].run == "0001"
        assert list(summary.even) == ["optimizer.lr"]


@pytest.mark.parametrize("is_begun", [True, False])
def test_what_is_kept_of_a_run_that_was_stopped_is_what_is_there(
    optuna, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], is_begun: bool
):
    plan = Plan.of("search", ["method=gdas", "optimizer.lr=interval(0.01,0.1)"])

    def run(study, trial, options, plan, request) -> list[str]:
        request.signum = 2
        if is_begun:
            make_search(tmp_path / trial.user_attrs[RUN], finished=False)
        return []

    monkeypatch.setattr("darts_gdas.cli.tune._run", run)
    with pytest.raises(SystemExit) as stop:
        _tune(study_in_memory(optuna), argparse.Namespace(study=tmp_path, trials=3, seed=0), plan)
    assert stop.value.code == 130
    kept = "which is kept" if is_begun else "of which nothing was begun"
    assert capsys.readouterr().err == f"stopped in run 0000, {kept}\ngo on with: the same command\n"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("batch_size=16", "seed=0,1", "batch_size=32"), "batch_size=16 and batch_size=32"),
        (("seed=range(1,4)", "seed=7"), r"seed=range\(1,4\) and seed=7"),
        (("seed=1,2", "seed=3,4"), "seed=1,2 and seed=3,4"),
    ],
)
def test_a_setting_that_stands_twice_is_refused(settings: tuple[str, ...], told: str):
    with pytest.raises(ValueError, match=rf"is set twice, {told}; leave one of them out$"):
        Plan.of("search", settings)


def test_a_range_of_many_numbers_is_not_counted_through(optuna):
    tracemalloc.start()
    plan = Plan.of("search", ["seed=range(0,10_000_000,3)"])
    assert tracemalloc.get_traced_memory()[1] < 100e6  # as texts they take 200 MB and more
    tracemalloc.stop()
    assert plan.told()[1:] == ["seed=range(0,10000000,3)"]


@pytest.mark.parametrize("words", ["optimizer.lr=interval(0.1)", "batch_size=choice()"])
def test_what_begins_as_a_range_is_no_text(
    optuna, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "study"), words])
    assert f"error: {words}: this range cannot be read; there are" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_fewer_than_no_trials_before_pruning_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "study"), "seed=1,2", "--startup", "-1"])
    assert capsys.readouterr().err == "error: --startup must be at least 0, got -1\n"
    assert not any(tmp_path.iterdir())


def test_a_name_that_is_taken_in_the_folder_is_not_given_again(optuna, tmp_path: Path):
    """As where `study.db` was moved away."""
    space = {"a": optuna.distributions.FloatDistribution(0.0, 1.0)}
    for name in ("0000", "0001", "0003"):
        (tmp_path / name).mkdir()
    study, names = study_in_memory(optuna), []
    for _ in range(2):
        trial = ask(study, space, folder=tmp_path)
        assert trial is not None
        names.append(trial.user_attrs[RUN])
        study.tell(trial, 0.5)
    assert names == ["0002", "0004"]


def test_what_takes_a_known_ones_place_depends_on_the_seed(optuna, tmp_path: Path):
    """What is tried is proposed once more."""
    space = {"a": optuna.distributions.IntDistribution(1, 1000)}
    found = {}
    for seed in (0, 0, 1, 2):
        study = study_in_memory(optuna)
        for _ in range(2):
            study.enqueue_trial({"a": 7})
        asked = [ask(study, space, folder=tmp_path, seed=seed) for _ in range(2)]
        values = [trial.params["a"] for trial in asked if trial is not None]
        assert values[0] == 7 and found.setdefault(seed, values[1]) == values[1]
    assert len({*found.values()}) == 3


PLAN = ("batch_size=8,16", "method=gdas")


@pytest.mark.parametrize("name", ["a?b", "a%3Fb", "a{b}", "a#b&c", "a b"])
def test_a_study_lies_in_its_folder_whatever_its_name(optuna, tmp_path: Path, name: str):
    (folder := tmp_path / name).mkdir()
    plan = Plan.of("search", PLAN)
    study = open_study(folder, plan, seed=0, startup=5)
    assert ask(study, plan.space, folder=folder) is not None
    assert [*tmp_path.iterdir()] == [folder] and [*folder.iterdir()] == [folder / STUDY]
    with sqlite3.connect(folder / STUDY) as file:
        assert file.execute("select count(*) from trials").fetchone() == (1,)


def test_a_study_of_an_older_version_is_refused(optuna, tmp_path: Path):
    plan = Plan.of("search", PLAN)
    open_study(tmp_path, plan, seed=0, startup=5).set_user_attr("plan", {"program": "search"})
    with pytest.raises(ValueError, match=r"was begun by an older version; pass another folder$"):
        open_study(tmp_path, plan, seed=0, startup=5)


def test_a_study_that_another_process_tunes_is_called_a_study(
    optuna, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with RunFolder(tmp_path).lock(), pytest.raises(SystemExit):
        main([str(tmp_path), *PLAN])
    assert f"error: the study '{tmp_path}' is in use by another" in capsys.readouterr().err


def test_what_a_study_knows_lies_in_its_folder_after_every_trial(
    optuna, tmp_path: Path, monkeypatch
):
    """Stopped in the third trial, it has two, and one that is cut off; opened anew it says so."""
    plan, seen = Plan.of("search", ["method=gdas", "seed=range(0,9)"]), []

    def run(study, trial, options, plan, request) -> list[str]:
        seen.append(trial.user_attrs[RUN])
        if len(seen) == 3:
            request.signum = 2
        else:
            study.tell(trial, len(seen) / 4)
        return []

    monkeypatch.setattr("darts_gdas.cli.tune._run", run)
    study = open_study(tmp_path, plan, seed=0, startup=5)
    assert save_summary(study, tmp_path, plan) is None and StudySummary.of(tmp_path) is None
    with pytest.raises(SystemExit):
        _tune(study, argparse.Namespace(study=tmp_path, trials=9, seed=0), plan)
    summary = StudySummary.of(tmp_path)
    assert summary is not None and summary.counts == {"complete": 2, "cut off": 1}
    assert [(best.run, list(best.values)) for best in summary.best] == [("0001", [0.5])]
    assert save_summary(open_study(tmp_path, plan, seed=0, startup=5), tmp_path, plan)


def test_ctrl_c_while_the_page_is_written_says_what_is_kept(
    optuna, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("darts_gdas.cli.tune._tune", lambda *_: None)
    monkeypatch.setattr("darts_gdas.cli.tune.finish", interrupt)
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), *PLAN])
    told = (
        f"interrupted; what was tried is kept in {tmp_path / STUDY}; go on with: the same command"
    )
    assert stop.value.code == 130 and capsys.readouterr().err == f"{told}\n"


def test_a_study_ends_after_the_first_run_without_its_objective(
    optuna, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    """Which ends well, in a file that does not hold it."""

    def popen(arguments, **_) -> SimpleNamespace:
        (place,) = (word for word in arguments if word.startswith("run_dir="))
        (Path(place.removeprefix("run_dir=")) / "result.json").write_text('{"seconds": 1}')
        return SimpleNamespace(returncode=0, wait=lambda _: 0, poll=lambda: 0)

    monkeypatch.setattr("darts_gdas.cli.tune.subprocess.Popen", popen)
    plan = Plan.of("search", PLAN)
    options = argparse.Namespace(study=tmp_path, trials=2, seed=0, no_prune=False)
    study = study_in_memory(optuna)
    with pytest.raises(SystemExit) as stop:
        _tune(study, options, plan)
    size = study.trials[0].params["batch_size"]
    assert stop.value.code == 1 and counts(study) == {"failed": 1}
    assert capsys.readouterr().err == (
        f"error: run 0000 batch_size={size}: has no validation_accuracy\n"
        "error: the study ends here; choose objective=NAME, one of selected_accuracy, "
        "known_accuracy, parameters, multiply_adds, seconds\n"
    )
