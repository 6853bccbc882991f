"""The program that writes the pages of runs, from what their folders hold."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from darts_gdas.cli.command import runs_parser, wrong_input
from darts_gdas.cli.compare import run_in
from darts_gdas.report.comparison_page import comparison_page
from darts_gdas.report.record import Record, find_records, is_run
from darts_gdas.report.run_page import PAGE, write_report
from darts_gdas.report.runs import Run, group_runs
from darts_gdas.runtime.files import RunFolder, write_text


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2."""
    options = _parser().parse_args(arguments)
    with wrong_input():
        _report([Path(path) for path in options.runs], options.out and Path(options.out))


def _parser() -> argparse.ArgumentParser:
    parser = runs_parser(
        "report", "Write report.html of a run, or of several and a page that compares them."
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="where the page goes; default: report.html in the folder that is named, or in a new "
        "outputs/report/... if several are",
    )
    return parser


def _report(paths: Sequence[Path], out: Path | None) -> None:
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    if len(paths) == 1 and is_run(paths[0]):
        print(write_report(paths[0], out=out))
        return
    found = {r.folder.resolve(): r for path in paths for r in find_records(path)}
    records = list(found.values())  # each run once
    for record in records:
        print(write_report(record.folder))
    if out is None:
        folder = paths[0] if len(paths) == 1 else RunFolder.new(Path("outputs") / "report").path
        out = folder / PAGE
    write_comparison(records, out)
    print(out)


def write_comparison(records: Sequence[Record], out: Path) -> None:
    """Write the page that compares runs and leads to theirs."""
    write_text(out, comparison_page(group_runs(_finished(records)), records, out=out))


def _finished(records: Sequence[Record]) -> list[Run]:
    """Finished searches and retrainings; what else there is stands below them on the page."""
    folders = [r.folder for r in records if r.result and r.kind != "score"]
    found = [run_in(folder, otherwise="not compared") for folder in folders]
    return [run for run in found if run is not None]
