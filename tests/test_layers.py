"""Imports point down, and hydra stays where configuration is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "darts_gdas"
MODULES = sorted(ROOT.rglob("*.py"))

MAY_IMPORT = {
    "reasons": set(),
    "door": {"cli"},
    "__main__": {"cli"},
    "native": set(),
    "space": set(),
    "nets": {"space", "native", "runtime"},
    "search": {"space", "nets"},
    "ntk": set(),
    "scoring": {"space", "nets", "search", "ntk", "runtime"},
    "runtime": {"native"},
    "report": {"space", "runtime"},
    "tasks": {"space", "nets", "search", "ntk", "scoring", "runtime", "report"},
    "portable": {"space", "nets", "runtime", "report", "tasks"},
    "config": {
        *("space", "native", "nets", "search", "ntk", "scoring", "runtime", "report", "tasks"),
    },
    "extend": {"space", "nets", "search", "scoring", "runtime", "report", "config"},
    "score": {"door", "cli"},
    "compare": {"door", "cli"},
    "export": {"door", "cli"},
    "doctor": {"door", "cli"},
    "show": {"door", "cli"},
    "tune": {"door", "cli"},
    "new": {"door", "cli"},
    "api": {"space", "runtime", "report", "config", "cli"},
    "cli": {
        *("space", "nets", "search", "ntk", "scoring", "runtime", "report", "tasks"),
        *("portable", "config", "native"),
    },
}
"""For each package, whom it may import besides itself and `reasons` (docs/design.md).

A `__main__.py` is a program, so its imports stand behind the door.
"""


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = node.module or ""
            names.add(module)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def package_of(path: Path) -> str:
    """The first folder; a file that lies in none is the door of a program."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path):
    package = package_of(path)
    if package == "__init__":
        return
    targets = {name.split(".")[1] for name in imported(path) if name.startswith("darts_gdas.")}
    below = {"reasons", "door"} if path.name == "__main__.py" else {"reasons"}
    upward = targets - MAY_IMPORT[package] - {package} - below
    assert not upward, f"{path} imports {sorted(upward)}"


def test_networks_know_of_the_loop_only_how_a_file_is_read():
    files = {"darts_gdas.runtime", "darts_gdas.runtime.checkpoint", "darts_gdas.runtime.state"}
    for path in (ROOT / "nets").rglob("*.py"):
        modules = {".".join(name.split(".")[:3]) for name in imported(path)}
        assert {name for name in modules if name.startswith("darts_gdas.runtime")} <= files, path


def test_scores_know_of_the_loop_only_where_measurements_are_kept():
    for path in (ROOT / "scoring").rglob("*.py"):
        modules = {".".join(name.split(".")[:3]) for name in imported(path)}
        found = {name for name in modules if name.startswith("darts_gdas.runtime")}
        assert found <= {"darts_gdas.runtime", "darts_gdas.runtime.journal"}, path


def test_space_imports_no_torch():
    for path in (ROOT / "space").rglob("*.py"):
        assert not any(name.split(".")[0] == "torch" for name in imported(path)), path


def test_only_configuration_and_entry_point_import_hydra():
    users = {
        package_of(path)
        for path in MODULES
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imported(path))
    }
    assert users <= {"config", "cli", "extend", "api"}


def test_there_is_no_import_cycle():
    """Modules import each other like a tree's branches: removing leaves empties the graph."""
    names = {
        ".".join(("darts_gdas", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in MODULES
    }
    graph = {
        name: {target for target in imported(path) if target in names and target != name}
        for name, path in names.items()
    }
    while leaves := {name for name, targets in graph.items() if not targets}:
        graph = {name: targets - leaves for name, targets in graph.items() if name not in leaves}
    assert not graph, f"cycle among {sorted(graph)}"


def test_tasks_draw_nothing():
    """In a process of its own: neither TensorBoard nor matplotlib is there after all tasks are."""
    names = [f"darts_gdas.tasks.{path.stem}" for path in sorted((ROOT / "tasks").glob("[!_]*.py"))]
    assert len(names) > 10
    code = (
        "import importlib, sys\n"
        f"for name in {names}: importlib.import_module(name)\n"
        "print(*{name.split('.')[0] for name in sys.modules} & {'tensorboard', 'matplotlib'})\n"
        "print(*{name for name in sys.modules if name.startswith('torch.utils.tensorboard')})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert found.stdout.split() == [], found.stdout


def test_the_package_loads_nothing_that_is_optional():
    """Beyond torch, `import darts_gdas` loads what describes shapes; Triton takes longest."""
    code = (
        "import torch, sys; was = {*sys.modules}; import darts_gdas; print(*{*sys.modules} - was)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()} - {*sys.stdlib_module_names}
    assert loaded <= {"darts_gdas", "jaxtyping", "wadler_lindig", "torch", "numpy"}, loaded
