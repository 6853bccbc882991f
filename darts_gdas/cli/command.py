"""How a program of ours is started, and where its configuration lies."""

import sys
from pathlib import Path

COMMAND = "darts-gdas"
"""The console command of an installed package."""


def conf_folder() -> Path:
    """`conf/`: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def command(program: str) -> str:
    """How to start a program, in the words in which this one was started."""
    if Path(sys.argv[0]).name == COMMAND:
        return f"{COMMAND} {program}"
    if program in ("search", "train"):
        return f"python {program}.py"
    return f"python -m darts_gdas.{program}"
