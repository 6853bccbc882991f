"""Where a search's alphas begin: a warm start on small networks and a batch of its own images."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import Layout
from darts_gdas.runtime.data import derive_seed
from darts_gdas.scoring.book import ScoreBook
from darts_gdas.scoring.warm_start import FirstAlphas, Report, Setting, WarmStart
from darts_gdas.tasks.batches import random_images
from darts_gdas.tasks.search import SearchTask


def set_first_alphas(
    task: SearchTask, warm_start: WarmStart, book: ScoreBook, report: Report
) -> FirstAlphas | None:
    """Give the alphas their first values; once, before the first step.

    Images come from the weights' half; no random number of the search is used up.

    Args:
        task: Whose alphas.
        warm_start: Where they come from.
        book: Keeps scores, so that an interrupted warm start goes on.
        report: Progress.

    Returns:
        What was found, or None where the alphas stay as they are.
    """
    data, seed = task.data.weights, derive_seed(task.seed, "warm start")
    device = task.compute.device

    def batch(count: int) -> Float[Tensor, "batch channels height width"]:
        return random_images(data.images, data.normalize, count=count, seed=seed, device=device)

    def layout(channels: int) -> Layout:
        return small_layout(task.supernet.layout, channels)

    setting = Setting(task.space, layout, batch, seed % 2**32, book, report)
    first = warm_start(setting)
    if first is not None:
        with torch.no_grad():
            for kind, logits in first.logits.items():
                task.arch.logits[kind].copy_(logits)
    return first


def small_layout(layout: Layout, channels: int) -> Layout:
    """The smallest outer network of the same form: every kind of cell, two reductions if any."""
    if layout.skeleton.num_layers(layout.searched_kinds) is not None:
        return replace(layout, channels=channels)
    layers = layout.skeleton.fewest_layers
    reductions = None if layout.reduction_positions else ()
    return replace(layout, channels=channels, layers=layers, reductions=reductions, widths=None)
