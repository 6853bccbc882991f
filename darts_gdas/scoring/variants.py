"""A supernet without each of many candidates in turn: few large calls in place of many small ones.

All variants share their weights, so their images lie behind each other in one batch, variant by
variant, and every layer runs once. A tensor on which the variants still agree, such as all that
precedes the edge whose candidates are left out, has as many rows as there are images; the first
sum in which they differ makes one part per variant of it.

Norms take the statistics of each variant's own images. The values are those of the supernet itself
with one variant's mixture after the other, but for rounding.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from darts_gdas.nets import SuperNet
from darts_gdas.nets.candidates import NormalizedPool, State
from darts_gdas.nets.supernet import MixedEdge, SearchCell
from darts_gdas.ntk import calls, matrices
from darts_gdas.ntk.checks import select_parameters
from darts_gdas.ntk.gram import Gram, Kind
from darts_gdas.ntk.matrices import Matrices
from darts_gdas.ntk.normalization import preserved
from darts_gdas.ntk.regions import regions_together
from darts_gdas.ntk.structured import StructuredRows

Place = tuple[str, int, str]
"""Kind, edge and candidate."""

_MOST_PIXELS = 2**15
"""Of all samples of a backward pass: bounds its memory to some hundred MiB."""


class Variants(nn.Module):
    """A supernet without some candidates, as a function of images; its weights must not change.

    An edge gives equal weights to its other candidates. The one that is left out runs at weight
    zero, so its ReLUs still divide the inputs.

    Args:
        supernet: With all candidates; it is put into evaluation.

    Attributes:
        without: What each variant lacks; None is the whole supernet.
        samples: Images of one variant.

    Raises:
        Unsupported: If it has modules with parameters or buffers that are no convolution, linear
            layer or norm.
    """

    def __init__(self, supernet: SuperNet) -> None:
        super().__init__()
        self.supernet = supernet.eval()
        self.without: Sequence[Place | None] = (None,)
        self.samples = 1
        self._matrices = Matrices()
        for name, module in supernet.named_modules():
            owns = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            if owns and not calls.is_known_layer(module):
                raise calls.Unsupported(f"{name!r} is no layer whose derivatives are known")

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "variants_x_samples classes"]:
        """Logits variant by variant; the batch holds the samples once, or once per variant."""
        net, skeleton = self.supernet, self.supernet.layout.skeleton
        states = skeleton.enter(net.stem, images)
        for i, (kind, cell) in enumerate(zip(net.layout.kinds, net.cells, strict=True)):
            rectify = skeleton.rectifies and i + 1 < len(net.cells)
            if isinstance(cell, SearchCell):
                y = self._cell(kind, cell, states, rectify)
            else:
                y = cell(states, None, rectify=rectify)
            states = (*states[1:], y)
        return net.classifier(net.tail(states[-1]).mean(dim=(2, 3)))

    def _cell(self, kind: str, cell: SearchCell, inputs: Sequence[Tensor], rectify: bool) -> Tensor:
        """As `SearchCell.forward`, edge by edge."""
        modules = cast(Sequence[Any], cell.inputs)
        states = [State(m.after_relu(x)) for m, x in zip(modules, inputs, strict=True)]
        for node in range(cell.space.num_nodes):
            total: Tensor | None = None
            for edge in cell.space.edges_into(node):
                state = states[cell.space.edges[edge][1]]
                candidates = cast(MixedEdge, cell.edges[edge]).candidates
                weights = self._weights((kind, edge), [*candidates], state.x)
                for (name, module), weight in zip(candidates.items(), weights, strict=True):
                    total = self._plus(total, weight, _leave(state, name, module))
            assert total is not None  # every edge keeps a candidate
            states.append(State(total))
        outgoing = [states[i].relu() if rectify else states[i].x for i in cell.space.output]
        rows = max(map(len, outgoing))
        return torch.cat([x.repeat(rows // len(x), 1, 1, 1) for x in outgoing], dim=1)

    def _weights(
        self, edge: tuple[str, int], names: Sequence[str], like: Tensor
    ) -> Sequence[float | Tensor]:
        """How much an edge uses of each candidate: a number, or one per variant."""
        gone = [place[2] if place and place[:2] == edge else None for place in self.without]
        if not any(gone):
            return [1 / len(names)] * len(names)
        left = [len(names) - (name is not None) for name in gone]
        table = [
            [0.0 if n == out else 1 / k for out, k in zip(gone, left, strict=True)] for n in names
        ]
        return like.new_tensor(table).unbind()

    def _plus(self, total: Tensor | None, weight: float | Tensor, y: Tensor) -> Tensor:
        """Total + weight * y, in one part per variant once there is a difference."""
        if isinstance(weight, float) and (total is None or len(total) == len(y)):
            return weight * y if total is None else torch.add(total, y, alpha=weight)
        factor = weight[:, None] if isinstance(weight, Tensor) else weight
        summand = factor * self._by_variant(y)
        summed = summand if total is None else self._by_variant(total) + summand
        return summed.reshape(-1, *y.shape[1:])

    def _by_variant(self, x: Tensor) -> Float[Tensor, "variants numbers"]:
        """One row per variant, or one for all."""
        return x.reshape(len(x) // self.samples, -1)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What a layer makes of the variants' images, its weights constant."""
        if isinstance(layer, _BatchNorm):
            return self._normalised(layer, x)
        y = self._matrices.run(layer, x) if isinstance(layer, matrices.LAYERS) else None
        return calls.call_without_weights(layer, x) if y is None else y

    def _normalised(self, norm: _BatchNorm, x: Tensor) -> Tensor:
        """By mean and variance of each variant's images, which count as constants."""
        numbers = x.reshape(len(x) // self.samples, self.samples, -1)
        pixels = numbers.shape[2] // x.shape[1]

        def channels(of_numbers: Tensor) -> Tensor:
            return of_numbers.mean(1).unflatten(1, (-1, pixels)).mean(2)

        with torch.no_grad():
            mean = channels(numbers)
            centred = numbers - mean.repeat_interleave(pixels, 1)[:, None]
            variance = channels(centred.square())
            scale = (variance + norm.eps).rsqrt()
        if norm.affine:  # what the derivative in its weight asks for, sample by sample
            norm.running_mean = mean.repeat_interleave(self.samples, 0)
            norm.running_var = variance.repeat_interleave(self.samples, 0)
            scale = scale * norm.weight.detach()
        shift = -mean * scale + (norm.bias.detach() if norm.affine else 0)
        scale, shift = (v.repeat_interleave(pixels, 1)[:, None] for v in (scale, shift))
        return torch.addcmul(shift, numbers, scale).view(x.shape)

    @contextlib.contextmanager
    def running(self, *kinds: type[nn.Module]) -> Iterator[None]:
        """Inside it, layers of some kinds run as `run` has it."""
        with contextlib.ExitStack() as stack:
            for layer in self.supernet.modules():
                if isinstance(layer, kinds):
                    layer.forward = partial(self.run, layer)
                    stack.callback(vars(layer).pop, "forward")
            yield


def _leave(state: State, name: str, module: nn.Module) -> Tensor:
    """What a candidate makes of a state; poolings without weights are the same on all edges."""
    if isinstance(module, NormalizedPool) and not module.norm.affine:
        return state.once(name, lambda: module(state.x))
    return state.through(module)


class VariantKernels:
    """Kernels of the summed outputs in the weights named "weight", as TE-NAS has it.

    Args:
        variants: The supernet.
        images: A batch, normalised.

    Raises:
        Unsupported: If its derivatives are not known by formula.
    """

    def __init__(self, variants: Variants, images: Tensor) -> None:
        self.variants, self.images = variants, images
        parameters = select_parameters(variants, "weights")
        variants.without, variants.samples = (None,), 2
        with preserved(variants):
            self._rows = StructuredRows(
                variants, parameters, images[[0, -1]], kind=Kind.sum, run=variants.run
            )

    @torch.no_grad()
    def __call__(self, without: Sequence[Place | None]) -> list[Float[Tensor, "samples samples"]]:
        """One kernel per variant, norms fixed to the statistics of its images."""
        together = max(1, _MOST_PIXELS // self.images[:, 0].numel())
        parts = [without[i : i + together] for i in range(0, len(without), together)]
        return [kernel for part in parts for kernel in self._together(part)]

    def _together(self, without: Sequence[Place | None]) -> list[Tensor]:
        samples, names = len(self.images), [*self._rows.columns]
        self.variants.without, self.variants.samples = without, samples
        images = self.images.repeat(len(without), 1, 1, 1)
        rows = images.new_zeros(len(images), 1, sum(self._rows.columns.values()))
        with preserved(self.variants):
            factors = self._rows.fill(images, names, rows)
        kernels = []
        for part in map(slice, *_ends(len(images), samples)):
            gram = Gram(Kind.sum, (samples, samples), 1, dtype=torch.float64, device=images.device)
            gram.add_rows(rows[part], rows[part])
            for factor in factors:
                one = [factor[part]]
                gram.add_factors(one, one)
            kernels.append(gram.result())
        return kernels


def _ends(total: int, step: int) -> tuple[range, range]:
    return range(0, total, step), range(step, total + 1, step)


@torch.no_grad()
def variant_regions(
    variants: Variants, inputs: Tensor, without: Sequence[Place | None]
) -> list[int]:
    """Linear regions that the inputs fall into, variant by variant.

    Args:
        variants: The supernet.
        inputs: A batch for all of them.
        without: Variants of one edge share what precedes it.
    """
    variants.without, variants.samples = without, len(inputs)
    with preserved(variants), variants.running(nn.Conv2d, nn.AvgPool2d, _BatchNorm):
        counts = regions_together(lambda: variants(inputs), len(inputs))
    return counts * len(without) if len(counts) == 1 else counts
