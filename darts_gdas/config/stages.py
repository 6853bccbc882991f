"""What fits together in a search: which steps it takes, how it ends, what is measured."""

from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.compute import Precision
from darts_gdas.scoring.warm_start import TeNasWarmStart, WarmStart
from darts_gdas.search import (
    AdversarialPerturbation,
    ArgMax,
    BestOfSamples,
    Discretizer,
    FirstOrder,
    GumbelHard,
    Hypergradient,
    Perturbation,
    Relaxation,
    Uniform,
    Unrolled,
    UnrolledExact,
)
from darts_gdas.search.selection import Selection
from darts_gdas.tasks.method import Order
from darts_gdas.tasks.monitor import Diagnostics


def check_untrained(epochs: int, warm_start: WarmStart, discretizer: Discretizer) -> None:
    """Raise a `ValueError` where a cell is to be found without training, and nothing can do it."""
    if epochs > 0:
        return
    is_random = isinstance(discretizer, BestOfSamples) and discretizer.count == 1
    is_pruned = isinstance(warm_start, TeNasWarmStart) and not isinstance(discretizer, Selection)
    if not is_random and not is_pruned:
        raise ValueError(
            "epochs must be at least 1, got 0: only warm_start=te_nas with discretizer=argmax, "
            "and discretizer=best_of_samples with discretizer.count=1, find a cell untrained"
        )


def check_order(
    order: Order, relaxation: Relaxation, hypergradient: Hypergradient, discretizer: Discretizer
) -> None:
    """Raise a `ValueError` where alphas are stepped that mean nothing, or read unstepped."""
    if order is not Order.weights_only:
        if isinstance(relaxation, Uniform):
            raise ValueError(
                f"relaxation=uniform depends on no alpha, order={order.name} steps them; set "
                "order=weights_only"
            )
        return
    if isinstance(discretizer, ArgMax):
        raise ValueError(
            "order=weights_only leaves the alphas as they begin, discretizer=argmax reads the cell "
            "from them; use discretizer=perturbation or discretizer=best_of_samples"
        )
    if not isinstance(hypergradient, FirstOrder):
        raise ValueError(
            "order=weights_only takes no arch step, so the hypergradient has no effect; leave "
            "hypergradient=first_order"
        )


def check_warmup(arch_warmup_epochs: int, epochs: int, order: Order) -> None:
    """Raise a `ValueError` where the alphas would stand still throughout."""
    if arch_warmup_epochs and order is Order.weights_only:
        raise ValueError("arch_warmup_epochs has no effect with order=weights_only")
    if arch_warmup_epochs and not 0 < arch_warmup_epochs < epochs:
        raise ValueError(
            f"arch_warmup_epochs must lie between 0 and epochs={epochs}, which it must "
            f"not reach, got {arch_warmup_epochs}: the alphas would never move"
        )


def check_measurements(
    diagnostics: Diagnostics, discretizer: Discretizer, compilation: Compilation
) -> None:
    """Raise a `ValueError` where what is measured, or asked at the end, cannot be."""
    selects = isinstance(discretizer, Selection)
    if diagnostics.stop_below and selects:
        raise ValueError(
            "diagnostics.stop_below returns the genotype of an earlier epoch, a selection asks the "
            "last weights; use discretizer=argmax, or diagnostics.stop_below=0"
        )
    if compilation is Compilation.none:
        return
    if diagnostics.eigenvalue_every or diagnostics.gap_every or selects:
        raise ValueError(
            f"compile={compilation.name} runs one mixture and one derivative; "
            "diagnostics.eigenvalue_every, diagnostics.gap_every and selections at the end take "
            "others. Leave compile out"
        )


def check_compile(
    compilation: Compilation,
    *,
    checkpoint_cells: bool,
    relaxation: Relaxation,
    hypergradient: Hypergradient,
    perturbation: Perturbation | None,
) -> None:
    """Raise a `ValueError` where a search does what cannot be compiled."""
    chosen = f"compile={compilation.name}"
    if compilation is Compilation.none:
        return
    if checkpoint_cells:
        raise ValueError(f"{chosen} and checkpoint_cells=true exclude each other; choose one")
    if isinstance(relaxation, GumbelHard | Uniform):
        name = "gumbel_hard" if isinstance(relaxation, GumbelHard) else "uniform"
        raise ValueError(
            f"{chosen} needs the same candidates in every step, relaxation={name} runs "
            "others each time; leave compile out"
        )
    if isinstance(hypergradient, UnrolledExact):
        raise ValueError(
            f"{chosen} cannot be differentiated twice, which hypergradient=unrolled_exact "
            "needs; use hypergradient=unrolled, or leave compile out"
        )
    if compilation is not Compilation.cuda_graphs:
        return
    if not isinstance(hypergradient, FirstOrder):
        raise ValueError(
            f"{chosen} holds one pass at a time, hypergradient=unrolled several; "
            "use compile=inductor"
        )
    if isinstance(perturbation, AdversarialPerturbation):
        raise ValueError(
            f"{chosen} holds one pass at a time, perturbation=adversarial several; "
            "use compile=inductor"
        )


def check_precision(
    precision: Precision,
    accumulate: int,
    hypergradient: Hypergradient,
    perturbation: Perturbation | None,
) -> None:
    """Raise a `ValueError` where numbers are too coarse, or batches cannot be cut into parts."""
    if accumulate > 1 and not isinstance(hypergradient, FirstOrder):
        raise ValueError(
            "accumulate cannot cut the batches of an unrolled step, whose terms are products over "
            "whole batches; use hypergradient=first_order, or checkpoint_cells=true"
        )
    if accumulate > 1 and isinstance(perturbation, AdversarialPerturbation):
        raise ValueError(
            "accumulate cannot cut the batch that perturbation=adversarial looks at; use "
            "perturbation=random, or checkpoint_cells=true"
        )
    if isinstance(hypergradient, UnrolledExact) and precision is Precision.fp16:
        raise ValueError(
            "hypergradient=unrolled_exact differentiates twice, which precision=fp16's scaled "
            "losses cannot; use precision=bf16 or fp32"
        )
    if isinstance(hypergradient, Unrolled) and precision is not Precision.fp32:
        raise ValueError(
            f"hypergradient=unrolled needs precision=fp32, got {precision.name}: its finite "
            "difference is smaller than the rounding; use hypergradient=unrolled_exact"
        )
