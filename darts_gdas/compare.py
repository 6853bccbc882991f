"""Compare finished runs: `python -m darts_gdas.compare outputs/search/sweep_... [--out DIR]`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.compare import main

if __name__ == "__main__":
    main()
