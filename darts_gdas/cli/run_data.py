"""The images that a finished run was trained and tested on, by the settings that it recorded."""

from pathlib import Path

import torch
import yaml
from hydra import compose
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from darts_gdas import config as configuration
from darts_gdas.cli.resume import OVERRIDES
from darts_gdas.config import TrainConfig
from darts_gdas.reasons import reason
from darts_gdas.report.runs import read_file
from darts_gdas.runtime.dataset import Pair
from darts_gdas.runtime.images import Images
from darts_gdas.runtime.look import loaded


def data_of(run: Path) -> Pair:
    """Training and test images of a retraining.

    Args:
        run: Its folder.

    Raises:
        ValueError: If the folder does not say which they are, or they are not there any more.
    """
    said = [str(item) for item in read_file(run / OVERRIDES, yaml.safe_load, list)]
    try:
        with configuration.composing():
            config = configuration.typed(compose("train", said), TrainConfig)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"{str(run / OVERRIDES)!r} says no known data: {reason(error)}") from None
    return loaded(config.dataset)


def some_of(images: Images, most: int) -> tuple[Tensor, Tensor]:
    """At most so many images and their labels, on the CPU: the same ones each time.

    Returns:
        Pixels, uint8 [images, channels, height, width], and classes [images].

    Raises:
        DataFault: If they cannot be read.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    pixels, labels = images.request(order[:most].to(images.labels.device))()
    return pixels.cpu(), labels.cpu()
