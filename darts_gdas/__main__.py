"""All programs by their names: `python -m darts_gdas search ...`, as the command `darts-gdas`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.main import main

if __name__ == "__main__":
    main()
