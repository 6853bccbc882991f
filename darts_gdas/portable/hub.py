"""A trained network as a folder of the Hugging Face hub: weights, settings, card.

The weights are those of `DerivedNet`, so that fine-tuning goes on from them; the settings are in
the form that timm reads, too (`portable.timm_models`). Nothing here needs a network: what is on the
hub is a folder as soon as `huggingface_hub.snapshot_download` has fetched it.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_gdas.nets import DerivedNet, Layout, count_parameters
from darts_gdas.nets.layout import skeleton_of
from darts_gdas.nets.stored import layout_from_dict, layout_to_dict
from darts_gdas.portable.bundle import Format, check_folder, checked_difference, put
from darts_gdas.portable.card import Card
from darts_gdas.portable.extras import check_extra
from darts_gdas.portable.graphs import PixelNet, sample_images
from darts_gdas.reasons import reason
from darts_gdas.runtime.augment import Normalize
from darts_gdas.runtime.checkpoint import CheckpointError
from darts_gdas.runtime.state import UNFIT
from darts_gdas.space import Genotype
from darts_gdas.tasks.model import Readme, TrainedModel, check_outputs

ARCHITECTURE = "darts_gdas"
WEIGHTS, SETTINGS, README = "model.safetensors", "config.json", "README.md"
EXTRA = ("huggingface_hub", "safetensors")


def check_packages() -> None:
    """Raise a `ValueError` that says what to install, where something is missing."""
    check_extra("--format hub", "hub", EXTRA)


def save_pretrained(folder: Path | str, model: TrainedModel, card: Card | None = None) -> float:
    """Write the folder; its files take their names together, once they have been read back.

    Args:
        folder: Made if it is not there.
        model: The network. An auxiliary head stays behind.
        card: What `portable.card.describe` says of it. Without one the README is that of
            `from_pretrained`, where the weights are still the same, else a short one.

    Returns:
        The largest difference of two logits between the network and what was read back.

    Raises:
        ValueError: If packages are missing, the folder is a file, or the network's outputs are not
            the model's classes.
        ExportFailed: If what was read back computes something else.
    """
    check_packages()
    check_folder(folder, "what is written")
    check_outputs(model)
    known = model.readme
    is_known = card is None and known is not None and known.network == _digest(model)
    files = {
        WEIGHTS: _weights_bytes(model.net),
        SETTINGS: (json.dumps(settings_of(model), indent=2) + "\n").encode(),
        README: (known.text if known and is_known else readme(model, card or {})).encode(),
    }
    with tempfile.TemporaryDirectory() as name:
        put(Path(name), files)
        again = from_pretrained(name)
    images = sample_images(model, 3)
    with torch.no_grad():
        theirs, ours = (PixelNet(x).float().cpu()(images) for x in (again, model))
    difference = checked_difference([theirs], [ours], Format.torch.tolerance)
    put(Path(folder), files)
    return difference


def _weights_bytes(net: DerivedNet) -> bytes:
    """The file of weights: the same weights, the same bytes."""
    from safetensors.torch import save  # type: ignore

    return save({name: x.contiguous() for name, x in weights_of(net).items()}, {"format": "pt"})


def _digest(model: TrainedModel) -> str:
    """Of the weights and of what belongs to them, such as the normalisation."""
    settings = json.dumps(settings_of(model), sort_keys=True)
    return hashlib.sha256(_weights_bytes(model.net) + settings.encode()).hexdigest()


def weights_of(net: DerivedNet) -> dict[str, Tensor]:
    """The state dict without an auxiliary head."""
    return {k: x for k, x in net.state_dict().items() if not k.startswith("auxiliary.")}


def settings_of(model: TrainedModel) -> dict[str, Any]:
    """What `config.json` holds: timm's words for the data, ours for the network."""
    layout = model.net.layout
    numbers = layout_to_dict(layout)
    return {
        "architecture": ARCHITECTURE,
        "num_classes": layout.num_classes,
        "num_features": model.net.num_features,
        "label_names": list(model.classes),
        "model_args": {
            "genotype": json.loads(model.net.genotype.to_json()),
            "layout": {k: v for k, v in numbers.items() if k not in ("num_classes", "in_channels")},
        },
        "pretrained_cfg": {
            **data_config(model.net, model.image_size),
            "mean": model.normalize.mean.tolist(),
            "std": model.normalize.std.tolist(),
        },
    }


def data_config(net: DerivedNet, image_size: tuple[int, int]) -> dict[str, Any]:
    """What timm has to know of a network, and of images (height, width) for it, in its words."""
    return {
        "input_size": [net.layout.in_channels, *image_size],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 1.0,  # as `runtime.pictures`: scaled to cover, the centre cut out
        "crop_mode": "center",
        "num_classes": net.num_classes,
        "pool_size": None,
        "first_conv": first_conv(net),
        "classifier": "classifier",
    }


def first_conv(net: DerivedNet) -> str:
    """The name of the convolution that reads the images."""
    return next(n for n, part in net.named_modules() if isinstance(part, torch.nn.Conv2d))


def net_of(arguments: Mapping[str, Any], num_classes: int, in_channels: int) -> DerivedNet:
    """The untrained network that `model_args` of `config.json` describe.

    Args:
        arguments: `genotype`, as its JSON or what `Genotype.load` takes, and `layout`, whose
            numbers are those of the paper where it does not say them.
        num_classes: Outputs; 0 leaves the classifier out.
        in_channels: Channels of the images.

    Raises:
        ValueError: If they make no network.
    """
    given = arguments["genotype"]
    genotype = (
        Genotype.load(given) if isinstance(given, str) else Genotype.from_json(json.dumps(given))
    )
    paper = skeleton_of(genotype.num_inputs).paper
    usual = layout_to_dict(Layout.of(genotype, *paper, max(num_classes, 2), in_channels))
    asked = dict(arguments.get("layout") or {})
    if strange := sorted(asked.keys() - usual.keys()):
        raise ValueError(f"layout has no {strange[0]!r}; it may have {', '.join(usual)}")
    layout = usual | asked
    for name in ("reductions", "widths"):
        layout[name] = None if layout[name] is None else tuple(layout[name])
    net = DerivedNet(genotype, layout_from_dict(layout))
    if num_classes == 0:
        net.reset_classifier(0)
    return net.eval()


def from_pretrained(folder: Path | str) -> TrainedModel:
    """Read what `save_pretrained` wrote; runs no code from the files.

    Args:
        folder: The folder; of a name on the hub, what `huggingface_hub.snapshot_download` returns.

    Raises:
        CheckpointError: (a `ValueError`) If a file is missing, damaged, cut, or not of ours.
    """
    check_packages()
    from safetensors import SafetensorError  # type: ignore
    from safetensors.torch import load_file  # type: ignore

    path = Path(folder)
    try:
        settings = json.loads((path / SETTINGS).read_text(encoding="utf-8"))
        data = settings["pretrained_cfg"]
        channels, height, width = data["input_size"]
        net = net_of(settings["model_args"], settings["num_classes"], channels)
        net.load_state_dict(load_file(path / WEIGHTS))
        normalize = Normalize(torch.tensor(data["mean"]), torch.tensor(data["std"]))
        classes = tuple(settings["label_names"])
        if len(classes) != net.num_classes:
            raise ValueError(f"{len(classes)} label_names for {net.num_classes} outputs")
        model = TrainedModel(net, normalize, classes, (height, width))
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):  # then there is no card
            text = (path / README).read_text(encoding="utf-8")
            return replace(model, readme=Readme(text, _digest(model)))
        return model
    except (OSError, SafetensorError, *UNFIT) as error:
        raise CheckpointError(
            f"{str(path)!r} is no network of the hub's form: {reason(error)}"
        ) from None


def readme(model: TrainedModel, card: Card) -> str:
    """The card as the hub shows it: its metadata first."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData  # type: ignore

    data = (card.get("data") or {}).get("name") or "images"
    accuracy = (card.get("accuracy") or {}).get("accuracy")
    results = None
    if accuracy is not None:
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type=data,
                dataset_name=data,
                metric_type="accuracy",
                metric_value=accuracy,
                dataset_split="test",
            )
        ]
    about = ModelCardData(
        library_name="darts_gdas",
        pipeline_tag="image-classification",
        tags=["timm", "darts_gdas", "neural-architecture-search"],
        model_name=f"darts_gdas of {data}",
        eval_results=results,
    )
    return str(ModelCard(f"---\n{about.to_yaml()}\n---\n\n{_text(model)}"))


def _text(model: TrainedModel) -> str:
    parameters = count_parameters(model.net)
    shape = (model.net.layout.in_channels, *model.image_size)
    return f"""# A classifier whose cells were found by a search

{len(model.classes)} classes, {parameters:,} parameters; images of {shape}: channels, height, width.

```python
import timm  # beside this package
from darts_gdas.portable import timm_models

timm_models.register()
net = timm.create_model("local-dir:THIS FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
```

`darts_gdas.portable.hub.from_pretrained` reads it with its normalisation and its classes.
"""
