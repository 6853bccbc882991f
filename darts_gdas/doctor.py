"""Look at this installation, and try it: `python -m darts_gdas.doctor [--folder FOLDER]`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.doctor import main

if __name__ == "__main__":
    main()
