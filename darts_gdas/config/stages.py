"""What fits together in a search: which steps it takes, how it ends, what is measured."""

from darts_gdas.runtime.compilation import Compilation
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


def check_compilation(
    compilation: Compilation,
    relaxation: Relaxation,
    hypergradient: Hypergradient,
    perturbation: Perturbation | None,
    *,
    checkpoint_cells: bool,
) -> None:
    """Raise a `ValueError` where what `torch.compile` makes of the cells could not be used."""
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
    several = ""
    if not isinstance(hypergradient, FirstOrder):
        several = "hypergradient=unrolled"
    elif isinstance(perturbation, AdversarialPerturbation):
        several = "perturbation=adversarial"
    if several:
        raise ValueError(
            f"{chosen} holds one pass at a time, {several} several; use compile=inductor"
        )
