"""The program that takes a trained network away from this project."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from darts_gdas.cli.run_data import data_of, some_of
from darts_gdas.nets.stored import NAME
from darts_gdas.portable import hub
from darts_gdas.portable.bundle import (
    ExportFailed,
    Format,
    check_folder,
    largest_difference,
    make,
    measured,
    put,
)
from darts_gdas.portable.card import about, describe, markdown, told_accuracy, with_files
from darts_gdas.report.record import is_run, read_record
from darts_gdas.runtime.dataset import DataFault, Pair
from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.launch import command, retraining
from darts_gdas.runtime.terminal import for_who_waits
from darts_gdas.runtime.usage import FAULT, wrong_input
from darts_gdas.tasks.model import TrainedModel, load_model

HUB = "hub"
CALIBRATION = 256
"""Images that the ranges of 8 bits are measured on."""

TESTED, TESTED_BYTES = 10_000, 2**28
"""The most test images, and bytes of their pixels, that files are tested on."""

CARDS = ("model_card.json", "model_card.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2, what fails later is status 1."""
    parser = argparse.ArgumentParser(
        prog=command("export"),
        description="Export a trained network: uint8 images in, logits out, with a model card.",
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help=f"a finished retraining's folder, or its {NAME}"
    )
    parser.add_argument(
        "--format",
        choices=[*(form.value for form in Format), HUB],
        default=Format.torch.value,
        help="a torch.export program (the default), ONNX in 32, 16 or 8 bits, a program for "
        "OpenVINO or ExecuTorch, a Python file that needs torch alone, or a folder for the Hugging "
        "Face hub and timm",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="where the files go; default: export/FORMAT in the folder of the model",
    )
    options = parser.parse_args(arguments)
    with wrong_input(), wrong_input((ExportFailed, WriteError, DataFault), status=FAULT):
        if options.out is not None:
            check_folder(options.out, "--out")
        if options.format == HUB:
            _to_hub(options.run, options.out)
        else:
            _export(options.run, Format(options.format), options.out)


def _export(path: Path, form: Format, out: Path | None) -> None:
    form.check_packages()
    _check_trained(path)
    model = load_model(path)
    folder = path if path.is_dir() else path.parent
    card = describe(model, folder)
    data = _data_of(path, model, form)
    with for_who_waits() as told:
        told("exporting", 0, 1)
        images = some_of(data[0], CALIBRATION)[0] if data and form is Format.onnx_int8 else None
        files = make(model, form, about(card), images)
        told("comparing in a fresh process", 0, 1)
        difference = largest_difference(model, form, files, images)
        accuracy = None
        if data is not None:
            told("testing in a fresh process", 0, 1)
            most = max(1, min(TESTED, TESTED_BYTES // math.prod(data[1].shape)))
            accuracy = measured(form, files, *some_of(data[1], most), len(data[1]))
    card = with_files(card, form, files, difference, accuracy)
    texts = (json.dumps(card, indent=2) + "\n", markdown(card, model))
    out = out or folder / "export" / form.value
    put(out, {**files, **dict(zip(CARDS, (text.encode() for text in texts), strict=True))})
    print(f"largest difference of logits in a fresh process: {difference:.2g}")
    if form.is_coarse:
        print(f"test accuracy: {told_accuracy(card)}")
    for name in (*files, *CARDS):
        print(out / name)


def _data_of(path: Path, model: TrainedModel, form: Format) -> Pair | None:
    """What files of fewer bits are made and tested with; None where that is not to be had.

    Raises:
        ValueError: If the files cannot be made without.
    """
    if not form.is_coarse or not path.is_dir():
        return None
    try:
        data = data_of(path)
        shape = (model.net.layout.in_channels, *model.image_size)
        found = data[1].shape, data[1].classes
        if found != (shape, model.classes):
            raise ValueError(
                f"the data that {str(path)!r} names is another now: images of {found[0]} in "
                f"{len(found[1])} classes, the network has learnt {shape} and {len(model.classes)}"
            )
    except ValueError as error:
        if form is Format.onnx_int8:
            raise
        print(f"the files are not tested: {error}", file=sys.stderr)
        return None
    return data


def _to_hub(path: Path, out: Path | None) -> None:
    hub.check_packages()
    _check_trained(path)
    model, folder = load_model(path), path if path.is_dir() else path.parent
    out = out or folder / "export" / HUB
    difference = hub.save_pretrained(out, model, describe(model, folder))
    print(f"largest difference of logits when read back: {difference:.2g}")
    for name in (hub.WEIGHTS, hub.SETTINGS, hub.README):
        print(out / name)


def _check_trained(folder: Path) -> None:
    """Tell a search from a model that cannot be read, with the command that trains its cell."""
    if not folder.exists():
        raise ValueError(f"there is no {str(folder)!r}; pass the folder of a finished retraining")
    if (folder / "genotype.json").exists() and not (folder / NAME).exists():
        said = read_record(folder).overrides if is_run(folder) else None
        raise ValueError(
            f"run {str(folder)!r} holds no trained network ({NAME}): it is a search, or a "
            "retraining that is not finished; a search's cell is trained by "
            f"{retraining(folder, said or ())}"
        )
