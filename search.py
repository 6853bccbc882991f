"""Search for a cell: `python search.py method=gdas dataset=digits seed=3`."""

from darts_gdas.door import importing

with importing(__name__):
    import hydra
    from omegaconf import DictConfig

    from darts_gdas.cli import run_search, take_arguments, usage_errors
    from darts_gdas.config import register


@hydra.main(version_base="1.3", config_path="conf", config_name="search")
def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run one search."""
    return run_search(cfg)


if __name__ == "__main__":
    with usage_errors():
        register()
        take_arguments("search")
        main()
