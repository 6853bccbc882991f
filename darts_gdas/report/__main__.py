"""Pages of runs: `python -m darts_gdas.report RUN... [--out FILE]`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.report.command import main

if __name__ == "__main__":
    main()
