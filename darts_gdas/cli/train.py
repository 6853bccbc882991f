"""The program that trains a found or a published cell."""

from omegaconf import DictConfig

from darts_gdas import config as configuration
from darts_gdas.cli.closing import cost_details, finish_train
from darts_gdas.cli.prologue import opened
from darts_gdas.cli.search import SEARCH
from darts_gdas.cli.start import Start
from darts_gdas.cli.training import make_loop, run_loop
from darts_gdas.config import TrainConfig
from darts_gdas.report.artifacts import write_genotype
from darts_gdas.runtime.distributed import Ranks
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.usage import FAULT
from darts_gdas.space import Genotype
from darts_gdas.tasks.retrain import RetrainTask

TRAIN = "train"
COLUMNS = {"train": "train/accuracy", "test": "test/accuracy", "loss": "train/loss"}


def run_train(cfg: DictConfig) -> int:
    """Retrain a genotype, and leave the model and its test accuracy in the run folder.

    Returns:
        The exit status, as `run_search`.
    """
    with opened(cfg, TrainConfig, TRAIN, _build) as run:
        if run is not None:
            task, source = run.built
            loop = make_loop(run, task, COLUMNS, lambda: cost_details(task.compute))
            if run.ranks.is_first:
                write_genotype(run.folder.path, task.net.genotype, title=source)
            metrics = run_loop(loop, task, run)
            if run.ranks.is_first:
                print(finish_train(task, run.folder, metrics, loop, source))
        return 0
    return FAULT


def _build(
    start: Start[TrainConfig], ranks: Ranks
) -> tuple[tuple[RetrainTask, str], dict[str, str]]:
    """The task, and where its genotype is from."""
    genotype, source = ranks.from_first(lambda: _find_genotype(start))
    task = start.config.build(genotype, ranks)
    content = {"data": task.data_digest, "genotype_content": genotype.to_json()}
    return (task, source), content


def _find_genotype(start: Start[TrainConfig]) -> tuple[Genotype, str]:
    """The genotype to retrain and where it is from; a resumed run keeps its own."""
    source = start.config.genotype
    is_named_now = any(item.startswith("genotype=") for item in configuration.task_overrides())
    if start.state is not None and start.folder is not None and not is_named_now:
        source = str(start.folder.path / "genotype.json")
    if source is None:
        root = start.root.with_name(SEARCH)
        newest = RunFolder.newest(root, finished=True)
        if newest is None:
            raise ValueError(
                f"no finished search under {root}; run search.py first, or pass "
                "genotype=DARTS_V2 (or another name or path)"
            )
        source = str(newest.path / "genotype.json")
    return Genotype.load(source), source
