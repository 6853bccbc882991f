"""The entry points behind `search.py` and `train.py`."""

from darts_gdas.cli.arguments import take_arguments
from darts_gdas.cli.errors import usage_errors
from darts_gdas.cli.programs import run_search, run_train

__all__ = ["run_search", "run_train", "take_arguments", "usage_errors"]
