"""What fits together in a search, as rules that ask the parts what they are.

Each group of rules yields what is wrong, most important first: setting, value, remedy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from darts_gdas.config.groups import name_of
from darts_gdas.config.run import RunConfig
from darts_gdas.nets import DerivedNet
from darts_gdas.nets.derived import DerivedCell
from darts_gdas.runtime.compilation import Compilation
from darts_gdas.runtime.compute import Precision
from darts_gdas.scoring.scores import check_scores
from darts_gdas.scoring.warm_start import NoWarmStart, WarmStart
from darts_gdas.space import SearchSpace
from darts_gdas.tasks.diagnostics import Diagnostics
from darts_gdas.tasks.method import Method, Order, Stage


def check(*groups: Iterable[str]) -> None:
    """Raise a `ValueError` with the first thing that is wrong."""
    for message in chain(*groups):
        raise ValueError(message)


def of_numbers(run: RunConfig, method: Method) -> Iterator[str]:
    """Numbers that are too coarse, and batches that cannot be cut into parts."""
    gradient, perturbation, precision = method.hypergradient, method.perturbation, run.precision
    name = name_of("hypergradient", gradient)
    if run.accumulate > 1 and gradient.looks_ahead:
        yield (
            f"accumulate cannot cut the batches of hypergradient={name}, whose terms are products "
            "over whole batches; use hypergradient=first_order, or checkpoint_cells=true"
        )
    if run.accumulate > 1 and perturbation is not None and perturbation.looks_at_the_loss:
        yield (
            "accumulate cannot cut the batch that "
            f"perturbation={name_of('perturbation', perturbation)} looks at; use "
            "perturbation=random, or checkpoint_cells=true"
        )
    if gradient.differentiates_twice and precision is Precision.fp16:
        yield (
            f"hypergradient={name} differentiates twice, which precision=fp16's scaled losses "
            "cannot; use precision=bf16 or fp32"
        )
    if gradient.takes_differences and precision is not Precision.fp32:
        yield (
            f"hypergradient={name} needs precision=fp32, got {precision.name}: its finite "
            "difference is smaller than the rounding; use hypergradient=unrolled_exact or "
            "first_order"
        )


def of_pressure(method: Method) -> Iterator[str]:
    """Penalties and perturbations without meaning or effect."""
    relaxation, perturbation = method.relaxation, method.perturbation
    name, penalties = name_of("relaxation", relaxation), method.penalties
    is_still = method.order is Order.weights_only
    pressing = [key for key, penalty in penalties.items() if not penalty.needs_whole_space]
    if pressing and is_still:
        yield (
            f"penalties={pressing} press on the alphas, which order=weights_only never steps; use "
            f"{_without(method, *pressing)}"
        )
    for key, penalty in penalties.items():
        reason = penalty.fits(relaxation)
        if reason is not None:
            yield (
                f"penalties.{key} has no meaning with relaxation={name}: {reason}; or use "
                f"{_without(method, key)}"
            )
        if penalty.needs_whole_space and not method.discretizer.heeds_penalties:
            yield (
                f"penalties.{key} limits which cells may be found, and discretizer="
                f"{name_of('discretizer', method.discretizer)} does not ask it; use discretizer="
                f"{'' if is_still else 'argmax or '}best_of_draws, or {_without(method, key)}"
            )
    if perturbation is None:
        return
    if relaxation.samples_one_path:
        yield (
            f"perturbation moves the weights of all candidates, but relaxation={name} runs one per "
            "edge; use relaxation=softmax or concrete, or perturbation=none"
        )
    sums_to_one = relaxation.rows_are_distributions and not relaxation.rows_exceed_one
    if perturbation.renormalize and not sums_to_one:
        yield (
            "perturbation.renormalize=true makes rows distributions, which those of "
            f"relaxation={name} are not; set perturbation.renormalize=false"
        )


def _without(method: Method, *left_out: str) -> str:
    """The method's penalties but for some, as they are typed."""
    return f"penalties=[{','.join(key for key in method.penalties if key not in left_out)}]"


def of_compilation(run: RunConfig, method: Method, *, checkpoint_cells: bool) -> Iterator[str]:
    """What cannot be compiled."""
    if run.compile is Compilation.none:
        return
    chosen, gradient = f"compile={run.compile.name}", method.hypergradient
    name, perturbation = name_of("hypergradient", gradient), method.perturbation
    if checkpoint_cells:
        yield f"{chosen} and checkpoint_cells=true exclude each other; choose one"
    if method.relaxation.samples_one_path:
        yield (
            f"{chosen} needs the same candidates in every step, "
            f"relaxation={name_of('relaxation', method.relaxation)} runs others each time; leave "
            "compile out"
        )
    if gradient.differentiates_twice:
        yield (
            f"{chosen} cannot be differentiated twice, which hypergradient={name} needs; use "
            "hypergradient=unrolled, or leave compile out"
        )
    if run.compile is not Compilation.cuda_graphs:
        return
    several = f"{chosen} holds one pass at a time, {{}} several; use compile=inductor"
    if gradient.looks_ahead:
        yield several.format(f"hypergradient={name}")
    if perturbation is not None and perturbation.looks_at_the_loss:
        yield several.format(f"perturbation={name_of('perturbation', perturbation)}")


def of_course(run: RunConfig, method: Method, warm_start: WarmStart) -> Iterator[str]:
    """Cells found untrained, alphas stepped that mean nothing, or read unstepped."""
    order, warmup, epochs = method.order, method.arch_warmup_epochs, run.epochs
    discretizer, relaxation = method.discretizer, name_of("relaxation", method.relaxation)
    is_found = warm_start.finds_a_cell and not discretizer.asks_weights
    if epochs < 1 and not is_found and not discretizer.needs_no_training:
        yield (
            "epochs must be at least 1, got 0: only method=te_nas, method=random, and evolution or "
            "reinforce with discretizer/judge=table or untrained, find a cell untrained"
        )
    unread = f"relaxation={relaxation}" if not method.relaxation.uses_alphas else None
    if discretizer.needs_no_training:
        unread = f"discretizer={name_of('discretizer', discretizer)}"
    if unread is not None and not isinstance(warm_start, NoWarmStart):
        yield (
            f"warm_start={name_of('warm_start', warm_start)} measures what the alphas begin with, "
            f"which {unread} does not ask; set warm_start=none"
        )
    never = order is Order.weights_only
    limits = any(penalty.needs_whole_space for penalty in method.penalties.values())
    if not never and not method.relaxation.uses_alphas:
        yield (
            f"relaxation={relaxation} depends on no alpha, order={order.name} steps them; use "
            "method=random_ws, or set order=weights_only"
        )
    if never and not discretizer.asks_weights:
        yield (
            "order=weights_only leaves the alphas as they begin, "
            f"discretizer={name_of('discretizer', discretizer)} reads the cell from them; use "
            f"discretizer={'best_of_draws' if limits else 'perturbation or best_of_samples'}"
        )
    if never and method.hypergradient.looks_ahead:
        yield (
            "order=weights_only takes no arch step, so the hypergradient has no effect; leave "
            "hypergradient=first_order"
        )
    if never and method.operation_stop.watches:
        yield (
            "operation_stop.threshold compares both halves in the steps of the alphas, which "
            "order=weights_only never takes; leave it at -1"
        )
    if never and method.edge_normalization:
        yield (
            "edge_normalization=true weighs edges by parameters that order=weights_only never "
            "steps; leave it out"
        )
    if warmup and never:
        yield "arch_warmup_epochs has no effect with order=weights_only"
    if warmup and not 0 < warmup < epochs:
        yield (
            f"arch_warmup_epochs must lie between 0 and epochs={epochs}, which it must not reach, "
            f"got {warmup}: the alphas would never move"
        )


def of_measurements(run: RunConfig, method: Method, diagnostics: Diagnostics) -> Iterator[str]:
    """What is measured, or asked at the end, and cannot be."""
    selects = method.discretizer.asks_weights
    if diagnostics.stop_below > 0 and selects:
        yield (
            "diagnostics.stop_below returns the genotype of an earlier epoch, a selection asks the "
            "last weights; use discretizer=argmax, or diagnostics.stop_below=0"
        )
    measures = diagnostics.eigenvalue_every or diagnostics.gap_every or selects
    if run.compile is not Compilation.none and method.operation_stop.watches:
        yield (
            f"compile={run.compile.name} holds which weights learn, operation_stop.threshold "
            "changes it on the way; leave compile out"
        )
    if run.compile is not Compilation.none and measures:
        yield (
            f"compile={run.compile.name} runs one mixture and one derivative; "
            "diagnostics.eigenvalue_every, diagnostics.gap_every and selections at the end take "
            "others. Leave compile out"
        )


def of_space(space: SearchSpace, method: Method) -> Iterator[str]:
    """What has no effect in a space."""
    reason = method.discretizer.fits(space)
    if reason is not None:
        yield f"discretizer.{reason}; leave it out"
    reason = method.relaxation.fits(space)
    if reason is not None:
        name = name_of("relaxation", method.relaxation)
        yield f"relaxation={name} has no effect: {reason}; use relaxation=softmax"
    has_choice = any(len(cell.edges) > cell.num_nodes for cell in space.cells.values())
    if method.edge_normalization and not has_choice:
        yield (
            "edge_normalization=true weighs the edges into a node against each other, and every "
            "node of the space has one alone; leave it out"
        )


def of_network(net: DerivedNet, said: Mapping[str, int | float]) -> Iterator[str]:
    """What has no effect on a network that is trained.

    Args:
        net: The network.
        said: Values of settings that the user named, by name; defaults are for any network.
    """
    layers, drop_path = said.get("net.layers"), said.get("regularization.drop_path")
    if net.layout.skeleton.one_kind_per_layer and layers not in (None, net.layout.layers):
        yield (
            f"net.layers={layers} has no effect: the genotype is a chain of {net.layout.layers} "
            "blocks, one for each layer; leave it out"
        )
    cells = [cell for cell in net.cells if isinstance(cell, DerivedCell)]
    if drop_path and not any(cell.num_paths for cell in cells):
        yield (
            f"regularization.drop_path={drop_path} has no effect: the network has no path that a "
            "sample could lose, for its cells are skip connections alone or its blocks are the "
            "only way on; leave it out"
        )


def of_judges(method: Method, benchmark: str | None) -> Iterator[str]:
    """What a selection asks for that is not there."""
    if method.discretizer.needs_table and benchmark is None:
        yield (
            "discretizer/judge=table asks known accuracies; pass benchmark=PATH, or use "
            "discretizer/judge=shared_weights or untrained"
        )
    if method.discretizer.asked_scores:
        check_scores(method.discretizer.asked_scores, method.discretizer.scores_setting)


def of_objectives(names: Sequence[str], method: Method, benchmark: str | None) -> Iterator[str]:
    """Objectives that this search will not measure."""
    if "known_accuracy" in names and benchmark is None:
        yield "objective=known_accuracy asks known accuracies; pass benchmark=PATH"
    discretizer = method.discretizer
    if "selected_accuracy" in names and not discretizer.asks_weights:
        yield (
            "objective=selected_accuracy is of a cell that the trained supernet has chosen, and "
            f"discretizer={name_of('discretizer', discretizer)} does not ask it; use "
            "objective=validation_accuracy"
        )


def of_stages(
    run: RunConfig, method: Method, diagnostics: Diagnostics, stages: Sequence[Stage]
) -> Iterator[str]:
    """What has no meaning, or no effect, beside the stages of a progressive search."""
    for name, default in (("partial_channels", 1), ("arch_warmup_epochs", 0)):
        value = getattr(method, name)
        if value != default:
            yield (
                f"{name}={value} has no effect beside stages, each of which has its own; set "
                f"stages.0.{name} and those of the others"
            )
    if method.order is Order.weights_only:
        yield (
            "order=weights_only never steps the alphas, by which stages choose the candidates that "
            "stay; leave stages out"
        )
    for name, penalty in method.penalties.items():
        if penalty.needs_whole_space:
            yield (
                f"penalties.{name} is for all cells of a space, and a stage may leave none that "
                f"meets it; use {_without(method, name)}, or leave stages out"
            )
    if diagnostics.stop_below > 0:
        yield (
            f"diagnostics.stop_below={diagnostics.stop_below} ends a search in the middle of its "
            "stages; set diagnostics.stop_below=0"
        )
    drops = any(stage.skip_dropout for stage in stages)
    if drops and run.compile is not Compilation.none:
        yield (
            f"compile={run.compile.name} cannot trace the masks of stages.N.skip_dropout; leave "
            "compile out"
        )
