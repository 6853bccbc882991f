"""The architecture `darts_gdas` in timm's registry.

After `register()`, `timm.create_model("local-dir:FOLDER", pretrained=True)` takes what
`export --format hub` wrote, and `from_run` a run without that. `num_classes`, `in_chans`,
`drop_path_rate` and `features_only` are timm's words: a new classifier, a first convolution that is
adapted, drop-path, the outputs of the last cell of each resolution. `drop_rate=0` and
`global_pool="avg"`, which training scripts pass, are what these networks have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from darts_gdas.nets import DerivedNet, Stem
from darts_gdas.portable.extras import check_extra
from darts_gdas.portable.hub import ARCHITECTURE, data_config, net_of, settings_of, weights_of
from darts_gdas.tasks.model import load_model

SIZES = {Stem.cifar: 32, Stem.imagenet: 224}
"""Height and width of the images that the papers feed to a stem."""


def register() -> None:
    """Make the name known to timm; once is enough, and twice does no harm.

    Raises:
        ValueError: If timm is not installed.
    """
    check_extra("a model of timm's", "timm", ("timm", "safetensors"))
    from timm.models import is_model, register_model  # type: ignore

    if not is_model(ARCHITECTURE):
        register_model(darts_gdas)


def darts_gdas(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """The entry of timm's registry.

    Args:
        pretrained: Load the weights that `pretrained_cfg` names.
        kwargs: `genotype` (its JSON, or what `Genotype.load` takes) and `layout` (numbers of the
            outer network; else the paper's) of the network, and what timm knows.

    Raises:
        ValueError: If no genotype is given, or it and the numbers make no network.
    """
    if "genotype" not in kwargs:
        raise ValueError(
            f"the architecture {ARCHITECTURE!r} needs genotype=, a published name such as "
            "'DARTS_V2'; a trained network is local-dir:FOLDER, written by export --format hub"
        )
    from timm.models import build_model_with_cfg  # type: ignore

    said = {k: kwargs[k] for k in ("genotype", "layout", "num_classes", "in_chans") if k in kwargs}
    net = _network(**said)
    layout = net.layout
    reductions = sorted(layout.reduction_positions)
    ends = tuple(p - 1 for p in (*reductions, layout.layers) if p > 0)
    features = {"feature_cls": "hook", "out_indices": tuple(range(len(ends)))}
    kwargs["pretrained_cfg"] = kwargs.get("pretrained_cfg") or _untrained(net)
    return build_model_with_cfg(_network, ARCHITECTURE, pretrained, feature_cfg=features, **kwargs)


def from_run(run: Path | str, **kwargs: Any) -> nn.Module:
    """The trained network of a run as a model of timm's, with its data config.

    Args:
        run: The folder of a finished retraining, or its `model.pt`.
        kwargs: What `timm.create_model` takes: `num_classes`, `in_chans`, `features_only`, ...

    Raises:
        CheckpointError: (a `ValueError`) If there is none, or the file is damaged.
    """
    register()
    from timm import create_model  # type: ignore

    model = load_model(run)
    settings = settings_of(model)
    data = {
        **settings["pretrained_cfg"],
        "label_names": settings["label_names"],
        "state_dict": weights_of(model.net),
    }
    arguments = settings["model_args"] | kwargs
    return create_model(ARCHITECTURE, pretrained=True, pretrained_cfg=data, **arguments)


def _untrained(net: DerivedNet) -> dict[str, Any]:
    """The data config of a network that has seen no data; timm's mean and deviation for colours."""
    size, channels = SIZES[net.layout.stem], net.layout.in_channels
    grey = {} if channels == 3 else dict.fromkeys(("mean", "std"), [0.5] * channels)
    return data_config(net, (size, size)) | grey


def _network(
    genotype: str | Mapping[str, Any],
    layout: Mapping[str, Any] | None = None,
    num_classes: int = 10,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
    drop_rate: float = 0.0,
    global_pool: str = "avg",
) -> DerivedNet:
    """What timm builds; it reads `feature_info` where only features are asked for."""
    if drop_rate:
        raise ValueError(f"drop_rate must be 0, there is no dropout here; got {drop_rate}")
    if global_pool != "avg":
        raise ValueError(f"global_pool must be 'avg', the network's own; got {global_pool!r}")
    net = net_of({"genotype": genotype, "layout": layout}, num_classes, in_chans)
    net.drop_path_probability = drop_path_rate
    numbers, features = net.layout, []
    outputs = {kind: len(cell.output) for kind, cell in net.genotype.cells.items()}
    reduction = numbers.stem.stride
    for position, plan in enumerate(net.plans):
        reduction *= plan.stride
        if position + 1 == numbers.layers or position + 1 in numbers.reduction_positions:
            channels = outputs.get(plan.kind, 1) * plan.channels
            name = f"cells.{position}"
            features.append({"num_chs": channels, "reduction": reduction, "module": name})
    net.feature_info = features  # type: ignore
    return net.train()
