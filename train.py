"""Retrain a genotype: `python train.py genotype=DARTS_V2 dataset=cifar10`."""

from darts_gdas.door import importing

with importing(__name__):
    import hydra
    from omegaconf import DictConfig

    from darts_gdas.cli import run_train, take_arguments, usage_errors
    from darts_gdas.config import register


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """Run one retraining."""
    return run_train(cfg)


if __name__ == "__main__":
    with usage_errors():
        register()
        take_arguments("train")
        main()
