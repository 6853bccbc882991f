"""Pages of runs: `python -m darts_gdas.report RUN... [--out FILE]`."""

from darts_gdas.cli.report import main

if __name__ == "__main__":
    main()
