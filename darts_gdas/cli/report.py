"""The program that writes the pages of runs, from what their folders hold."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from darts_gdas.cli.command import command
from darts_gdas.cli.compare import DEFAULT_METHOD
from darts_gdas.config.composition import EXEMPT
from darts_gdas.report.comparison_page import comparison_page
from darts_gdas.report.record import Record, find_records, is_run
from darts_gdas.report.run_page import PAGE, write_report
from darts_gdas.report.runs import Run, group_runs, read_run
from darts_gdas.runtime.files import RunFolder, write_text


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        _report([Path(path) for path in options.runs], options.out and Path(options.out))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command("report"),
        description="Write report.html of a run, or of several and a page that compares them.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="run folders, or folders that hold runs (a sweep)"
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
    records = list(
        {
            record.folder.resolve(): record for path in paths for record in find_records(path)
        }.values()
    )
    for record in records:
        print(write_report(record.folder))
    if out is None:
        folder = paths[0] if len(paths) == 1 else RunFolder.new(Path("outputs") / "report").path
        out = folder / PAGE
    write_text(out, comparison_page(group_runs(_finished(records)), records, out=out))
    print(out)


def _finished(records: Sequence[Record]) -> list[Run]:
    """Finished searches and retrainings; what else there is stands below them on the page."""
    runs = []
    for record in records:
        if record.result and record.kind != "score":
            try:
                run = read_run(record.folder, default_method=DEFAULT_METHOD, ignored=EXEMPT)
            except ValueError as error:
                print(f"warning: {error}; not compared", file=sys.stderr)
            else:
                runs.append(run)
    return runs
