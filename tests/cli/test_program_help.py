"""`--help` against what hydra itself composes: nothing is left out, and nothing is unexplained."""

import sys

import pytest
import yaml
from hydra import compose

from darts_gdas import config
from darts_gdas.cli.arguments import take_arguments
from darts_gdas.cli.program_help import EXAMPLES, program_help, settings

KINDS = [
    ("search", *arguments)
    for arguments in (
        ["method=beta_darts"],
        ["method=darts_minus", "perturbation=random", "optimizer/schedule=decay"],
        ["method=gdas", "dataset=webdataset", "logger=[wandb,mlflow]"],
        ["method=te_nas", "dataset=huggingface", "space=chain"],
        ["penalties=[cost,zero_one,dirichlet_kl]", "dataset=npz", "space=custom"],
        ["method=darts_pt", "dataset=torchvision"],
        ["method=evolution", "dataset=medmnist", "space=nasbench201"],
    )
] + [("train", "genotype=DARTS_V2", "dataset=image_folder"), ("score",)]


def chosen(values: dict) -> dict:
    """Without the parts that are off, and those without settings: both stand among the choices."""
    inside = {key: chosen(one) if isinstance(one, dict) else one for key, one in values.items()}
    off = {key for key, one in inside.items() if one == {} or (key, one) == ("perturbation", None)}
    return {key: one for key, one in inside.items() if key not in off}


@pytest.mark.parametrize(("program", "overrides"), [(kind[0], kind[1:]) for kind in KINDS])
def test_every_setting_is_there_with_its_value_and_a_meaning(program: str, overrides: tuple):
    with config.composing():
        cfg = compose(program, overrides=list(overrides))
    rows = list(settings(cfg))
    read: dict = {}
    for name, value, meaning in rows:
        assert len(meaning) > 9 and not meaning.startswith("One of"), name
        *above, last = name.split(".")
        inside = read
        for part in above:
            inside = inside.setdefault(part, {})
        inside[last] = yaml.safe_load(value)
    told = yaml.safe_load(config.to_yaml(cfg))
    assert read == chosen(told)


def test_help_shows_what_the_other_arguments_choose():
    text = program_help("search", ["method=darts", "seed=7", "--multirun"])
    assert "\n  seed=7\n" in text and "[darts]" in text and "[softmax]" in text
    assert "[gdas]" not in text and "_schema" not in text and "scale/" not in text
    assert "One of stop, skip, roll_back." in " ".join(text.split())


def test_the_examples_compose():
    for program, examples in EXAMPLES.items():
        for words, _ in examples:
            given = [word for word in words.split() if not word.startswith("-") and word != "job"]
            with config.composing():
                compose(program, overrides=[word for word in given if "," not in word])


def test_help_ends_before_a_run_and_names_what_is_wrong(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "epochs=3", "-h"])
    with pytest.raises(SystemExit) as stop:
        take_arguments("train")
    assert not stop.value.code and "\n  epochs=3\n" in capsys.readouterr().out


def test_help_leaves_out_what_is_swept():
    told = program_help("search", ["-m", "method=darts,gdas", "epochs=range(1,4)", "seed=7"])
    assert "\n  seed=7\n" in told and "[ntk_gdas]" in told


def test_experiments_are_offered_where_they_go_and_as_they_are_typed():
    assert "\n  +experiment: darts_cifar10, " in program_help("train", [])
    assert "experiment" not in program_help("search", []).partition("settings, with")[0]
