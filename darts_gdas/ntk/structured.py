"""Rows of the Jacobian layer by layer, from what enters a layer and what its output's gradient is.

One backward pass gives the gradients of all layers' outputs for all samples; what a weight's
gradient is for a single sample then follows by a small product per layer (`layers.py`). So a row
of J for every sample costs little more than the backward pass of the batch.

While a layer runs its weights are cut off from the graph. Whatever weight the output still depends
on is therefore used in a way that is not seen here, and the network is refused by name.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from darts_gdas.ntk.agreement import agrees, beside_itself, differing, factors_of, gradients_of_sum
from darts_gdas.ntk.calls import (
    Record,
    Unsupported,
    Use,
    call_without_weights,
    is_known_layer,
    places,
    reached,
)
from darts_gdas.ntk.checks import check_numbers, unequal
from darts_gdas.ntk.gram import Factors, Kind
from darts_gdas.ntk.layers import Rows, weight_rows
from darts_gdas.ntk.matrices import LAYERS, Matrices
from darts_gdas.ntk.writing import Writer, formed

_FEW_PIXELS = 2**15
"""Of all samples' rows together: up to so many, one large backward pass beats one per row."""

_MOVING = 80
"""Multiplications in the time of which factors of one place are moved: see `_stays_factors`."""

_ONE_PASS_BYTES = 2**28
"""What enters the layers in such a pass, at most."""


class StructuredRows:
    """Rows of J by layers; the model must be in the state in which it is to be differentiated.

    Args:
        model: Its layers with selected weights must be linear layers, convolutions (zero-padded),
            batch norms with fixed statistics, layer, group or RMS norms, or embeddings, called as
            modules, samples first.
        parameters: The selected ones by name.
        images: Some samples to try it on, in no order.
        kind: Which part of the kernel the rows are for.
        run: Runs a layer on its inputs, with its weights as constants; None calls the layer. If
            given, rows are not compared with autograd, which would call the layers themselves.
        trusted: Do not look whether rows are those of autograd, and samples independent.

    Raises:
        Unsupported: If a selected parameter is used in any other way; names it.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        images: Tensor,
        *,
        kind: Kind,
        run: Callable[[nn.Module, Tensor], Tensor] | None = None,
        trusted: bool = False,
    ) -> None:
        self.model, self._run, self._is_own = model, run or self._call_layer, run is None
        self._is_checked = not trusted and run is None
        self._matrices = Matrices()
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._layers = {
            name: module for name, module in model.named_modules() if is_known_layer(module)
        }
        record = self._forward(images)
        self.num_outputs = record.output.shape[1]
        entering = sum(use.read_inputs().numel() for use in record.uses)
        numbers = images[0].numel() + entering // len(images)
        self._bytes = numbers * record.output.element_size()
        """Of a sample, where it enters the network and its layers."""
        if not trusted:
            self._try(record, images, parameters)
        counts: dict[str, list[Use]] = {}
        for use in record.uses:
            for name in use.selected.values():
                counts.setdefault(name, []).append(use)
        num_rows = self.num_outputs if kind is Kind.full else 1
        self._factored = {
            name
            for name, uses in counts.items()
            if len(uses) == 1 and _stays_factors(uses[0], num_rows)
        }
        for use in record.uses:  # a layer's weight and bias make one pair of factors, or none
            names = set(use.selected.values())
            if not names <= self._factored:
                self._factored -= names
        self.columns: Mapping[str, int] = {
            name: 0 if name in self._factored else parameter.numel()
            for name, parameter in parameters.items()
        }
        self.held: Mapping[str, int] = {
            name: counts[name][0].places * len(value) if name in self._factored else value.numel()
            for name, value in parameters.items()
        }

    def fill(
        self,
        images: Shaped[Tensor, "samples ..."],
        names: Sequence[str],
        rows: Float[Tensor, "samples rows columns"],
    ) -> list[Factors]:
        """Write the rows of some parameters, side by side; return those that stay factors.

        Args:
            images: A part of the samples.
            names: Parameters.
            rows: Zeros; gets one row per output, or their sum where it has one.
        """
        if len(images) == 1 and self._is_own:
            two = rows.new_zeros(2, *rows.shape[1:])
            factors = self.fill(beside_itself(images), names, two)
            rows += two[:1]
            return [factor[:1] for factor in factors]
        places, start = {}, 0
        for name in names:
            places[name] = slice(start, start + self.columns[name])
            start += self.columns[name]
        samples, num_rows = rows.shape[:2]
        pixels = images[:, 0] if images.is_floating_point() else images
        is_small = pixels.numel() * num_rows <= _FEW_PIXELS
        fits = samples * num_rows * self._bytes <= _ONE_PASS_BYTES
        at_once = num_rows if is_small and fits else 1  # then every sample lies there once per row
        record = self._forward(images.repeat_interleave(at_once, 0))
        check_numbers(record.output)
        uses = [use for use in record.uses if not places.keys().isdisjoint(use.selected.values())]
        writer = Writer(uses, places, self._factored, rows, at_once)
        for first in range(0, num_rows, at_once):
            cotangent = _cotangent(record.output, slice(first, first + at_once), num_rows)
            check = self._is_checked and first == 0
            retain = check or first + at_once < num_rows
            gradients = _gradients(record.output, uses, cotangent, retain=retain)
            if check:
                _check_apart(record.output, uses, cotangent, gradients)
            writer.add(first, gradients)
        return writer.factors()

    def _selected(self, layer: nn.Module) -> dict[str, str]:
        """Names of a layer's selected parameters by their role."""
        return {
            role: self._names[id(parameter)]
            for role, parameter in layer._parameters.items()
            if parameter is not None and id(parameter) in self._names
        }

    def _forward(self, images: Tensor) -> Record:
        """Run the model, its layers cut off from their weights and every call noted."""
        record = Record(len(images))
        with contextlib.ExitStack() as stack:
            for name, layer in self._layers.items():
                layer.forward = partial(self._call, record, name, layer)
                stack.callback(vars(layer).pop, "forward")
            stack.enter_context(torch.enable_grad())
            samples = images.detach()
            record.output = self.model(
                samples.requires_grad_() if samples.is_floating_point() else samples
            )
        hidden = sorted(self._names[i] for i in reached(record.output, self._names))
        if hidden:
            raise Unsupported(f"parameter {hidden[0]!r} is used outside of a known layer's call")
        return record

    def _call(self, record: Record, name: str, layer: nn.Module, input: Tensor) -> Tensor:
        x = input  # the name by which the library calls it
        y = self._run(layer, x)
        selected = self._selected(layer)
        if not selected or not torch.is_grad_enabled():
            return y
        if len(x) != record.samples:
            raise Unsupported(
                f"layer {name!r} sees {len(x)} samples where the batch has {record.samples}"
            )
        if y._is_view():  # of which nothing would be left after an operation in place
            y = y.clone()
        if not y.requires_grad:
            y = y.requires_grad_().clone()  # no leaf, so that it may be changed in place
        kept = x.detach()
        edge, at = get_gradient_edge(y), places(layer, y)
        record.uses.append(Use(name, layer, selected, kept, kept._version, at, edge))
        return y

    def _call_layer(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Its output, a function of its input alone."""
        y = self._matrices.run(layer, x) if isinstance(layer, LAYERS) and x.dim() == 4 else None
        return call_without_weights(layer, x) if y is None else y

    def _try(self, record: Record, images: Tensor, parameters: Mapping[str, nn.Parameter]) -> None:
        """Samples must not mix, and sums of rows must be gradients."""
        cotangent = unequal(record.output[0]).expand_as(record.output)  # softmax hides nothing
        gradients = _gradients(record.output, record.uses, cotangent, retain=True)
        _check_apart(record.output, record.uses, cotangent, gradients)
        if not self._is_checked:
            return
        weights, uses = unequal(record.output[:, 0]), record.uses
        scaled = [None if g is None else g * _beside(weights, g).to(g) for g in gradients]
        found = {name: torch.zeros_like(value) for name, value in parameters.items()}
        for use, gradient in zip(uses, scaled, strict=True):
            if gradient is not None:
                for name, rows in formed(use, gradient, found, partial(_summed_rows, use)):
                    found[name] += rows.sum(0).view(found[name].shape)
        sums = cotangent * weights[:, None]
        name = differing(found, gradients_of_sum(self.model, parameters, images, sums))
        if name is not None:
            raise Unsupported(f"its rows of {name!r} are not those of autograd")


def _stays_factors(use: Use, num_rows: int) -> bool:
    """Whether products of a weight's factors are cheaper than its rows and their products.

    Counted in multiplications for a pair of samples. Moving a number of the factors takes as long
    as 80 of them (measured on a CPU, 4 to 16 places, ten rows).
    """
    if use.places <= 1:
        return use.places == 1
    weight, places = use.layer._parameters["weight"], use.places
    assert weight is not None
    features = ("weight" in use.selected) * weight[0].numel() + ("bias" in use.selected)
    by_rows = len(weight) * features * num_rows**2
    moved = len(weight) * num_rows * places
    return by_rows > places**2 * features + moved * (places + num_rows + _MOVING)


def _summed_rows(use: Use) -> Rows:
    """Rows of a layer's weight to be added up; where they need not be formed, their sum."""
    x = use.read_inputs()
    if not use.enters_once:
        return weight_rows(use.layer, x)
    return lambda gradient: (gradient.reshape(len(x), -1).mT @ x.reshape(len(x), -1))[None]


def _beside(numbers: Tensor, like: Tensor) -> Tensor:
    """One number per sample of a tensor of any shape."""
    return numbers.view(-1, *[1] * (like.dim() - 1))


def _check_apart(
    output: Tensor, uses: Sequence[Use], cotangent: Tensor, gradients: Sequence[Tensor | None]
) -> None:
    """What a sample sends back, times a factor of its own, must reach itself alone, so multiplied.

    Checked for every pass, since samples may be put in another order by what they hold.
    """
    factors = factors_of(output)
    scaled = _gradients(output, uses, cotangent * factors[:, None], retain=True)
    for use, once, found in zip(uses, gradients, scaled, strict=True):
        if once is None or found is None:
            continue
        if not agrees(found / _beside(factors, found), once, once):
            raise Unsupported(f"layer {use.name!r} mixes samples")


def _cotangent(output: Tensor, part: slice, num_rows: int) -> Tensor:
    """What picks some rows of every sample; a single row is the sum of all outputs."""
    if num_rows == 1:
        return torch.ones_like(output)
    units = torch.eye(num_rows, dtype=output.dtype, device=output.device)[part]
    return units.repeat(len(output) // len(units), 1)


def _gradients(
    output: Tensor, uses: Sequence[Use], cotangent: Tensor, *, retain: bool
) -> Sequence[Tensor | None]:
    if not uses:
        return []
    return torch.autograd.grad(
        output,
        [use.output for use in uses],  # type: ignore[arg-type]
        cotangent,
        retain_graph=retain,
        allow_unused=True,
    )
