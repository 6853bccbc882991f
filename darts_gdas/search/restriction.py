"""Restriction: what one stage of a search has learnt as a smaller space for the next."""

from collections.abc import Sequence

from darts_gdas.nets import Mixture
from darts_gdas.space import SearchSpace


def most_probable(mixture: Mixture, space: SearchSpace, *, count: int) -> SearchSpace:
    """The space with the `count` candidates of the largest weight on every edge.

    `none` competes like the others. An edge that has no more than `count` stays as it is. Equal
    weights: the earlier one stays.

    Args:
        mixture: A mixture of the space; its edge weights play no part, since every edge stays.
        space: What is to be restricted.
        count: At least 2, or `none` alone could be left.

    Example:
        >>> from darts_gdas.search import ArchParameters, Softmax
        >>> space = SearchSpace.named("s3")
        >>> alphas = ArchParameters(space)
        >>> smaller = most_probable(Softmax().expected(alphas), space, count=2)
        >>> {len(names) for names in smaller.cells["normal"].candidates}
        {2}

    Reference:
        Chen et al., ICCV 2019, https://arxiv.org/abs/1904.12760, section 3.2.
    """
    assert count >= 2
    kept = {
        kind: {
            edge: _largest(row, names, count)
            for edge, (row, names) in enumerate(
                zip(mixture[kind].ops.tolist(), cell.candidates, strict=True)
            )
        }
        for kind, cell in space.cells.items()
    }
    return space.restrict(kept)


def _largest(weights: Sequence[float], names: Sequence[str], count: int) -> list[str]:
    """The names with the `count` largest weights; behind the last name the row is padding."""
    order = sorted(range(len(names)), key=lambda i: -weights[i])
    return [names[i] for i in order[:count]]
