"""Rank cells without training them: `python -m darts_gdas.score space=nasbench201 count=300`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.main import run_composed

if __name__ == "__main__":
    run_composed("score")
