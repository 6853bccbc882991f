"""Begin a package with a part of one's own: `python -m darts_gdas.new my_method NAME`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.new import main

if __name__ == "__main__":
    main()
