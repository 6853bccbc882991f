"""What one must know of an exported network to use it: its model card, as JSON and for people."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from darts_gdas.nets import count_multiply_adds, count_parameters
from darts_gdas.nets.stored import layout_to_dict
from darts_gdas.portable.bundle import Accuracy, Format
from darts_gdas.portable.runtimes import MOST_IMAGES
from darts_gdas.report.origin import data_name
from darts_gdas.report.runs import VERSIONS, read_file, user_choices, versions_here
from darts_gdas.report.summary import count, genotype_lines
from darts_gdas.tasks.model import TrainedModel

Card = dict[str, Any]
FILES = "the exported files"
_COLOURS = {1: "grey", 3: "RGB"}
USES = {
    Format.torch: """import torch

program = torch.export.load("network.pt2").module()
logits = program(images)""",
    Format.onnx: """import onnxruntime

session = onnxruntime.InferenceSession("network.onnx")
(logits,) = session.run(None, {"images": images})  # a numpy array""",
    Format.openvino: """import openvino

settings = {"INFERENCE_PRECISION_HINT": "f32"}  # else it may be bfloat16
network = openvino.Core().compile_model("network.xml", "CPU", settings)
logits = network([images])[0]  # numpy arrays""",
    Format.executorch: f"""from executorch.runtime import Runtime

program = Runtime.get().load_program("network.pte")
(logits,) = program.load_method("forward").execute([images])  # at most {MOST_IMAGES} at once""",
    Format.python: """import torch
from network import Net

net = Net()
net.load_state_dict(torch.load("network.pt", weights_only=True))
logits = net.eval()(images)""",
}
USES |= dict.fromkeys((Format.onnx_fp16, Format.onnx_int8), USES[Format.onnx])


def describe(model: TrainedModel, folder: Path) -> Card:
    """The card of a trained network, as plain values.

    Args:
        model: The network.
        folder: The folder of its retraining. What its files do not say is None in the card.

    Raises:
        ValueError: If a file there is damaged.
    """
    result = _read(folder / "result.json", json.loads)
    config = _read(folder / "config.yaml", yaml.safe_load)
    settings = config.get("dataset") or {}
    said = user_choices(folder) if (folder / "overrides.yaml").exists() else {}
    layout, (height, width) = model.net.layout, model.image_size
    shape = (layout.in_channels, height, width)
    return {
        "task": "image classification",
        "data": {"name": data_name(config, said, len(model.classes)), **settings},
        "input": {
            "name": "images",
            "type": "uint8",
            "shape": ["batch", *shape],
            "pixels": "0 to 255, " + _COLOURS.get(shape[0], f"{shape[0]} channels"),
        },
        "preprocessing": result.get("preparation"),
        "normalization": {
            "where": "inside the network: (images / 255 - mean) / std",
            "mean": model.normalize.mean.tolist(),
            "std": model.normalize.std.tolist(),
        },
        "output": {"name": "logits", "type": "float32", "shape": ["batch", len(model.classes)]},
        "classes": list(model.classes),
        "accuracy": result.get("test"),
        "parameters": count_parameters(model.net),
        "multiply_adds": count_multiply_adds(model.net, shape),
        "network": layout_to_dict(layout),
        "genotype": json.loads(model.net.genotype.to_json()),
        "genotype_source": result.get("genotype_source"),
        "training": {
            **{name: config.get(name) for name in ("epochs", "batch_size", "seed", "precision")},
            "seconds": result.get("seconds"),
            "device": result.get("device"),
        },
        "versions": {
            "trained": {name: result.get(name) for name in VERSIONS},
            "exported": versions_here(),
        },
    }


def with_files(
    card: Card,
    form: Format,
    files: Mapping[str, bytes],
    difference: float,
    accuracy: Accuracy | None = None,
) -> Card:
    """The card of files: what they are, and how far their logits are from the network's own.

    The accuracy becomes that of the files where it was measured; the network's stands beside it.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    made = {"format": form.value, "sha256": digests, "largest_difference_of_logits": difference}
    whole = {**card, "accuracy_of": "the network in float32", "export": made}
    if accuracy is not None:
        told = {"accuracy": asdict(accuracy), "accuracy_of": FILES}
        whole |= told | {"accuracy_in_float32": card["accuracy"]}
    return whole


def about(card: Card) -> list[str]:
    """The docstring of the stand-alone file: what the network is and how it is used."""
    use = [f"    {line}" if line else "" for line in USES[Format.python].splitlines()]
    shape = ", ".join(str(size) for size in card["input"]["shape"])
    classes = card["output"]["shape"][1]
    name = re.sub(r"[^\w .-]", "_", card["data"]["name"] or "data not known", flags=re.ASCII)[:40]
    return [
        f"A classifier of images ({name}); its cells were found by a search.",
        "",
        *use,
        "",
        f"Images are uint8, [{shape}], pixels {card['input']['pixels']}: they are normalised",
        f"inside. Logits are [batch, {classes}], in the order of `CLASSES`.",
        "",
        f"Test accuracy: {told_accuracy(card)}. Parameters: {count(card['parameters'])}. "
        f"Multiply-adds: {count(card['multiply_adds'])}.",
        f"Needs torch alone; written by darts_gdas {card['versions']['exported']['darts_gdas']}.",
    ]


def told_accuracy(card: Card) -> str:
    """The test accuracy, and, where files may say other classes than the network, whose it is."""
    test, made = card["accuracy"] or {}, card.get("export")
    if "accuracy" not in test:
        return "not known"
    told = _percent(test)
    if made is None or not Format(made["format"]).is_coarse:
        return told
    if card["accuracy_of"] != FILES:
        return f"{told}, of the network in float32: these files were not tested"
    number, of = test["images"], test["of"]
    on = f"all {of:,}" if number == of else f"{number:,} of {of:,}"
    before = card["accuracy_in_float32"] or {}
    beside = f"; the network in float32: {_percent(before)} of all" if "accuracy" in before else ""
    return f"{told} of {on} test images, by these files{beside}"


def _percent(test: Mapping[str, float]) -> str:
    return f"{100 * test['accuracy']:.2f} %"


def markdown(card: Card, model: TrainedModel) -> str:
    """The card for people."""
    form = Format(card["export"]["format"])
    shape = ", ".join(str(size) for size in card["input"]["shape"])
    normal = card["normalization"]
    facts = {
        "data": card["data"]["name"] or "not known",
        "test accuracy": told_accuracy(card),
        "input": f"`images`, uint8 [{shape}], pixels {card['input']['pixels']}",
        "preprocessing before it": "; ".join(card["preprocessing"] or ["not known"]),
        "normalisation": "inside the network; per channel "
        f"mean {_decimals(normal['mean'])}, deviation {_decimals(normal['std'])} (white is 1)",
        "output": f"`logits`, float32 [batch, {len(card['classes'])}], before softmax",
        "parameters": count(card["parameters"]),
        "multiply-adds per image": count(card["multiply_adds"]),
        "network": f"{card['network']['layers']} cells, {card['network']['channels']} channels, "
        f"{card['network']['stem']} stem, {card['network']['skeleton']} skeleton",
        "genotype from": card["genotype_source"] or "not known",
        "trained with": _versions(card["versions"]["trained"]),
        "exported with": _versions(card["versions"]["exported"]),
        "checked": "loaded in a fresh process without darts_gdas, for batches of 3 and of 1; "
        f"largest difference of logits {card['export']['largest_difference_of_logits']:.2g}",
    }
    return _page(facts, USES[form], ", ".join(card["classes"]), genotype_lines(model.net.genotype))


def _page(facts: Mapping[str, str], use: str, classes: str, cells: list[str]) -> str:
    rows = [f"| {name} | {_cell(str(value))} |" for name, value in facts.items()]
    table = ["| | |", "|---|---|", *rows]
    parts = [
        ["# Model card"],
        table,
        ["## Use"],
        ["```python", use, "```"],
        ["## Classes"],
        [f"In the order of the logits: {classes}"],
        ["## Cells"],
        ["```", *cells, "```"],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _read(path: Path, parse: Any) -> dict[str, Any]:
    """A file of the run; nothing where there is none."""
    return read_file(path, parse, dict) if path.exists() else {}


def _versions(versions: Mapping[str, str | None]) -> str:
    known = [f"{name} {version}" for name, version in versions.items() if version]
    return ", ".join(known) or "not known"


def _decimals(values: list[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _cell(text: str) -> str:
    """A text that stays inside its cell of a table."""
    return " ".join(text.replace("|", "\\|").split())
