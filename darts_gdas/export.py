"""Take a trained network away: `python -m darts_gdas.export RUN --format FORMAT`."""

from darts_gdas.door import importing

with importing(__name__):
    from darts_gdas.cli.export import main

if __name__ == "__main__":
    main()
