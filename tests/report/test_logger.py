import re
from dataclasses import dataclass
from typing import ClassVar

import pytest

from darts_gdas.reasons import installing
from darts_gdas.report.logger import Logger
from darts_gdas.report.to_mlflow import MLflow
from darts_gdas.report.to_wandb import WeightsAndBiases


@dataclass
class Absent(Logger):
    package: ClassVar[str] = "no-such-package-at-all"

    def open(self, run):
        raise NotImplementedError


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        ValueError, match=r"no-such-package-at-all: .*pip install no-such-package-at-all;"
    ):
        Absent()
    for kind, extra in ((MLflow, "mlflow"), (WeightsAndBiases, "wandb")):
        monkeypatch.setattr(kind, "package", "no-such-package-at-all")
        with pytest.raises(ValueError, match=re.escape(installing(extra))):
            kind()
