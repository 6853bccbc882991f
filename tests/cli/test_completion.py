"""What the shells themselves offer, with the scripts that the command prints for them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darts_gdas.cli import main as module
from darts_gdas.cli.completion import SHELLS, script
from darts_gdas.cli.new import CHOSEN_BY
from darts_gdas.config import conf_folder

ASK = {
    "bash": """source {script}; COMP_LINE={line}; COMP_POINT=${{#COMP_LINE}}
        _darts_gdas; printf '%s\\n' "${{COMPREPLY[@]}}" """,
    "fish": "source {script}; complete -C {line}",
    "zsh": """autoload -Uz compinit; compinit -u -D; source {script}
        compadd() {{ print -l -- ${{@[(r)--,-1]}} }}; _files() {{}}; line={line}
        words=(${{=line}}); [[ $line == *' ' ]] && words+=('')
        CURRENT=$#words PREFIX=$words[-1]; _darts_gdas""",
}
"""A line up to the cursor, asked of the shell without a keyboard; what it offers, line by line."""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    (folder / "empty").mkdir()  # no names of files among what is offered
    for shell in SHELLS:
        (folder / shell).write_text(script(shell, module.HYDRA, module.PLAIN))
    return folder


def offered(shell: str, scripts: Path, line: str) -> set[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    ask = ASK[shell].format(script=scripts / shell, line=f"'{line}'")
    home = os.environ | {"HOME": str(scripts)}
    done = subprocess.run(
        [shell, "-c", ask], capture_output=True, text=True, env=home, cwd=scripts / "empty"
    )
    assert not done.stderr and done.returncode == 0, done.stderr
    words = {word.split("\t")[0] for word in done.stdout.splitlines()}
    current = line.rpartition(" ")[2]
    if shell == "bash" and "=" in current:  # it takes = for the end of a word
        words = {f"{current.rpartition('=')[0]}={word}" for word in words}
    return {word for word in words if word.startswith(current)}  # as zsh itself does


@pytest.mark.parametrize("shell", SHELLS)
def test_programs_settings_and_choices_are_completed(shell: str, scripts: Path):
    def ask(line: str) -> set[str]:
        return offered(shell, scripts, line)

    assert ask("darts-gdas tu") == {"tune"} and ask("darts-gdas co") == {"compare"}
    assert ask("darts-gdas search seed=3 metho") == {"method="}
    methods = {f"method={path.stem}" for path in (conf_folder() / "method").glob("*.yaml")}
    assert ask("darts-gdas search method=") == methods
    assert ask("darts-gdas search method=gd") == {"method=gdas", "method=gdas_frc"}
    assert {"dataset=digits", "dataset=cifar10"} <= ask("darts-gdas train dataset=")
    assert ask("darts-gdas search penalties=[co") == {"penalties=[cost]"}
    assert ask("darts-gdas search device=") == {"device=auto", "device=cpu", "device=cuda"}
    assert ask("darts-gdas search optimizer.schedule.") == {"optimizer.schedule.end="}
    assert "method=" not in ask("darts-gdas train ")
    assert ask("darts-gdas train objective=b") == {"objective=balanced_accuracy"}
    assert "objective=known_accuracy" in ask("darts-gdas search objective=")
    assert ask("darts-gdas search dataset.na") == set()
    assert ask("darts-gdas search dataset=torchvision dataset.na") == {"dataset.name="}
    assert "dataset.options=" in ask("darts-gdas search dataset=torchvision dataset.")
    layouts = {f"dataset.layout={name}" for name in ("auto", "channels_first", "channels_last")}
    assert ask("darts-gdas train dataset=npz seed=1 dataset.layout=") == layouts
    costs = ask("darts-gdas search penalties=[cost] penalties.cost.ta")
    assert costs == {"penalties.cost.target="}
    assert ask("darts-gdas export --format=onnx_") == {
        "--format=onnx_fp16",
        "--format=onnx_int8",
    }
    assert "+experiment=gdas_cifar10" in ask("darts-gdas train +experiment=")
    assert "+experiment=" not in ask("darts-gdas search +exp")
    assert {"--format", "--out"} <= ask("darts-gdas export --")
    assert ask("darts-gdas new my_") == {*CHOSEN_BY}
    assert ask("darts-gdas --com") == {"--completion"}
    shells = ask("darts-gdas --completion ") - {"--"}  # which stands before what zsh is given
    assert shells == {"bash", "zsh", "fish"}


@pytest.mark.parametrize(
    "typed", ["darts-gdas  search", "./darts-gdas search", "darts-gdas\tsearch"]
)
def test_bash_heeds_neither_paths_nor_blanks(typed: str, scripts: Path):
    assert offered("bash", scripts, f"{typed}  method=gdas metho") == {"method="}


def test_an_unknown_shell_is_one_line(monkeypatch, capsys):
    for arguments, got in ((["tcsh"], "'tcsh'"), ([], "''")):
        monkeypatch.setattr(sys, "argv", ["darts-gdas", "--completion", *arguments])
        with pytest.raises(SystemExit) as stop:
            module.main()
        assert stop.value.code == 2
        assert capsys.readouterr().err == (
            f"error: --completion {got}: choose one of bash, zsh, fish\n"
        )
