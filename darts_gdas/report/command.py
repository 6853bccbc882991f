"""The command that writes pages of runs."""

from collections.abc import Sequence
from pathlib import Path

from darts_gdas.report.comparison_page import write_comparison
from darts_gdas.report.record import find_records, is_run
from darts_gdas.report.run_page import PAGE, write_report
from darts_gdas.report.study import StudySummary
from darts_gdas.runtime.files import RunFolder
from darts_gdas.runtime.usage import runs_parser, wrong_input


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2."""
    parser = runs_parser(
        "report", "Write report.html of a run, or of several and a page that compares them."
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the page goes; default: report.html in the folder that is named, or in a new "
        "outputs/report/... if several are",
    )
    options = parser.parse_args(arguments)
    with wrong_input():
        _report(options.runs, options.out)


def _report(paths: Sequence[Path], out: Path | None) -> None:
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}")
    if len(paths) == 1 and is_run(paths[0]):
        print(write_report(paths[0], out=out))
        return
    study = StudySummary.of(paths[0]) if len(paths) == 1 else None
    found = {r.folder.resolve(): r for path in paths for r in find_records(path)}
    records = list(found.values())  # each run once
    for record in records:
        print(write_report(record.folder))
    if out is None:
        folder = paths[0] if len(paths) == 1 else RunFolder.new(Path("outputs") / "report").path
        out = folder / PAGE
    write_comparison(records, out, study)
    print(out)
