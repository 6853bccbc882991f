"""Choices by group: what a user may take for each part of a search, and what it is called."""

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from darts_gdas.config.chain import ChainSpace
from darts_gdas.config.network import CustomSpace, DartsSpace, NasBench201Space, PublishedSpace
from darts_gdas.report.to_mlflow import MLflow
from darts_gdas.report.to_wandb import WeightsAndBiases
from darts_gdas.runtime.datasets import Cifar10, Cifar100, Digits, ImageFolder
from darts_gdas.runtime.formats import (
    HuggingFace,
    ImageNet16,
    MedMnist,
    Npz,
    Torchvision,
    WebDataset,
)
from darts_gdas.runtime.optim import Cosine, Decay
from darts_gdas.scoring.draws import BestOfDraws
from darts_gdas.scoring.warm_start import NoWarmStart, NtkWarmStart, TeNasWarmStart
from darts_gdas.search import (
    AdversarialPerturbation,
    ArgMax,
    AuxiliarySkip,
    BestOfSamples,
    BetaDecay,
    Concrete,
    Cost,
    Dirichlet,
    DirichletKL,
    Evolution,
    FirstOrder,
    GumbelHard,
    Known,
    LayerAlignment,
    PerturbationSelection,
    RandomPerturbation,
    Reinforce,
    SharedWeights,
    Sigmoid,
    Softmax,
    Uniform,
    Unrolled,
    UnrolledExact,
    Untrained,
    ZeroOne,
)
from darts_gdas.space.robust import ROBUST_CANDIDATES

GROUPS: dict[str, dict[str, Any]] = {
    "space": {
        "darts": DartsSpace,
        "nasbench201": NasBench201Space,
        "custom": CustomSpace,
        "chain_schema": ChainSpace,
        **{name: PublishedSpace(name) for name in ROBUST_CANDIDATES},
    },
    "relaxation": {
        "softmax": Softmax,
        "gumbel_hard": GumbelHard,
        "concrete": Concrete,
        "sigmoid": Sigmoid,
        "dirichlet": Dirichlet,
        "uniform": Uniform,
        "auxiliary_skip": AuxiliarySkip,
    },
    "hypergradient": {
        "first_order": FirstOrder,
        "unrolled": Unrolled,
        "unrolled_exact": UnrolledExact,
        "layer_alignment": LayerAlignment,
    },
    "discretizer": {
        "argmax": ArgMax,
        "perturbation": PerturbationSelection,
        "best_of_samples": BestOfSamples,
        "best_of_draws": BestOfDraws,
        "evolution": Evolution,
        "reinforce": Reinforce,
    },
    "discretizer/judge": {"shared_weights": SharedWeights, "table": Known, "untrained": Untrained},
    "penalties": {
        "zero_one": ZeroOne,
        "beta_decay": BetaDecay,
        "dirichlet_kl": DirichletKL,
        "cost": Cost,
    },
    "perturbation": {"random": RandomPerturbation, "adversarial": AdversarialPerturbation},
    "warm_start": {"none": NoWarmStart, "ntk": NtkWarmStart, "te_nas": TeNasWarmStart},
    "optimizer/schedule": {"cosine": Cosine, "decay": Decay},
    "dataset": {
        "digits_schema": Digits,
        "cifar10_schema": Cifar10,
        "cifar100_schema": Cifar100,
        "image_folder_schema": ImageFolder,
        "torchvision_schema": Torchvision,
        "medmnist_schema": MedMnist,
        "huggingface_schema": HuggingFace,
        "webdataset_schema": WebDataset,
        "npz_schema": Npz,
        "imagenet16_schema": ImageNet16,
    },
    "logger": {"wandb": WeightsAndBiases, "mlflow": MLflow},
}
"""Choices that need no YAML, by group: `relaxation=softmax`. Dataclasses, or values of them."""

SEVERAL = ("penalties", "logger")
"""Groups of which several can be chosen: `penalties=[cost,beta_decay]`."""


_STORED: dict[tuple[str | None, str], tuple[object, object]] = {}
"""What hydra was told, by group and name: the part, and what hydra made of it."""


def store_part(group: str | None, name: str, part: object) -> None:
    """Tell hydra a choice of a group, whose fields that are mappings take any names.

    What hydra knows already it is not told again, which takes as long as to compose.

    Args:
        group: Of the choice; None is for a program's whole configuration, whose mappings do not.
        name: Of the choice.
        part: A dataclass, or a value of one.
    """
    known, made = _STORED.get((group, name), (None, None))
    if known is part and _held(group, name) is made:
        return
    node = OmegaConf.structured(part)
    for field in node if group else ():
        if OmegaConf.get_type(node, field) is dict:
            OmegaConf.set_struct(node[field], False)
    package = f"{group}.{name}" if group in SEVERAL else None
    ConfigStore.instance().store(group=group, name=name, node=node, package=package)
    _STORED[group, name] = part, _held(group, name)


def _held(group: str | None, name: str) -> object:
    """What hydra has under a name, None if nothing."""
    folder = ConfigStore.instance().repo
    for part in group.split("/") if group else ():
        folder = folder.get(part, {})
    return folder.get(f"{name}.yaml")


def name_of(group: str, part: object) -> str:
    """What the user calls a part; the name of its class where it is of no group."""
    kind = type(part)
    return next((name for name, node in GROUPS[group].items() if node is kind), kind.__name__)
