"""Every module has its tests, every example in a docstring runs, every public name is described."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import darts_gdas
import darts_gdas.ntk
import darts_gdas.search

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "darts_gdas").rglob("*.py")
    if path.name != "__init__.py"
)
TESTED_TOGETHER = {
    "tasks/running.py": "tasks/test_stage.py",
    "cli/arguments.py": "cli/test_main.py",
    "cli/wording.py": "cli/test_bad_input.py",
    "cli/beginning.py": "cli/test_untrained.py",
    "nets/asymmetric.py": "nets/test_operations.py",
    "nets/depthwise_products.py": "nets/test_depthwise.py",
    "nets/pointwise_products.py": "nets/test_pointwise.py",
    "nets/pooling.py": "native/test_pooling.py",
    "nets/fixed.py": "tasks/test_initial.py",
    "config/benchmark.py": "cli/test_untrained.py",
    "cli/score.py": "cli/test_untrained.py",
    "config/score.py": "cli/test_untrained.py",
    "score.py": "cli/test_untrained.py",
    "compare.py": "cli/test_compare.py",
    "export.py": "cli/test_export.py",
    "tune.py": "sweepers/test_tune.py",
    "cli/tune.py": "sweepers/test_tune.py",
    "cli/plan.py": "sweepers/test_tune.py",
    "cli/study.py": "sweepers/test_trials.py",
    "cli/study_end.py": "sweepers/test_trials.py",
    "cli/ranges.py": "sweepers/test_trials.py",
    "cli/trials.py": "sweepers/test_trials.py",
    "doctor.py": "cli/test_doctor.py",
    "new.py": "cli/test_new.py",
    "show.py": "cli/test_show.py",
    "nets/code.py": "portable/test_source.py",
    "config/chain.py": "test_config.py",
    "portable/cell_code.py": "portable/test_source.py",
    "nets/candidates.py": "nets/test_operations.py",
    "portable/plain.py": "portable/test_source.py",
    "portable/fresh.py": "portable/test_bundle.py",
    "portable/graphs.py": "portable/test_bundle.py",
    "portable/extras.py": "cli/test_export.py",
    "portable/runtimes.py": "portable/test_formats.py",
    "cli/run_data.py": "cli/test_export.py",
    "report/wandb_files.py": "report/test_to_wandb.py",
    "__main__.py": "report/test_command.py",
    "report/__main__.py": "report/test_command.py",
    "report/style.py": "report/test_page.py",
    "scoring/places.py": "scoring/test_table.py",
    "ntk/calls.py": "ntk/test_kernel.py",
    "ntk/generic.py": "ntk/test_kernel.py",
    "ntk/generators.py": "ntk/test_trials.py",
    "ntk/layers.py": "ntk/test_kernel.py",
    "ntk/structured.py": "ntk/test_kernel.py",
    "ntk/ways.py": "ntk/test_kernel.py",
    "ntk/plain.py": "ntk/test_expansion.py",
    "native/depthwise.py": "native/test_kernels.py",
    "native/pointwise.py": "native/test_kernels.py",
    "native/tensors.py": "native/test_kernels.py",
    "runtime/dataset.py": "runtime/test_datasets.py",
    "runtime/picture_files.py": "runtime/test_folder.py",
    "runtime/formats/kinds.py": "runtime/formats/test_torchvision.py",
    "runtime/usage.py": "report/test_command.py",
    "cli/start.py": "cli/test_bad_input.py",
    "cli/programs.py": "cli/test_runs.py",
    "cli/prologue.py": "cli/test_bad_input.py",
    "config/train.py": "test_config.py",
    "config/search.py": "test_config.py",
    "config/network.py": "test_config.py",
    "config/composition.py": "test_config.py",
    "config/groups.py": "test_config.py",
    "tasks/method.py": "tasks/test_search.py",
    "tasks/arch_step.py": "tasks/test_search.py",
}


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_every_module_has_its_mirrored_test(path: Path):
    inside = Path(*path.parts[1:])
    mirrored = inside.with_name(f"test_{path.name}")
    assert (ROOT / "tests" / TESTED_TOGETHER.get(str(inside), mirrored)).exists()


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_the_examples_in_docstrings_are_true(path: Path):
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_files_are_short_enough_to_have_one_reason(path: Path):
    assert len((ROOT / path).read_text().splitlines()) <= 300


def test_the_promised_names_are_there():
    """The contract of docs/design.md: others script against these."""
    for name in ("Genotype", "SearchSpace", "SuperNet", "DerivedNet", "Mixture"):
        assert inspect.getdoc(getattr(darts_gdas, name))
    for name in (
        "ArchParameters",
        "Softmax",
        "GumbelHard",
        "FirstOrder",
        "Unrolled",
        "UnrolledExact",
        "ArgMax",
    ):
        assert inspect.getdoc(getattr(darts_gdas.search, name))
    for name in (
        "empirical_ntk",
        "condition_number",
        "max_learning_rate",
        "predict_mse",
        "linear_regions",
        "phase_point",
    ):
        assert inspect.getdoc(getattr(darts_gdas.ntk, name))
