"""Tune a search: `python -m darts_gdas.tune STUDY 'optimizer.lr=interval(0.01,0.1)'`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.tune import main

if __name__ == "__main__":
    main()
