"""Operations of a supernet that stop learning one by one, as `search.operation_stop` says."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from darts_gdas.nets import SuperNet
from darts_gdas.nets.supernet import MixedEdge
from darts_gdas.runtime.checkpoint import State
from darts_gdas.search.hypergradient import Weights, gradients_of
from darts_gdas.search.operation_stop import OperationStop


class OperationWatch:
    """Compares the gradients of every operation on both halves, and stops those that overfit.

    What has stopped takes no gradient any more: neither momentum nor weight decay moves it. Where
    ranks share the batches, their gradients are the same, and so are their decisions.

    Args:
        supernet: What is watched: each candidate with weights, on each edge of each cell.
        optimizer: Steps its weights; the gradients it is about to step with are compared.
        stop: When an operation stops.

    Attributes:
        names: The operations by their places in the supernet.
    """

    def __init__(
        self, supernet: SuperNet, optimizer: torch.optim.Optimizer, stop: OperationStop
    ) -> None:
        self.stop = stop
        self._weights = _operations(supernet)
        self.names = list(self._weights)
        device = next(supernet.parameters()).device
        self._sums = torch.zeros(len(self.names), dtype=torch.float64, device=device)
        self._counts = torch.zeros(len(self.names), dtype=torch.long, device=device)
        self._stopped = torch.zeros(len(self.names), dtype=torch.bool, device=device)
        self._validation: dict[str, Tensor] | None = None
        optimizer.register_step_pre_hook(lambda *_: self._compare())

    def look(self, losses: Sequence[Callable[[Weights], Tensor]], weights: Weights) -> None:
        """Take the gradients on the arch half; the next weight step compares its own.

        Args:
            losses: Of the parts of a batch; they sum to its mean.
            weights: The supernet's, by name.
        """
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        parts = [gradients_of(loss(leaves), leaves.values()) for loss in losses]
        total = [torch.stack(terms).sum(0) for terms in zip(*parts, strict=True)]
        self._validation = dict(zip(weights, total, strict=True))

    @torch.no_grad()
    def _compare(self) -> None:
        """Right before a weight step; one transfer to the host says what stops."""
        if self._validation is None:
            return
        rows, zero = [], self._sums.new_zeros(3)
        for own in self._weights.values():
            terms = [
                _products(weight.grad.double(), self._validation[name].double())
                for name, weight in own.items()
                if weight.grad is not None
            ]
            rows.append(torch.stack([zero, *terms]).sum(0))
        self._validation = None
        both, train, validation = torch.stack(rows).unbind(1)
        ran = (train > 0) & (validation > 0)
        self._sums += torch.where(ran, both / (train * validation).sqrt(), 0.0)
        self._counts += ran
        due = self._counts >= self.stop.steps
        low = due & (self._sums / self._counts.clamp_min(1) < self.stop.threshold)
        self._sums.masked_fill_(due, 0.0)
        self._counts.masked_fill_(due, 0)
        self._freeze(low)

    def _freeze(self, chosen: Tensor) -> None:
        self._stopped |= chosen
        for i in chosen.nonzero().flatten().tolist():
            for weight in self._weights[self.names[i]].values():
                weight.requires_grad_(False)
                weight.grad = None

    def metrics(self) -> dict[str, float]:
        """The share of operations that have stopped."""
        return {"search/stopped_operations": float(self._stopped.double().mean())}

    def state_dict(self) -> State:
        """What has stopped, and the means so far."""
        return {"sums": self._sums, "counts": self._counts, "stopped": self._stopped}

    def load_state_dict(self, state: State) -> None:
        """Inverse of `state_dict`."""
        self._sums.copy_(state["sums"])
        self._counts.copy_(state["counts"])
        self._freeze(state["stopped"].to(self._stopped.device))


def _products(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([(a * b).sum(), a.square().sum(), b.square().sum()])


def _operations(supernet: SuperNet) -> dict[str, dict[str, nn.Parameter]]:
    """All candidates that have weights, by place; the weights by their names in the supernet."""
    found = {
        f"{place}.candidates.{name}": module
        for place, edge in supernet.named_modules()
        if isinstance(edge, MixedEdge)
        for name, module in edge.candidates.items()
    }
    weights = {place: dict(module.named_parameters(place)) for place, module in found.items()}
    return {place: own for place, own in weights.items() if own}
