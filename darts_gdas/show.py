"""Show a cell and what it costs: `python -m darts_gdas.show DARTS_V2 [--out FOLDER]`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.show import main

if __name__ == "__main__":
    main()
