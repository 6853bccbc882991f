"""The image's steps, without Docker: the files it copies, its build script and its entry point."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
STEPS = [
    (step.split(maxsplit=1)[0], step.split(maxsplit=1)[1])
    for step in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    if step and not step.startswith("#")
]
TINY = ("method=gdas", "epochs=1", "net.channels=2", "net.layers=3", "dataset.test_fraction=0.9")


def arguments(step: str) -> list[str]:
    return [argument for name, argument in STEPS if name == step]


def copied() -> list[str]:
    """What the image takes from the repository."""
    return [source for copy in arguments("COPY") for source in copy.split()[:-1]]


def test_a_build_argument_chooses_between_the_cuda_runtime_and_a_cpu():
    first, *_ = STEPS
    assert first == ("ARG", "VARIANT=cuda")
    cuda, cpu, chosen = arguments("FROM")
    assert re.fullmatch(r"nvidia/cuda:13\.\d+\.\d+-runtime-ubuntu24\.04 AS cuda", cuda)
    assert cpu == "ubuntu:24.04 AS cpu" and chosen == "${VARIANT}"


def test_everything_copied_is_there_and_not_ignored():
    ignored = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    for source in copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, f"{name}*") for name in kept), source


def test_programs_run_as_a_user_without_rights_in_a_folder_of_their_own():
    names = [name for name, _ in STEPS]
    assert arguments("USER") == ["darts"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert "install --directory --owner=darts /runs" in arguments("RUN")[-1]
    assert arguments("WORKDIR")[-1] == "/runs"


def test_scripts_are_those_of_the_repository():
    home = arguments("WORKDIR")[0]
    (entry,) = json.loads(arguments("ENTRYPOINT")[0])
    installs = [run.split()[0] for run in arguments("RUN") if run.startswith("docker/")]
    assert installs == ["docker/install.sh"]
    for script in (*installs, str(Path(entry).relative_to(home))):
        assert script in copied() and os.access(ROOT / script, os.X_OK), script
        subprocess.run(["sh", "-n", ROOT / script], check=True)


@pytest.mark.parametrize(
    ("command", "ranks", "run"),
    [
        ("search seed=3", "1", "python {root}/search.py seed=3"),
        ("train", "1", "python {root}/train.py"),
        ("score count=9", "1", "python -m darts_gdas.score count=9"),
        ("compare outputs", "4", "python -m darts_gdas.compare outputs"),
        ("python -V", "1", "python -V"),
        ("search a=1", "4", "torchrun --standalone --nproc-per-node=4 --signals-to-handle="
         "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2 {root}/search.py a=1"),
    ],
)  # fmt: skip
def test_the_entry_point_knows_the_programs(tmp_path: Path, command: str, ranks: str, run: str):
    for name in ("python", "torchrun"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (tmp_path / name).chmod(0o755)
    said = subprocess.run(
        [ROOT / "docker" / "entry.sh", *command.split()],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "RANKS": ranks},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == run.format(root=ROOT)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_image_without_docker_searches(tmp_path: Path):
    """The COPY steps, the build script and the entry point, in folders of this machine."""
    if shutil.which("python3") is None or sys.version_info[:2] > (3, 13):
        pytest.skip("no python3 that the package supports")
    home, venv, runs = tmp_path / "home", tmp_path / "venv", tmp_path / "runs"
    for copy in arguments("COPY"):
        *sources, target = copy.split()
        for source in sources:
            path = ROOT / source
            place = home / target if path.is_dir() else home / target / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, place)
    runs.mkdir()
    subprocess.run([home / "docker" / "install.sh", venv], check=True)
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [home / "docker" / "entry.sh", "search", *TINY, "run_dir=found"],
        env=clean | {"PATH": f"{venv}/bin:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
        cwd=runs,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (runs / "found" / "genotype.json").exists()
