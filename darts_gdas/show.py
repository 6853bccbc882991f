"""Show a cell and what it costs: `python -m darts_gdas.show DARTS_V2 [--out FOLDER]`."""

from darts_gdas.cli.show import main

if __name__ == "__main__":
    main()
