"""The program that puts finished runs side by side."""

from collections.abc import Sequence
from pathlib import Path

from darts_gdas.report.columns import table_lines
from darts_gdas.report.comparison import (
    comparison_table,
    doubts,
    groups_csv,
    runs_csv,
)
from darts_gdas.report.comparison_page import comparison_page
from darts_gdas.report.pareto import front_lines, trades_of
from darts_gdas.report.record import read_record
from darts_gdas.report.run_page import PAGE
from darts_gdas.report.runs import Group, Run, find_folders, group_runs, run_in
from darts_gdas.runtime.files import RunFolder, write_text
from darts_gdas.runtime.terminal import complain
from darts_gdas.runtime.usage import runs_parser, wrong_input

TITLES = {
    "search": "Searches (accuracy: validation, under shared weights)",
    "train": "Retrainings (accuracy: test)",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; wrong input is one line and exit status 2."""
    parser = runs_parser(
        "compare", "Compare finished runs: mean and standard deviation over seeds, per method."
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="where compare.csv, compare_runs.csv and report.html go; default: a new "
        "outputs/compare/...",
    )
    options = parser.parse_args(arguments)
    with wrong_input():
        compare(options.runs, options.out)


def compare(paths: Sequence[Path], out: Path | None) -> None:
    """Print the tables of runs; write them, and the page that compares them.

    Args:
        paths: Run folders, or folders that hold runs.
        out: Folder to write to; None makes a new one.

    Raises:
        ValueError: If there is no finished run.
    """
    groups = group_runs(_read_all(paths))
    for doubt in doubts(groups):
        complain(doubt, "warning")
    trades = trades_of(groups)
    if out is None:
        out = RunFolder.new(Path("outputs") / "compare").path
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "compare.csv", groups_csv(groups))
    write_text(out / "compare_runs.csv", runs_csv(groups))
    records = [read_record(run.folder) for group in groups for run in group.runs]
    write_text(out / PAGE, comparison_page(groups, records, out=out / PAGE))
    print("\n".join(_lines(groups)))
    for trade in trades:
        print("\n".join(["", *front_lines(trade)]))
    print(f"\ntable    {out / 'compare.csv'}\nruns     {out / 'compare_runs.csv'}")
    print(f"page     {out / PAGE}")


def _lines(groups: Sequence[Group]) -> list[str]:
    lines = []
    for kind, title in TITLES.items():
        members = [group for group in groups if group.kind == kind]
        if members:
            lines += ["", title, "", *table_lines(*comparison_table(members))]
    return lines


def _read_all(paths: Sequence[Path]) -> list[Run]:
    """All finished runs, each once; a warning for every folder that is left out."""
    runs: dict[Path, Run] = {}
    for path in paths:
        finished, unfinished = find_folders(path)
        for folder in unfinished:
            complain(f"{str(folder)!r} is not finished; left out", "warning")
        for folder in finished:
            run = run_in(folder, otherwise="left out")
            if run is not None:
                runs.setdefault(folder.resolve(), run)
    if not runs:
        raise ValueError("there is no finished search or retraining to compare")
    return list(runs.values())
