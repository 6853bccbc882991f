"""Scores of untrained networks: larger promises more.

A score is a function of a `Candidate`, which computes what several of them share only once.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from darts_gdas.nets import DerivedNet, Layout, count_parameters
from darts_gdas.nets.costs import multiply_adds
from darts_gdas.nets.depthwise import Depthwise, by_patches
from darts_gdas.nets.initialization import Fan, initialize
from darts_gdas.nets.registry import check_name
from darts_gdas.ntk import (
    activation_patterns,
    condition_number,
    empirical_ntk,
    linear_regions,
    logdet_normalised,
    spectrum,
)
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.normalization import preserved
from darts_gdas.ntk.regions import agreements
from darts_gdas.space import Genotype

REGION_SAMPLES = 3000
REGION_LINES = 10
REGION_SIDE = 3
TE_NAS_BATCH = 16
KERNEL_CHUNK = 32

_SEEN: set[tuple[str, str, str]] = set()
"""Skeletons, operations and choices of weights that formulas took, with all checks."""


@dataclass(eq=False)
class Candidate:
    """An architecture as a small untrained network, and a batch of images.

    Weights are drawn as He et al. do it with the fan out, variance 2 / fan_out, as in TE-NAS.

    Attributes:
        genotype: The architecture.
        layout: The small network around it.
        images: A batch, normalised.
        seed: Determines the weights and all else that is random.
    """

    genotype: Genotype
    layout: Layout
    images: Float[Tensor, "batch channels height width"]
    seed: int = 0

    def build(self, layout: Layout, fan: Fan) -> nn.Module:
        """The architecture's network with the candidate's weights."""
        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):
            net = DerivedNet(self.genotype, layout)
        initialize(net, 2.0, mode=fan, generator=generator)
        return net.to(self.images.device)

    @cached_property
    def net(self) -> nn.Module:
        """The network that most scores look at."""
        return self.build(self.layout, Fan.OUT)

    @cached_property
    def full_kernel(self) -> Float[Tensor, "batch batch outputs outputs"]:
        """Neural tangent kernel of all outputs, norms fixed to the batch's statistics."""
        return _kernel(self, kind="full", chunk_size=KERNEL_CHUNK)

    @cached_property
    def patterns(self) -> Bool[Tensor, "batch units"]:
        """Which ReLU is on for which image."""
        return activation_patterns(self.net.train(), self.images)


Score = Callable[[Candidate], float]


def _kernel(candidate: Candidate, **options: Any) -> Tensor:
    """A kernel by the batch's statistics, with all checks unless formulas took all its parts."""
    skeleton, weights = candidate.layout.skeleton.name, options.get("params", "all")
    parts = {(skeleton, name, weights) for name in candidate.genotype.operations}
    options |= {"batch_norm": "frozen", "dtype": torch.float64}
    net, images = candidate.net, candidate.images
    try:
        found = empirical_ntk(net, images, method="structured", trusted=parts <= _SEEN, **options)
    except Unsupported:  # an operation of a user's
        return empirical_ntk(net, images, **options)
    _SEEN.update(parts)
    return found


def ntk_logdet(candidate: Candidate) -> float:
    """Mean log eigenvalue of the full kernel scaled to ones on its diagonal, at most 0."""
    return logdet_normalised(candidate.full_kernel)


def ntk_condition(candidate: Candidate) -> float:
    """-log of the full kernel's condition number."""
    return -math.log(condition_number(candidate.full_kernel))


def ntk_min_eigenvalue(candidate: Candidate) -> float:
    """Log of the full kernel's smallest eigenvalue."""
    smallest = float(spectrum(candidate.full_kernel).eigenvalues[0])
    return math.log(smallest) if smallest > 0 else -math.inf


def ntk_condition_sum(candidate: Candidate) -> float:
    """-log of the condition number of the kernel of the sum of the outputs.

    TE-NAS's statistic with fixed norms.
    """
    return -math.log(condition_number(_kernel(candidate, params="weights")))


def te_nas(candidate: Candidate) -> float:
    """-log of the condition number as TE-NAS publishes it: norms in training mode, 16 images.

    Chen, Gong, Wang, ICLR 2021, https://arxiv.org/abs/2102.11535, section 3.1.1. Samples are
    coupled by the norms, and the cost grows with the square of their number.
    """
    kernel = empirical_ntk(
        candidate.net,
        candidate.images[:TE_NAS_BATCH],
        params="weights",
        batch_norm="batch",
        dtype=torch.float64,
    )
    return -math.log(condition_number(kernel))


def regions(candidate: Candidate) -> float:
    """Number of linear regions that 3,000 inputs on ten lines fall into, at two channels.

    TE-NAS (section 3.1.2) counts those of 3,000 independent inputs of 1x3x3 pixels; in networks of
    this kind each of these falls into a region of its own, and the count says nothing.
    """
    layout = dataclasses.replace(candidate.layout, in_channels=1, channels=2)
    net = candidate.build(layout, Fan.IN).train()
    generator = torch.Generator().manual_seed(candidate.seed)
    inputs = inputs_on_lines(REGION_SAMPLES, REGION_LINES, generator)
    return float(linear_regions(net, inputs.to(candidate.images.device)))


def inputs_on_lines(
    count: int, lines: int, generator: torch.Generator
) -> Float[torch.Tensor, "samples 1 3 3"]:
    """Inputs of 1x3x3 pixels evenly on straight lines between pairs of normal random ones.

    Args:
        count: About how many; the same number on each line.
        lines: Number of lines.
        generator: Draws the end points.
    """
    ends = torch.randn(2, lines, 1, 1, REGION_SIDE, REGION_SIDE, generator=generator)
    places = torch.linspace(0, 1, max(count // lines, 2)).view(1, -1, 1, 1, 1)
    return (ends[0] + (ends[1] - ends[0]) * places).flatten(0, 1)


def naswot(candidate: Candidate) -> float:
    """Log |K|, K counting the ReLUs on which two images agree.

    Mellor, Turner, Storkey, Crowley, ICML 2021, https://arxiv.org/abs/2006.04647, section 3.
    """
    agreeing = agreements(candidate.patterns).double()
    sign, logdet = torch.linalg.slogdet(agreeing)
    return float(logdet) if sign > 0 else -math.inf


def synflow(candidate: Candidate) -> float:
    """Log of sum over weights |w dR/dw|, R the summed output for an image of ones.

    All weights by their absolute values, norms left out, in float64.

    Tanaka et al., NeurIPS 2020, https://arxiv.org/abs/2006.05467; as a score: Abdelfattah et al.,
    ICLR 2021, https://arxiv.org/abs/2101.08134.
    """
    net = candidate.net
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    values = {name: t.detach().double() for name, t in tensors.items() if t.is_floating_point()}
    values |= {name: w.abs().requires_grad_() for name, w in values.items() if w.dim() > 1}
    weights = [w for w in values.values() if w.requires_grad]
    ones = torch.ones_like(candidate.images[:1], dtype=torch.float64)
    with preserved(net), contextlib.ExitStack() as stack:
        net.eval()
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm2d, Depthwise)):
                is_norm = isinstance(module, nn.BatchNorm2d)
                module.forward = (lambda input: input) if is_norm else partial(by_patches, module)
                stack.callback(vars(module).pop, "forward")
        output = functional_call(net, values, (ones,))
    gradients = torch.autograd.grad(output.sum(), weights, materialize_grads=True)
    pairs = zip(weights, gradients, strict=True)
    total = sum(float((w * g).detach().abs().sum()) for w, g in pairs)
    return math.log(total) if total > 0 else -math.inf


def params(candidate: Candidate) -> float:
    """Log of the number of parameters."""
    return math.log(count_parameters(candidate.net))


def macs(candidate: Candidate) -> float:
    """Log of the multiply-adds of one image."""
    with preserved(candidate.net):
        return math.log(multiply_adds(candidate.net, candidate.images[:1]))


SCORES: dict[str, Score] = {
    "ntk_logdet": ntk_logdet,
    "ntk_condition": ntk_condition,
    "ntk_min_eigenvalue": ntk_min_eigenvalue,
    "ntk_condition_sum": ntk_condition_sum,
    "te_nas": te_nas,
    "linear_regions": regions,
    "naswot": naswot,
    "synflow": synflow,
    "params": params,
    "macs": macs,
}
"""All scores by the names that a user gives; `register_score` adds one."""

COLUMNS = ("rank", "cell", "remark", "accuracy")
"""What else stands in the table of a ranking."""

DEFAULT_SCORES = ("ntk_condition", "naswot", "synflow", "params")
"""Their rank sum orders NAS-Bench-201 best; chosen on half of 400 cells (docs/benchmarks.md)."""

START_SCORES = ("ntk_condition", "naswot", "synflow")
"""Those of a warm start, of which size is none: where a search limits it, it misleads."""

KERNELS = ("ntk_logdet", "ntk_condition", "ntk_min_eigenvalue", "ntk_condition_sum", "te_nas")
"""Those of a tangent kernel."""

SIZES = ("params", "macs")
"""What stands beside every other score: one that does not beat them is not worth its time."""


def register_score(name: str, function: Score) -> None:
    """Add a score that rankings and warm starts may name, in this process.

    Args:
        name: Lower-case letters, digits and underscores.
        function: Larger is better; -inf where a network is so degenerate that it has no value. It
            leaves the candidate's network as it was: other scores look at it too.

    Raises:
        ValueError: If the name is taken or malformed.
    """
    check_name(name, "score", {*SCORES, *COLUMNS})
    SCORES[name] = function


def check_scores(names: Sequence[str], where: str) -> None:
    """Raise a `ValueError` that names the scores which do not exist, or if there are none."""
    unknown = [name for name in names if name not in SCORES]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"{where} must be distinct names out of {', '.join(SCORES)}, got {list(names)}"
        )


def score(candidate: Candidate, names: Sequence[str]) -> dict[str, float]:
    """Several scores of one candidate.

    Args:
        candidate: What to score.
        names: Keys of `SCORES`.

    Returns:
        By name; -inf where a network is so degenerate that a score has no value.

    Raises:
        ValueError: If a score overwrites the images, which all cells share.
    """
    found = {}
    for name in names:
        version = candidate.images._version
        found[name] = float(SCORES[name](candidate))
        if candidate.images._version != version:
            raise ValueError(
                f"score {name!r} changes the candidate's images in place, and every score after "
                "it would see others; let it work on a copy, candidate.images.clone()"
            )
    return found
