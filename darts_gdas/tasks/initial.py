"""What a search begins with: its first alphas, and the learning rate of its weights.

The alphas come from a warm start on small networks and a batch of the search's own images, the
rate from the supernet's neural tangent kernel.
"""

import logging
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import Layout
from darts_gdas.nets.fixed import FixedMixture
from darts_gdas.nets.noise import noises
from darts_gdas.nets.synced import by_itself
from darts_gdas.ntk import empirical_ntk, max_learning_rate
from darts_gdas.runtime.data import derive_seed
from darts_gdas.runtime.journal import Journal
from darts_gdas.scoring.warm_start import FirstAlphas, Report, Setting, WarmStart
from darts_gdas.tasks.batches import random_images
from darts_gdas.tasks.stage import StageSearch

FRACTION = 0.5
"""The share of the largest stable rate that `optimizer.lr=auto` takes."""

TRUSTED = 0.025
"""The papers' rate. Rates up to it are taken without a look at the kernel, which costs seconds."""

NUM_IMAGES = 32


def set_first_alphas(
    search: StageSearch, warm_start: WarmStart, journal: Journal, report: Report
) -> FirstAlphas | None:
    """Give the alphas their first values; once, before the first step.

    Images come from the weights' half; no random number of the search is used up.

    Args:
        search: Its alphas are set.
        warm_start: Where they come from.
        journal: Keeps what is measured, so that an interrupted warm start goes on.
        report: Progress.

    Returns:
        What was found, or None where the alphas stay as they are.
    """
    data, seed = search.data.weight_batches, derive_seed(search.seed, "warm start")
    device = search.compute.device

    def batch(count: int) -> Float[Tensor, "batch channels height width"]:
        return random_images(data.images, data.normalize, count=count, seed=seed, device=device)

    def layout(channels: int) -> Layout:
        return small_layout(search.supernet.layout, channels)

    setting = Setting(search.space, layout, batch, seed % 2**32, journal, report)
    first = warm_start(setting)
    if first is not None:
        with torch.no_grad():
            for kind, logits in first.logits.items():
                search.alphas.logits[kind].copy_(logits)
        told = {f"warm start, {i}": text for i, text in enumerate(first.warnings)}
        search.monitor.warnings |= told  # said already
    return first


def small_layout(layout: Layout, channels: int) -> Layout:
    """The smallest outer network of the same form: every kind of cell, two reductions if any."""
    if layout.skeleton.one_kind_per_layer:
        return replace(layout, channels=channels)
    layers = layout.skeleton.fewest_layers
    reductions = None if layout.reduction_positions else ()
    return replace(layout, channels=channels, layers=layers, reductions=reductions)


def learning_rate_bound(search: StageSearch) -> float:
    """The rate beyond which descent on the linearised supernet diverges, momentum counted.

    2 N O (1 + momentum) / lambda_max of the kernel of all outputs, for N images of the weights'
    half, at the present weights and the mean mixture, norms fixed to the batch's statistics. It
    holds for full batches at the beginning; clipping, and the drop of the curvature in the
    first steps, let larger rates survive.

    Args:
        search: It is left as it is.
    """
    data, seed = search.data.weight_batches, derive_seed(search.seed, "learning rate")
    images = random_images(
        data.images, data.normalize, count=NUM_IMAGES, seed=seed, device=search.compute.device
    )
    supernet = search.supernet
    net = FixedMixture(supernet, search.expected())
    # Per-sample gradients cannot be had of what is computed twice, or over several ranks.
    recomputed, supernet.checkpoint_cells = supernet.checkpoint_cells, False
    try:
        with by_itself(supernet):
            kernel = empirical_ntk(
                net,
                images,
                kind="full",
                method="jacobian",
                batch_norm="frozen",
                dtype=torch.float64,
            )
    finally:
        supernet.checkpoint_cells = recomputed
    return max_learning_rate(kernel, momentum=search.method.optimizer.momentum)


def choose_learning_rate(search: StageSearch) -> str | None:
    """Measure the rate if it is "auto"; warn if a rate above the papers' exceeds the bound.

    Returns:
        What was measured, in words, or None.

    Raises:
        ValueError: If there is no bound, because no output depends on any weight.
    """
    rate = search.method.optimizer.rate
    if rate is not None and (rate <= TRUSTED or noises(search.supernet)):
        return None  # noise has no kernel
    bound = learning_rate_bound(search)
    if rate is None:
        if bound == float("inf"):
            raise ValueError("optimizer.lr=auto: no weight moves any output; give a number")
        search.learning_rate = FRACTION * bound
        return f"learning rate {search.learning_rate:.4g}: half of the kernel's bound {bound:.4g}"
    if rate > bound:
        logging.warning(
            "optimizer.lr=%g exceeds %.4g, beyond which descent on the linearised supernet "
            "diverges; optimizer.lr=auto takes half of that",
            rate,
            bound,
        )
    return None
