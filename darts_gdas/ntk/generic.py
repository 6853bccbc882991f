"""Rows of the Jacobian of any network: sample by sample, or by `torch.func` transforms."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import grad, jacrev, vmap

from darts_gdas.ntk.agreement import beside_itself, differing, gradients_of_sum, weighted_sum
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.checks import check_numbers, check_output
from darts_gdas.ntk.gram import Factors
from darts_gdas.ntk.normalization import call_with


class LoopRows:
    """One backward pass per sample and row: slow, and right for whatever autograd can do.

    A sample runs alone, or beside a copy of itself if its gradient is another one there: autograd
    is wrong for some batches of one.

    Args:
        model: The network.
        parameters: The selected ones by name.
        coupled: Run all samples as one batch and take the Jacobian of that function; each row then
            costs a backward pass of the whole batch.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, nn.Parameter], *, coupled: bool = False
    ) -> None:
        self.model, self.parameters, self.coupled = model, parameters, coupled
        self._is_beside_itself = False
        self.columns: Mapping[str, int] = {
            name: parameter.numel() for name, parameter in parameters.items()
        }
        self.held: Mapping[str, int] = self.columns

    def fill(
        self,
        images: Shaped[Tensor, "samples ..."],
        names: Sequence[str],
        rows: Float[Tensor, "samples rows columns"],
    ) -> list[Factors]:
        """Write the rows of some parameters, side by side."""
        chosen = {name: self.parameters[name] for name in names}
        with torch.enable_grad():
            whole = check_output(self.model(images), len(images)) if self.coupled else None
            if whole is not None:
                check_numbers(whole)
            for n, image in enumerate(images.split(1)):
                if whole is not None:
                    _write(rows[n], whole[n], chosen)
                    continue
                _write(rows[n], self._output(image), chosen)
                if n == 0 and not (
                    self._is_beside_itself or self._is_right(rows[:1], image, chosen)
                ):
                    self._is_beside_itself = True
                    _write(rows[n], self._output(image), chosen)
        return []

    def _output(self, image: Tensor) -> Tensor:
        x = beside_itself(image) if self._is_beside_itself else image
        output = check_output(self.model(x), samples=len(x))[0]
        check_numbers(output)
        return output

    def _is_right(self, rows: Tensor, image: Tensor, chosen: Mapping[str, nn.Parameter]) -> bool:
        """Whether the rows of a sample alone are those beside a copy of it."""
        weights, found = weighted_sum(rows, chosen)
        expected = gradients_of_sum(self.model, chosen, image, weights)
        return differing(found, expected, largest=rows.abs().amax()) is None


def _write(rows: Tensor, output: Tensor, chosen: Mapping[str, nn.Parameter]) -> None:
    """The rows of a sample, one per output or that of their sum."""
    values = output.sum()[None] if len(rows) == 1 else output
    for row, value in zip(rows, values, strict=True):
        gradients = torch.autograd.grad(
            value, [*chosen.values()], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        torch.cat([g.to_dense().flatten() for g in gradients], out=row)


class JacobianRows:
    """All samples' rows by `vmap` over `grad` or `jacrev`.

    Some functions' rules for these transforms are wrong, some only for as many samples as there
    are outputs, so every part of the samples is compared with autograd.

    Args:
        model: The network; it must be one that these transforms can take.
        parameters: The selected ones by name.
        is_sum: Whether rows are those of the sum of all outputs.
        trusted: Do not compare.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        *,
        is_sum: bool,
        trusted: bool = False,
    ) -> None:
        self.model, self.parameters, self.is_sum = model, parameters, is_sum
        self.trusted = trusted
        self.columns: Mapping[str, int] = {
            name: parameter.numel() for name, parameter in parameters.items()
        }
        self.held: Mapping[str, int] = self.columns

    def fill(
        self,
        images: Shaped[Tensor, "samples ..."],
        names: Sequence[str],
        rows: Float[Tensor, "samples rows columns"],
    ) -> list[Factors]:
        """Write the rows of some parameters, side by side.

        Raises:
            Unsupported: If they are not those of autograd.
            RuntimeError: Whatever the transforms say of a network that they cannot take.
        """
        found, start = self._rows(images, names), 0
        for name in names:
            part = found[name].reshape(*rows.shape[:2], -1)
            rows[..., start : start + part.shape[2]] = part
            start += part.shape[2]
        if not self.trusted:
            self._compare(images, names, rows)
        return []

    def _compare(self, images: Tensor, names: Sequence[str], rows: Tensor) -> None:
        """A sum of rows must be the gradient of the same sum of outputs.

        Where it is not, samples are taken one by one, as the transforms take them: what a network
        makes of a sample may depend on its place in a batch.
        """
        chosen = {name: self.parameters[name] for name in names}
        weights, found = weighted_sum(rows, chosen)
        largest = rows.abs().amax()
        together = gradients_of_sum(self.model, chosen, images, weights)
        if differing(found, together, largest=largest) is None:
            return
        alone = {name: torch.zeros_like(value) for name, value in together.items()}
        for image, weight in zip(images.split(1), weights.split(1), strict=True):
            for name, value in gradients_of_sum(self.model, chosen, image, weight).items():
                alone[name] += value
        wrong = differing(found, alone, largest=largest)
        if wrong is not None:
            raise Unsupported(f"its rows of {wrong!r} are not those of autograd")

    def _rows(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Rows of some parameters, by name and each in the parameter's shape."""
        chosen = {name: self.parameters[name].detach() for name in names}

        def outputs(weights: dict[str, Tensor], image: Tensor) -> tuple[Tensor, Tensor]:
            y = check_output(call_with(self.model, weights, image[None]), samples=1)[0]
            return y.sum() if self.is_sum else y, y.detach()

        transform = (grad if self.is_sum else jacrev)(outputs, has_aux=True)
        with warnings.catch_warnings():  # of functions that `vmap` takes sample by sample
            warnings.filterwarnings("ignore", message="There is a performance drop")
            found, values = vmap(transform, in_dims=(None, 0))(chosen, images)
        check_numbers(values)
        return found
