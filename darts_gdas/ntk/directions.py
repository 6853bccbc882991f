"""How outputs change along a direction of the weights: J times it, by a way that has been tried.

Forward mode takes one pass. Some functions have no derivatives there, and some networks wrong ones:
it goes through `torch.no_grad`, and exchanges weights where modules hold them, not where a list
does. One backward pass tells, since <u, J r> = <J^T u, r>. What then is left is autograd alone:
<J^T u, r> is linear in u, and J r its derivative.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import jvp

from darts_gdas.ntk.agreement import beside_itself, gradients_of_sum, is_transposed, probe
from darts_gdas.ntk.calls import Unsupported
from darts_gdas.ntk.checks import unequal
from darts_gdas.ntk.entry import is_full
from darts_gdas.ntk.normalization import call_with
from darts_gdas.ntk.plain import plain_functions
from darts_gdas.reasons import reason

Parameters = Mapping[str, nn.Parameter]
Push = Callable[[nn.Module, Parameters, Tensor, Sequence[Tensor]], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Pushed:
    """J times directions, of one network.

    Attributes:
        model: The network, its outputs flat.
        parameters: The selected ones by name.
        push: How; `push_of` chooses it.
    """

    model: nn.Module
    parameters: Parameters
    push: Push

    def along(
        self, x: Shaped[Tensor, "samples ..."], direction: Sequence[Tensor], chunk_size: int
    ) -> Float[Tensor, "samples outputs"]:
        """How outputs change along a direction, which has one tensor per parameter."""
        parts = x.split(chunk_size)
        found = torch.cat([self.push(self.model, self.parameters, p, direction) for p in parts])
        found = found.detach()
        if found.itemsize < 4 and not torch.isfinite(found).all():
            raise ValueError(
                f"products with the kernel exceed the range of the model's {found.dtype}; convert "
                "the model and the samples by .float()"
            )
        return found


def pushed(model: nn.Module, parameters: Parameters, sides: Sequence[Tensor]) -> Pushed:
    """J times directions, by forward mode if that is right and else by two backward passes.

    Args:
        model: The network, within `tried`.
        parameters: The selected ones by name.
        sides: Samples, of which a few are tried.

    Raises:
        Unsupported: If neither is right.
    """
    refusal = "products with the kernel cannot take this network, empirical_ntk can"
    return Pushed(model, parameters, push_of(model, parameters, probe(sides), refusal=refusal))


def push_of(
    model: nn.Module,
    parameters: Parameters,
    images: Tensor,
    *,
    ways: Sequence[Push] | None = None,
    refusal: str,
) -> Push:
    """The first of some ways to J r that is the transpose of one backward pass.

    Args:
        model: The network.
        parameters: The selected ones by name.
        images: Some samples.
        ways: Which; None for forward mode, and two backward passes after it.
        refusal: What an error begins with.

    Raises:
        Unsupported: If none is; it says what is wrong with the first.
    """
    said, rng = [], torch.Generator().manual_seed(0)
    direction = [signs(p, rng) for p in parameters.values()]
    for push in ways or (by_forward_mode, by_two_passes):
        if push is not by_two_passes and _has_padding(model):
            said.append(_PADDED)
            continue
        try:
            if _is_right(push, model, parameters, images, direction):
                return push
            said.append(_DIFFERS)
        except Exception as error:
            if is_full(error):
                raise
            said.append(reason(error, named=not isinstance(error, Unsupported)))
    raise Unsupported(f"{refusal}: {said[0]}")


_DIFFERS = (
    "derivatives in forward mode are not those of autograd (weights that a list holds, "
    "torch.no_grad, a function with a backward pass of its own, an operator of torch.library)"
)


_PADDED = (
    "an embedding has a padding_idx, whose vector has no gradient, but a derivative in forward mode"
)


def _has_padding(model: nn.Module) -> bool:
    """Whether some tokens are not differentiated, which a few samples without them do not show."""
    embeddings = (m for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag)))
    return any(m.padding_idx is not None for m in embeddings)


def _is_right(
    push: Push,
    model: nn.Module,
    parameters: Parameters,
    images: Tensor,
    direction: Sequence[Tensor],
) -> bool:
    """Whether a way to J r is the transpose of one backward pass, with the same random numbers.

    It gets copies of r, for forward mode writes into tangents what a network writes into weights.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        moved = push(model, parameters, images, [r.clone() for r in direction]).detach()
        cotangent = unequal(moved)
        torch.manual_seed(0)
        gradients = gradients_of_sum(model, parameters, images, cotangent)
    return is_transposed(moved, cotangent, direction, [*gradients.values()])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's warnings of itself, when it first loads its rules of forward mode."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script")
        yield


def by_forward_mode(
    model: nn.Module, parameters: Parameters, images: Tensor, direction: Sequence[Tensor]
) -> Tensor:
    """J r by one pass, with weights exchanged."""
    primal = {name: w.detach() for name, w in parameters.items()}
    tangent = dict(zip(parameters, direction, strict=True))
    with quiet():
        return jvp(lambda w: call_with(model, w, images), (primal,), (tangent,))[1]


def by_two_passes(
    model: nn.Module, parameters: Parameters, images: Tensor, direction: Sequence[Tensor]
) -> Tensor:
    """J r by derivatives of <J^T u, r> in u, of the network as it is; differentiable in r."""
    with torch.enable_grad(), plain_functions():
        outputs = model(images if len(images) > 1 else beside_itself(images))
        cotangent = torch.zeros_like(outputs, requires_grad=True)
        gradients = torch.autograd.grad(
            outputs,
            [*parameters.values()],
            cotangent,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        along = [(g * r).sum() for g, r in zip(gradients, direction, strict=True)]
        (moved,) = torch.autograd.grad(
            sum(along[1:], along[0]),
            cotangent,
            create_graph=any(t.requires_grad for t in (images, *direction)),
        )
    return moved[: len(images)]


def signs(parameter: Tensor, rng: torch.Generator) -> Tensor:
    """Numbers +1 and -1 at random: of all directions of unit variance those that vary least."""
    bits = torch.randint(2, parameter.shape, generator=rng, dtype=torch.int8)
    return bits.mul_(2).sub_(1).to(parameter)
