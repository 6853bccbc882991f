"""Tune a search: `python -m darts_gdas.tune STUDY 'optimizer.lr=interval(0.01,0.1)'`."""

from darts_gdas.cli.tune import main

if __name__ == "__main__":
    main()
