"""What a network computes, in a few numbers that tell functions apart and forgive rounding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from darts_gdas.ntk.agreement import gradients_of_sum
from darts_gdas.ntk.checks import four_of, select_parameters, unequal
from darts_gdas.ntk.normalization import flat_outputs, preserved
from darts_gdas.ntk.trials import check_uncoupled


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What a model computes, whatever the functions that it calls.

    Attributes:
        outputs: As in a plan, one row per block.
        gradients: As in a plan, one row.
        eps: The relative spacing of the outputs' numbers.
        sensitivity: How much outputs move if every weight moves by a random share of itself, in
            units of that share: rounding moves outputs that cancel to nearly 0 by that.
    """

    outputs: np.ndarray
    gradients: np.ndarray
    eps: float
    sensitivity: float

    def differing(self, outputs: Any, gradients: Any) -> list[str]:
        """Which of the two are another function's.

        Outputs are continuous, so another machine moves them by some roundings; gradients jump
        wherever a rounding switches a ReLU.
        """
        of_outputs, floor = 100 * self.eps, 100 * self.eps * self.sensitivity
        return [
            name
            for name, own, there, relative, absolute in (
                ("outputs", self.outputs, outputs, of_outputs, floor),
                ("gradients", self.gradients, gradients, self.eps**0.5, 0.0),
            )
            if not _is_close(own, _numbers(there), relative, absolute)
        ]


def _numbers(of_a_file: Any) -> np.ndarray:
    try:
        return np.asarray(of_a_file, float)
    except (ValueError, TypeError):
        return np.empty(0)


def _is_close(a: np.ndarray, b: np.ndarray, relative: float, absolute: float) -> bool:
    """Whether rows of numbers are the same, up to a share of the largest in each."""
    if a.shape != b.shape:
        return False
    tolerance = relative * np.abs(a).max(axis=1, keepdims=True) + absolute
    return bool((np.abs(a - b) <= tolerance).all())


def fingerprint(
    model: nn.Module,
    sides: tuple[Tensor, Tensor | None],
    params: Any,
    block_size: int,
    chunk_size: int,
) -> Fingerprint:
    """Outputs of all samples, and gradients at four, since two functions may be alike at one.

    Args:
        model: The network.
        sides: Samples, and the others if there are.
        params: The weights, as in `empirical_ntk`.
        block_size: Samples per row of outputs.
        chunk_size: Samples per pass.

    Raises:
        ValueError: If the network is no function of one sample, or has gradients without numbers.
    """
    x = sides[0]
    weights, some = select_parameters(model, params), x[four_of(x)]
    with torch.enable_grad(), preserved(model), flat_outputs(model):
        outputs = check_uncoupled(model, *sides)
        cotangent = unequal(outputs.new_empty(len(some), outputs.shape[1]))
        gradients = gradients_of_sum(model, weights, some, cotangent)
        if not all(torch.isfinite(g).all() for g in gradients.values()):
            raise ValueError("gradients of the model's outputs hold numbers that are not finite")
        squares = ((weights[name].double() * g).square().sum() for name, g in gradients.items())
        sensitivity = float(sum(squares, torch.zeros(())).detach().sqrt())
    with torch.no_grad(), preserved(model), flat_outputs(model):
        parts = [part for side in sides if side is not None for part in side.split(block_size)]
        rows = [_projected(torch.cat([model(x) for x in p.split(chunk_size)])) for p in parts]
    flat = torch.cat([g.detach().flatten() for g in gradients.values()])
    eps = torch.finfo(outputs.dtype).eps
    return Fingerprint(np.array(rows), np.array([_projected(flat)]), eps, sensitivity)


def _projected(numbers: Tensor) -> list[float]:
    """The length of a vector, and its products with random signs; inf and nan are numbers, too."""
    values = numbers.flatten().double().cpu().nan_to_num(1.0, 2.0, -2.0)
    rng = np.random.default_rng(0)
    signs = (torch.from_numpy(rng.choice([-1.0, 1.0], len(values))) for _ in range(8))
    return [float(values.norm()), *(float(values @ s) for s in signs)]
