"""What a network computes, in a few numbers that tell functions apart and forgive rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from darts_gdas.ntk.agreement import ROUNDED, gradients_of_sum, is_close
from darts_gdas.ntk.checks import four_of, select_parameters, unequal
from darts_gdas.ntk.normalization import flat_outputs, preserved


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What a model computes, whatever the functions that it calls.

    Attributes:
        outputs: As in a plan, one row per block.
        gradients: As in a plan, one row.
        eps: The relative spacing of the outputs' numbers, as they were taken.
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
        share = min(100 * self.eps, ROUNDED)
        return [
            name
            for name, own, there, share, floor in (
                ("outputs", self.outputs, outputs, share, share * self.sensitivity),
                ("gradients", self.gradients, gradients, min(self.eps**0.5, ROUNDED), 0.0),
            )
            if not _are_close(own, _numbers(there), share, floor)
        ]


def _numbers(of_a_file: Any) -> np.ndarray:
    try:
        return np.asarray(of_a_file, float)
    except (ValueError, TypeError):
        return np.empty(0)


def _are_close(own: np.ndarray, there: np.ndarray, share: float, floor: float) -> bool:
    """Whether rows of numbers are the same, up to a share of the largest in each."""
    if there.shape != own.shape:
        return False
    pairs = zip(torch.from_numpy(there), torch.from_numpy(own), strict=True)
    return all(is_close(*pair, share, floor) for pair in pairs)


def fingerprint(
    model: nn.Module,
    sides: tuple[Tensor, Tensor | None],
    params: Any,
    block_size: int,
    chunk_size: int,
) -> Fingerprint:
    """Outputs of all samples, and gradients at four, since two functions may be alike at one.

    A network in half precision is taken in float32, where roundings are far smaller than what tells
    two functions apart; in its own type, if it cannot run in another.

    Args:
        model: The network, within `tried`.
        sides: Samples, and the others if there are.
        params: The weights, as in `empirical_ntk`.
        block_size: Samples per row of outputs.
        chunk_size: Samples per pass.

    Raises:
        ValueError: If gradients are no numbers.
    """
    names, x = [*select_parameters(model, params)], [side for side in sides if side is not None]
    with preserved(model), flat_outputs(model):
        found = _taken(model, names, x, block_size, chunk_size)
        if _widen(model):
            try:
                return _taken(model, names, [*map(_wide, x)], block_size, chunk_size)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, TypeError):  # its code names a type
                pass
    return found


def _taken(
    model: nn.Module, names: Sequence[str], sides: Sequence[Tensor], block: int, chunk: int
) -> Fingerprint:
    weights, some = {name: model.get_parameter(name) for name in names}, sides[0][four_of(sides[0])]
    with torch.no_grad():
        like = model(some)[:1]
        parts = (part for side in sides for part in side.split(block))
        blocks = (torch.cat([model(x) for x in part.split(chunk)]) for part in parts)
        outputs = np.array([*map(_projected, blocks)])
    cotangent = unequal(like.expand(len(some), -1))
    gradients = gradients_of_sum(model, weights, some, cotangent)
    if not all(torch.isfinite(g).all() for g in gradients.values()):
        raise ValueError("gradients of the model's outputs hold numbers that are not finite")
    squares = ((weights[name].double() * g).square().sum() for name, g in gradients.items())
    sensitivity = float(sum(squares, torch.zeros(())).detach().sqrt())
    flat = torch.cat([g.detach().flatten() for g in gradients.values()])
    eps = torch.finfo(like.dtype).eps
    return Fingerprint(outputs, np.array([_projected(flat)]), eps, sensitivity)


def _widen(model: nn.Module) -> bool:
    """Put weights and buffers in float32 in place of shorter ones; whether there were any."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or _wide(tensor) is tensor:
                continue
            if id(tensor) not in made:
                wide = _wide(tensor.detach())
                is_weight = isinstance(tensor, nn.Parameter)
                made[id(tensor)] = nn.Parameter(wide, tensor.requires_grad) if is_weight else wide
            setattr(module, name, made[id(tensor)])  # recurrent layers list their weights once more
    return bool(made)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def _projected(numbers: Tensor) -> list[float]:
    """The length of a vector, and its products with random signs; inf and nan are numbers, too."""
    values = numbers.flatten().double().cpu().nan_to_num(1.0, 2.0, -2.0)
    rng = np.random.default_rng(0)
    signs = (torch.from_numpy(rng.choice([-1.0, 1.0], len(values))) for _ in range(8))
    return [float(values.norm()), *(float(values @ s) for s in signs)]
