"""The entry points behind `search.py` and `train.py`."""

from darts_gdas.cli.errors import usage_errors
from darts_gdas.cli.programs import run_search, run_train

__all__ = ["run_search", "run_train", "usage_errors"]
