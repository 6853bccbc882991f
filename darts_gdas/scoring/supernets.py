"""Untrained supernets without a candidate: condition of the kernel, number of regions."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from darts_gdas.nets import CellMixture, Layout, Mixture, SuperNet
from darts_gdas.nets.fixed import FixedMixture
from darts_gdas.nets.initialization import Fan, initialize
from darts_gdas.ntk import condition_number, empirical_ntk, linear_regions
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.entry import tried
from darts_gdas.ntk.gram import Kind
from darts_gdas.ntk.ways import Ways
from darts_gdas.runtime.journal import Numbers
from darts_gdas.scoring.scores import inputs_on_lines
from darts_gdas.scoring.variants import Place, VariantKernels, Variants, variant_regions
from darts_gdas.space import SearchSpace

Remaining = dict[str, list[list[str]]]
"""Candidates that are left, per kind and edge; an edge without any is gone."""

REGION_LINES = 2


@dataclass(frozen=True, slots=True)
class Measurement:
    """How a supernet is measured.

    Attributes:
        layout: The small network around the cells.
        images: A batch for the kernel, normalised.
        repeats: Networks with weights of their own, whose answers are averaged.
        region_samples: Inputs on two lines to count linear regions with.
        seed: Determines everything random.
    """

    layout: Layout
    images: Float[Tensor, "batch channels height width"]
    repeats: int
    region_samples: int
    seed: int


def edge_of(place: Place | None) -> tuple[str, int] | None:
    """Kind and edge."""
    return place and place[:2]


class Supernets:
    """Two supernets with new weights, for the kernel and for the regions.

    Only candidates that are left are built. All removals that are asked for at once are measured
    together; a supernet that this cannot take, by networks of users, is measured one by one.

    Args:
        space: With all candidates.
        remaining: Those that are left.
        measurement: How to measure.
        repeat: Each has weights of its own.
    """

    def __init__(
        self, space: SearchSpace, remaining: Remaining, measurement: Measurement, repeat: int
    ) -> None:
        self.images = measurement.images
        device = self.images.device
        left = _restricted(space, remaining)
        generator = torch.Generator().manual_seed(measurement.seed + repeat)
        grey = dataclasses.replace(measurement.layout, in_channels=1)
        nets = []
        for layout, fan in ((measurement.layout, Fan.OUT), (grey, Fan.IN)):
            with torch.random.fork_rng(devices=[]):
                supernet = SuperNet(left, layout)
            initialize(supernet, 2.0, mode=fan, generator=generator)
            nets.append(supernet.to(device))
        self.kernel_net, self.region_net = nets
        inputs = inputs_on_lines(measurement.region_samples, REGION_LINES, generator)
        self.inputs = inputs.to(device)
        self._together = self._try_together()

    def _try_together(self) -> tuple[VariantKernels, Variants] | None:
        try:
            kernels = VariantKernels(Variants(self.kernel_net), self.images)
            return kernels, Variants(self.region_net)
        except Unsupported:
            return None

    def measure(self, without: Sequence[Place | None]) -> list[Numbers]:
        """Condition number and regions without a candidate each; None is the whole supernet."""
        if self._together is None:
            pairs = [self.measure_alone(place) for place in without]
        else:
            kernels, regions = self._together
            counts = [
                count
                for _, places in groupby(without, key=edge_of)
                for count in variant_regions(regions, self.inputs, [*places])
            ]
            pairs = zip(map(condition_number, kernels(without)), counts, strict=True)
        return [{"condition": condition, "regions": float(count)} for condition, count in pairs]

    def measure_alone(self, without: Place | None) -> tuple[float, int]:
        """The two numbers by their definitions, of whatever supernet."""
        kernel = empirical_ntk(  # trusted: noise depends on an image's place in its batch
            self._mixed(self.kernel_net, without), self.images, params="weights",
            method=self._method, batch_norm="frozen", dtype=torch.float64, trusted=True,
        )  # fmt: skip
        regions = linear_regions(self._mixed(self.region_net, without), self.inputs)
        return condition_number(kernel), regions

    def _mixed(self, net: SuperNet, without: Place | None) -> FixedMixture:
        return FixedMixture(net, without_place(net.space, without, like=self.images)).train()

    @cached_property
    def _method(self) -> Literal["jacobian", "loop"]:
        """Transforms, unless rows of the whole supernet are then not those of autograd."""
        net, images = self._mixed(self.kernel_net, None), self.images
        with tried(net, images, None, "weights", batch_norm="frozen", trusted=True) as found:
            ways = Ways(
                net, [images], found, Kind.sum, method="jacobian", chunk_size=len(images),
                dtype=torch.float64, trusted=False,
            )  # fmt: skip
            try:
                ways.kernel(images, None)
            except Unsupported:
                return "loop"
        return "jacobian"


def _restricted(space: SearchSpace, remaining: Remaining) -> SearchSpace:
    """The space with the candidates that are left."""
    cells = {
        kind: dataclasses.replace(cell, candidates=tuple(map(tuple, remaining[kind])))
        for kind, cell in space.cells.items()
    }
    return dataclasses.replace(space, cells=cells)


def without_place(space: SearchSpace, without: Place | None, *, like: Tensor) -> Mixture:
    """Equal weights on every edge, of all candidates but one."""
    cells: Mapping[str, CellMixture] = {}
    for kind, cell in space.cells.items():
        ops = like.new_zeros(len(cell.edges), cell.num_candidates)
        for edge, names in enumerate(cell.candidates):
            running = [i for i, name in enumerate(names) if (kind, edge, name) != without]
            for i in running:
                ops[edge, i] = 1 / len(running)
        cells[kind] = CellMixture(ops)
    return Mixture(cells)
