"""Bad input is one line on stderr, exit status 2, before any work and with no run folder."""

import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from darts_gdas.runtime.checkpoint import save
from darts_gdas.space import Genotype
from darts_gdas.tasks.ranking import ScoreTask
from darts_gdas.tasks.search import SearchTask
from tests.registries import parts_put_back

ROOT = Path(__file__).parents[2]
TINY = ["method=gdas", "epochs=1", "net.channels=2", "net.layers=3", "space.num_nodes=2"]


def image_tree(root: Path, side: int = 12) -> Path:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (side, side), (40 * i, 100, 200)).save(folder / f"{i}.png")
    return root


GENOTYPE = json.loads(Genotype.load("DARTS_V2").to_json())


def changed_genotype(edge: list) -> str:
    data = json.loads(json.dumps(GENOTYPE))
    data["cells"]["normal"]["nodes"][0][0] = edge
    return json.dumps(data)


ALL_NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
UNKNOWN = ALL_NONE.replace("none~2", "sep_conv_4x4~2")


def write_cells(folder: Path) -> None:
    """Tables and lists of cells that a program cannot use."""
    (folder / "table.csv").write_text(f"arch,test\n{ALL_NONE},10\n")
    (folder / "unknown.csv").write_text(f"arch,test\n{UNKNOWN},10\n")
    (folder / "cells.txt").write_text("DARTS_V1\nDARTS_V2\nGDAS_V1\n")
    (folder / "unknown.txt").write_text("\n".join([ALL_NONE] * 2 + [UNKNOWN]))


def case_name(value: list[str] | str) -> str:
    return " ".join(value)[:60] if isinstance(value, list) else ""


SEARCH_CASES = [
    (["method=foo"], "method=foo is not known; choose one of beta_darts, darts, darts_2nd"),
    (["dataset=foo"], "dataset=foo is not known; choose one of cifar10, cifar100, digits"),
    (["relaxation=foo"], "relaxation=foo is not known; choose one of auxiliary_skip, concrete"),
    (["--epochs", "3"], "settings are written without dashes, epochs=VALUE"),
    (["--batch-size=3"], "settings are written without dashes, batch_size=3"),
    (["epochs", "=", "3"], "'epochs' is no setting; write name=value, without blanks"),
    (["relaxation.tau=3"], "'relaxation.tau' has parts: set relaxation.tau.end, rel"),
    (["method=gdsa"], "method=gdsa is not known; did you mean gdas? choose one of beta_darts"),
    (["epoch=3"], "there is no setting 'epoch'; did you mean epochs?"),
    (["experiment=gdas_cifar10"], "'experiment' is added to the settings: +experiment=NAME"),
    (["+epochs=3"], "'epochs' is a setting already, not one to add: epochs=3"),
    (["+method=darts"], "'method' is chosen already, not one to add: method=darts"),
    (["lr=0.1"], "there is no setting 'lr'; did you mean arch_optimizer.lr or "),
    (["balanced_batches=maybe"], "balanced_batches must be true or false, got maybe"),
    (["outputs=[a]"], "'outputs' takes one value, no list, got [a]"),
    (["methd=darts"], "there is no setting 'methd'; did you mean method?"),
    (["datset=cifar10"], "there is no setting 'datset'; did you mean dataset?"),
    (["optimizer.learning_rate=1"], "there is no setting 'optimizer.learning_rate'"),
    (["dataset.root=x"], "'dataset.root' is a setting of another program, or of another choice"),
    (["epochs=many"], "epochs must be a whole number, got many"),
    (["++epochs=1e3"], "epochs must be a whole number, got 1e3"),
    (["net.layers=null"], "'net.layers' must have a value, it cannot be null"),
    (["net.reductions=a"], "'net.reductions' is a list: net.reductions=[a]"),
    (["method=[gdas,darts]"], "'method' takes one name, no list: method=NAME"),
    (["dataset=[cifar10]"], "'dataset' takes one name, no list: dataset=NAME"),
    (["stages.1.epochs=3"], "this search has no stage 1, counted from 0; method=pdarts has three"),
    (["optimizer=sgd"], "'optimizer' has parts: set optimizer.clip, optimizer.lr, "),
    (["++epochs=1"], "'epochs' is a setting, not one to add: epochs=1"),
    (["genotype=DARTS_V2"], "'genotype' is a setting of another program: python "),
    (["channels=4"], "darts_gdas.score; did you mean net.channels?"),
    (["method=DARTS"], "method=DARTS is not known; did you mean darts? choose one of"),
    (["--config-name=foo"], "conf/ has no program 'foo'; leave --config-name out"),
    (["+experiment=darts_cifar10"], "holds settings of another program (genotype); "),
    (["epochs=0"], "epochs must be at least 1, got 0"),
    (["batch_size=1"], "batch_size must be at least 2, got 1"),
    (["device=tpu"], "device must be one of auto, cpu, cuda, got tpu"),
    (["threads=-1"], "threads must lie in 0..1024 (0 is one per core), got -1"),
    (["relaxation.tau.end=0"], "relaxation.tau must stay positive, got 10.0 -> 0.0"),
    (["relaxation.tau.start=-1"], "relaxation.tau must stay positive, got -1.0 -> 0.1"),
    (["space.keep=3"], "space.keep must lie in 1..2, got 3"),
    (["space.candidates=[none,sep_conv_4x4]"], "unknown operations ['sep_conv_4x4']"),
    (["space.candidates=[none]"], "must offer something besides 'none'"),
    (["net.layers=2"], "net.layers must be at least 3, got 2: two reduction cells"),
    (["optimizer.lr=nan"], "optimizer.lr must be positive, got nan"),
    (["arch_optimizer.betas=[0.5]"], "arch_optimizer.betas are two numbers, got [0.5]"),
    (["optimizer.schedule.end=-1"], "optimizer.schedule.end must not be negative, got -1.0"),
    (["threads=100000"], "threads must lie in 0..1024"),
    (["resume="], "resume and run_dir must not be blank"),
    (["+foo=1"], "there is no setting 'foo'"),
    (["++optimzer.lr=5"], "there is no setting 'optimzer.lr'; did you mean optimizer.lr?"),
    (["~epochs"], "'~epochs': a setting cannot be removed"),
    (["method=null"], "what is chosen for a part must be a name, or a list of names"),
    (["optimizer.lr=" + "9" * 5000], "integer string conversion"),
    (["method=" + "x" * 5000], "File name too long"),
    (["seed=-1"], "seed must lie in 0..2^63 - 1, got -1"),
    (["method=darts_2nd", "precision=bf16"], "hypergradient=unrolled needs precision=fp32"),
    (["channels_last=false"], "channels_last=false has no effect on a search"),
    (["compile=inductor"], "compile=inductor needs the same candidates in every step"),
    (["method=darts", "hypergradient=unrolled_exact", "compile=inductor"],
     "compile=inductor cannot be differentiated twice"),
    (["method=darts_2nd", "compile=cuda_graphs"], "compile=cuda_graphs holds one pass at a time"),
    (["method=darts", "compile=inductor", "checkpoint_cells=true"],
     "compile=inductor and checkpoint_cells=true exclude each other"),
    (["partial_channels=3"], "net.channels must be a multiple of partial_channels=3"),
    (["method=pc_darts", "epochs=15"], "arch_warmup_epochs must lie between 0 and epochs=15"),
    (["space=s5"], "space=s5 is not known; choose one of chain, custom, darts, darts_frc, nasb"),
    (["space.fixed_reduction=nowhere"], "space.fixed_reduction: genotype 'nowhere' is neither a"),
    (["space.fixed_reduction='|none~0|+|none~0|none~1|+|none~0|none~1|noise~2|'"],
     "has no reduction cell with two inputs; take one that has, such as GDAS_FRC"),
    (["space=darts_frc", "net.reductions=[]"], "space has cells of kind ['reduce'], but"),
    (["method=pdarts", "epochs=20"], "epochs=20 contradicts stages, which take 3 + 3 + 3 = 9"),
    (["method=pdarts", "stages.1.epoch=3"],
     "no setting 'stages.1.epoch'; did you mean stages.1.epochs?"),
    (["method=pdarts", "stages.2.candidates=6"], "stages.2.candidates=6 is more than the 5 that"),
    (["stages=[{layers: 3}]"], "type `Stage` has missing mandatory value: epochs"),
    (["method=pdarts", "dataset=image_folder", "dataset.root=images", "dataset.image_size=3",
      "dataset.augment.crop_padding=0"], "images of 3x3 pixels are too small"),
    (["space=custom"], "space.normal: candidates must name operations, see docs/add_a_space.md"),
    (["space=custom", "space.normal={candidates: [none, 3]}"], "names of operations, got"),
    (["space=custom", "space.normal={kept: 2}"], "no setting 'space.normal.kept'; did you mean"),
    (["space=custom", "space.normal={candidates: [noise], predecessors: [[0, 1]]}"],
     "space.normal: space.predecessors must hold one list per node, 4 here, got 1"),
    (["net.reductions=[1,1]"], "net.reductions must be distinct and lie in 0..2, got (1, 1)"),
    (["net.reductions=[]"], "space has cells of kind ['reduce'], but the network has a place for"),
    (["compile=fast"], "compile must be one of none, inductor, cuda_graphs, got fast"),
    (["penalties=[foo]"], "penalties=foo is not known; choose one of beta_decay, cost"),
    (["method=gdas", "penalties.cost.target=3"],
     "a value is set inside a choice that is off; choose first"),
    (["perturbation.steps=3"], "a value is set inside a choice that is off; choose first"),
    (["penalties.cost.share=null"], "penalties.cost needs a target or a share, got null for both"),
    (["penalties.cost.target=9000", "penalties.cost.share=0.5"],
     "penalties.cost.target=9000 and penalties.cost.share=0.5 both say what a network may cost"),
    (["discretizer=perturbation"], "use discretizer=argmax or best_of_draws, or penalties=[]"),
    (["method=reinforce", "discretizer/judge=untrained", "epochs=3"],
     "epochs=3 train weights that discretizer/judge=untrained does not ask; set epochs=0"),
    (["penalties=[cost]", "penalties.cost.targt=3"],
     "no setting 'penalties.cost.targt'; did you mean penalties.cost.target?"),
    (["penalties=[cost]", "penalties.cost.target=9", "dataset.test_fraction=0.9"],
     "penalties.cost.target=9 cannot be met: the smallest network of this space and size costs"),
    (["space=nasbench201", "benchmark=table.csv"],
     "benchmark lacks 15624 of the 15625 cells of this space, |none~0|"),
    (["perturbation=random"], "relaxation=gumbel_hard runs one per edge"),
    (["weights_fraction=1.0"], "weights_fraction must lie between 0 and 1, got 1.0"),
    (["optimizer.lr=fast"], "optimizer.lr must be a number or 'auto', got 'fast'"),
    (["optimizer.lr=-1"], "optimizer.lr must be positive, got -1.0"),
    (["dataset=image_folder"], "dataset.root"),
    (["dataset=image_folder", "dataset.root=nowhere"], "nowhere"),
    (["dataset=image_folder", "dataset.root=empty"], "empty"),
    (["dataset=image_folder", "dataset.root=images", "dataset.image_size=3",
      "dataset.augment.crop_padding=0"], "images of 3x3 pixels are too small"),
    (["dataset=cifar10", "dataset.root=nowhere"], "dataset.download=true"),
    (["dataset.augment.cutout=16"], "dataset.augment.cutout must be less than the image's 8"),
    (["warm_start=ntk", "warm_start.samples=3"], "warm_start.samples must be at least 10, got 3"),
    (["warm_start=ntk", "warm_start.scores=[luck]"], "must be distinct names out of ntk_logdet"),
    (["resume=nowhere"], "resume=nowhere does not exist"),
    (["resume=empty"], "resume=empty is a folder without checkpoints"),
    (["run_dir=file"], "run_dir 'file' cannot be made"),
]  # fmt: skip


RANKING_CASES = [
    (["scores=[luck]"], "scores must be distinct names out of ntk_logdet"),
    (["count=2"], "count must be at least 3, got 2"),
    (["benchmark=nowhere.npz"], "'nowhere.npz' does not exist"),
    (["benchmark_column=x"], "has no effect without benchmark"),
    (["benchmark=table.csv", "count=3"], "benchmark lacks 3 of the 3 cells to be ranked, |"),
    (
        ["benchmark=unknown.csv"],
        "benchmark 'unknown.csv' names unknown operations ['sep_conv_4x4']",
    ),
    (["benchmark=table.csv", "cells=cells.txt"], "only cells of NAS-Bench-201 can be written"),
    (
        ["cells=unknown.txt"],
        "cells=unknown.txt, line 3: the cell names unknown operations ['sep_conv_4x4']",
    ),
    (["cells=nowhere.txt"], "cells=nowhere.txt cannot be read"),
    (["cuont=3"], "there is no setting 'cuont'; did you mean count?"),
    (["net.channels=2"], "train.py; did you mean channels?"),
]


@pytest.mark.parametrize(("arguments", "message"), RANKING_CASES, ids=case_name)
def test_a_bad_ranking_is_one_line(run, tmp_path: Path, arguments: list[str], message: str):
    write_cells(tmp_path)
    before = set(tmp_path.rglob("*"))
    status, out, err = run("darts_gdas/score.py", "space=nasbench201", *arguments)
    assert status == 2 and out == ""
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("arguments", "message"), SEARCH_CASES, ids=case_name)
def test_a_bad_search_is_one_line(run, tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    image_tree(tmp_path / "images")
    write_cells(tmp_path)
    before = set(tmp_path.rglob("*"))
    status, out, err = run("search.py", *arguments)
    assert status == 2
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err
    assert out == ""
    assert set(tmp_path.rglob("*")) == before


TRAIN_CASES = [
    (["genotype=DARTS_V3"], "genotype 'DARTS_V3' is neither a published name"),
    (["genotype=unknown.json"], "unknown operations ['sep_conv_4x4']"),
    ([f"genotype='{UNKNOWN}'"], "unknown operations ['sep_conv_4x4']; known: none, max_pool_3x3"),
    (["genotype=forward.json"], "node 0 reads state 4, but only states 0..1 exist before it"),
    (["genotype=broken.json"], "not JSON"),
    ([], "no finished search under outputs/search; run search.py first"),
    (["genotype=DARTS_V2", "regularization.drop_path=1.5"], "regularization.drop_path must lie"),
    (["genotype=DARTS_V2", "net.layers=1"], "net.layers must be at least 3, got 1"),
    (["genotype=DARTS_V2", "optimizer/schedule=step"], "optimizer/schedule=step is not known"),
]


@pytest.mark.parametrize(("arguments", "message"), TRAIN_CASES, ids=case_name)
def test_a_bad_retraining_is_one_line(run, tmp_path: Path, arguments: list[str], message: str):
    (tmp_path / "unknown.json").write_text(changed_genotype(["sep_conv_4x4", 0]))
    (tmp_path / "forward.json").write_text(changed_genotype(["sep_conv_3x3", 4]))
    (tmp_path / "broken.json").write_text("{")
    before = set(tmp_path.rglob("*"))
    status, out, err = run("train.py", *arguments)
    assert status == 2
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err
    assert out == ""
    assert set(tmp_path.rglob("*")) == before


def interrupted_run(run, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Path:
    """A search that was stopped after its first step; its folder."""
    original = SearchTask.train_step

    def train_step(self, progress):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(SearchTask, "train_step", train_step)
        status, _, err = run("search.py", *TINY, *arguments)
    assert status == 143 and "search.py resume=" in err
    return Path(err.rsplit("resume=", 1)[1].strip())


def test_a_truncated_checkpoint_is_one_line(run, monkeypatch: pytest.MonkeyPatch):
    folder = interrupted_run(run, monkeypatch)
    (path,) = (folder / "checkpoints").glob("*.pt")
    path.write_bytes(path.read_bytes()[:-100])
    for target in (path, folder):
        status, out, err = run("search.py", *TINY, f"resume={target}")
        assert status == 2 and out == "" and err.count("\n") == 1
        assert "is damaged: its sha256 does not match" in err


def test_a_checkpoint_of_another_space_is_refused(run, monkeypatch: pytest.MonkeyPatch):
    folder = interrupted_run(run, monkeypatch)
    status, _, err = run("search.py", "space.num_nodes=3", f"resume={folder}")
    assert status == 2 and err.count("\n") == 1
    assert "with other settings (space.num_nodes: 2 -> 3)" in err


def test_a_checkpoint_of_another_method_is_refused(run, monkeypatch: pytest.MonkeyPatch):
    folder = interrupted_run(run, monkeypatch)
    status, _, err = run("search.py", "relaxation=softmax", f"resume={folder}")
    assert status == 2 and "relaxation: GumbelHard -> Softmax" in err


def test_a_search_cannot_go_on_as_a_retraining(run, monkeypatch: pytest.MonkeyPatch):
    folder = interrupted_run(run, monkeypatch)
    status, _, err = run("train.py", "genotype=DARTS_V2", f"resume={folder}")
    assert status == 2 and "the checkpoint is of a search, this run is a train" in err


def test_a_used_run_folder_is_not_overwritten(run, monkeypatch: pytest.MonkeyPatch):
    folder = interrupted_run(run, monkeypatch)
    status, _, err = run("search.py", *TINY, f"run_dir={folder}")
    assert status == 2 and "holds a run already; pass resume=auto" in err


def test_a_new_run_takes_nothing_from_a_dead_one_in_its_folder(run, tmp_path: Path):
    """Killed before its first checkpoint; the folder is used again without resume."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "overrides.yaml").write_text("[seed=5, method=darts]\n")
    status, _, _ = run("search.py", *TINY, "dataset.test_fraction=0.9", "run_dir=run")
    assert status == 0
    assert "seed: 0" in (tmp_path / "run" / "config.yaml").read_text()


def test_changed_data_is_refused_on_resume(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = image_tree(tmp_path / "images")
    data = ("dataset=image_folder", f"dataset.root={root}", "dataset.augment.crop_padding=0")
    folder = interrupted_run(run, monkeypatch, *data)
    status, _, err = run(
        "search.py", f"resume={folder}", "dataset=image_folder", f"dataset.root={root}"
    )
    assert status == 0, err
    folder = interrupted_run(run, monkeypatch, *data)
    Image.new("RGB", (12, 12), (1, 2, 3)).save(root / "train" / "cat" / "0.png")
    status, _, err = run("search.py", f"resume={folder}")
    assert status == 2 and "made with other settings (data: " in err


def test_the_same_command_resumes_an_experiment(run, tmp_path: Path):
    arguments = ("+experiment=darts_v1_cifar10", "dataset=digits", "dataset.test_fraction=0.9",
                 "epochs=1", "net.channels=2", "net.layers=3", "run_dir=run")  # fmt: skip
    assert run("train.py", *arguments)[0] == 0
    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed before the end
    status, out, err = run("train.py", *arguments, "resume=auto")
    assert status == 0, err
    assert "Retraining finished" in out


def test_divergence_is_one_line_and_no_result(run, tmp_path: Path):
    status, out, err = run(
        "search.py", *TINY, "optimizer.lr=1e38", "optimizer.clip=0", "batch_size=800", "run_dir=run"
    )
    assert status == 1 and out == ""
    last = err.splitlines()[-1]
    assert last.startswith("error: epoch 1, step 1: arch step: the loss is nan. The step was not")
    assert not (tmp_path / "run" / "result.json").exists()


def test_an_error_of_ours_in_a_run_keeps_its_traceback(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SearchTask, "train_step", lambda *_: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        run("search.py", *TINY)


def test_one_of_several_processes_needs_to_know_the_others(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = run("search.py", *TINY)
    assert status == 2 and "MASTER_ADDR is not set; start with torchrun" in err
    monkeypatch.setenv("RANK", "1")  # the first one says it for all
    status, out, err = run("search.py", *TINY)
    assert (status, out, err) == (2, "", "")


def test_damaged_and_foreign_overrides_are_one_line(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing in them is run, and they say neither where the run goes nor how hydra behaves."""
    folder = interrupted_run(run, monkeypatch)
    marker = tmp_path / "marker"
    for content in (
        "", "{: [", "a: 1", "[1, 2]",
        f"!!python/object/apply:os.system ['touch {marker}']",
        f"[!!python/object/apply:os.mkdir ['{marker}']]",
        "[run_dir=../../elsewhere]", "[resume=/tmp/other]", "[hydra.run.dir=/tmp]", "[+hydra.x=1]",
    ):  # fmt: skip
        (folder / "overrides.yaml").write_text(content)
        status, _, err = run("search.py", f"resume={folder}")
        assert status == 2 and err.count("\n") == 1 and "overrides.yaml" in err
    assert not marker.exists()


def test_a_foreign_file_is_no_checkpoint(run, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    save(tmp_path / "checkpoints" / "model.pt", {"kind": "model"})
    status, _, err = run("search.py", "resume=checkpoints/model.pt")
    assert status == 2 and "has schema None" in err


def test_a_checkpoint_outside_a_run_folder_is_refused(run, tmp_path: Path):
    save(tmp_path / "step.pt", {"kind": "search"})
    status, _, err = run("search.py", "resume=step.pt")
    assert status == 2 and "lies in no run folder" in err


def test_a_run_goes_on_in_its_own_folder(run, monkeypatch: pytest.MonkeyPatch):
    folder = interrupted_run(run, monkeypatch)
    status, _, err = run("search.py", f"resume={folder}", "run_dir=elsewhere")
    assert status == 2 and "drop run_dir=elsewhere" in err


def test_an_error_of_ours_in_a_ranking_keeps_its_traceback(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ScoreTask, "run", lambda *_: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        run("darts_gdas/score.py", "space=nasbench201", "dataset.test_fraction=0.9")


@pytest.mark.parametrize(
    "arguments",
    [
        ("search.py",),
        ("train.py", "genotype=DARTS_V2"),
        ("darts_gdas/score.py",),
        ("darts_gdas/show.py", "DARTS_V2"),
        ("darts_gdas/export.py", "run"),
        ("darts_gdas/compare.py", "run"),
        ("darts_gdas/report/__main__.py", "run"),
    ],
    ids=" ".join,
)
def test_a_package_that_cannot_be_loaded_is_one_line(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
):
    """No program begins without parts that somebody has installed."""
    (tmp_path / "flaky.py").write_text("import nonsense\n")
    installed = tmp_path / "flaky-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: flaky\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[darts_gdas]\nparts = flaky\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with parts_put_back():
        status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err == (
        "error: the package 'flaky' adds 'flaky', which cannot be loaded: ModuleNotFoundError: "
        "No module named 'nonsense'; repair the package, or uninstall it\n"
    )


def test_a_setting_that_is_given_two_values_is_told(run, caplog: pytest.LogCaptureFixture):
    """The same one twice is no news."""
    status, _, _ = run("search.py", "method=darts", "seed=3", "method=gdas", "seed=3", "epochs=0")
    assert status == 2
    assert caplog.messages == ["method is given 2 times (darts, gdas); the last one counts: gdas"]
