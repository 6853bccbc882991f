"""The program that takes a trained network away from this project."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from darts_gdas.nets.stored import NAME
from darts_gdas.portable.bundle import ExportFailed, Format, largest_difference, make, put
from darts_gdas.portable.card import about, describe, markdown, with_files
from darts_gdas.portable.graphs import check_extra
from darts_gdas.report.record import is_run, read_record
from darts_gdas.runtime.files import WriteError
from darts_gdas.runtime.launch import command, retraining
from darts_gdas.runtime.terminal import for_who_waits
from darts_gdas.runtime.usage import FAULT, wrong_input
from darts_gdas.tasks.model import load_model

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
        choices=[form.value for form in Format],
        default=Format.torch.value,
        help="a torch.export program (the default), ONNX, or a Python file that needs torch alone",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="where the files go; default: export/FORMAT in the folder of the model",
    )
    options = parser.parse_args(arguments)
    with wrong_input(), wrong_input((ExportFailed, WriteError), status=FAULT):
        _export(options.run, Format(options.format), options.out)


def _export(path: Path, form: Format, out: Path | None) -> None:
    if form is Format.onnx:
        check_extra()
    _check_trained(path)
    model = load_model(path)
    folder = path if path.is_dir() else path.parent
    card = describe(model, folder)
    with for_who_waits() as told:
        told("exporting", 0, 1)
        files = make(model, form, about(card))
        told("comparing in a fresh process", 0, 1)
        difference = largest_difference(model, form, files)
    card = with_files(card, form, files, difference)
    texts = (json.dumps(card, indent=2) + "\n", markdown(card, model))
    out = out or folder / "export" / form.value
    put(out, {**files, **dict(zip(CARDS, (text.encode() for text in texts), strict=True))})
    print(f"largest difference of logits in a fresh process: {difference:.2g}")
    for name in (*files, *CARDS):
        print(out / name)


def _check_trained(folder: Path) -> None:
    """Tell a search from a model that cannot be read, with the command that trains its cell."""
    if (folder / "genotype.json").exists() and not (folder / NAME).exists():
        said = read_record(folder).overrides if is_run(folder) else None
        raise ValueError(
            f"run {str(folder)!r} holds no trained network ({NAME}): it is a search, or a "
            "retraining that is not finished; a search's cell is trained by "
            f"{retraining(folder, said or ())}"
        )
