"""Parts of a set that hold every class in its proportion."""

import torch
from jaxtyping import Int64
from torch import Tensor


def check_fraction(fraction: float, name: str) -> None:
    """Raise a `ValueError` unless a fraction lies in (0, 1)."""
    if not 0 < fraction < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {fraction}")


def check_share(share: float, name: str) -> None:
    """Raise a `ValueError` unless a share lies in (0, 1], where 1 is all."""
    if not 0 < share <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {share}")


def stratified_split(
    labels: Int64[Tensor, " images"], fraction: float, seed: int
) -> tuple[Int64[Tensor, " first"], Int64[Tensor, " second"]]:
    """Positions of two disjoint parts that hold each class in the same proportion.

    A function of its arguments alone. Of n images of a class, round(fraction * n) go to the
    first part, but each part gets at least one where n >= 2.

    Args:
        labels: Class of each image.
        fraction: Size of the first part, in (0, 1).
        seed: Which of the possible splits.

    Returns:
        Positions in ascending order, on the device of the labels.

    Raises:
        ValueError: If the fraction is not in (0, 1).

    Example:
        >>> stratified_split(torch.tensor([0, 0, 0, 0, 1, 1]), 0.5, seed=0)[0].shape
        torch.Size([3])
    """
    check_fraction(fraction, "the fraction of a split")
    generator = torch.Generator().manual_seed(seed)
    on_host = labels.cpu()
    is_first = torch.zeros(len(on_host), dtype=torch.bool)
    for label in on_host.unique().tolist():
        members = (on_host == label).nonzero().flatten()
        count = round(fraction * len(members))
        if len(members) >= 2:
            count = min(max(count, 1), len(members) - 1)
        order = torch.randperm(len(members), generator=generator)
        is_first[members[order[:count]]] = True
    first, second = is_first.nonzero().flatten(), (~is_first).nonzero().flatten()
    return first.to(labels.device), second.to(labels.device)


def split_in_two(
    labels: Int64[Tensor, " images"], fraction: float, seed: int, setting: str
) -> tuple[Int64[Tensor, " first"], Int64[Tensor, " second"]]:
    """The same, where both parts must hold images, which two of one class are enough for.

    Args:
        labels: Class of each image.
        fraction: Size of the first part, in (0, 1).
        seed: Which of the possible splits.
        setting: What the fraction is called, for an error.

    Raises:
        ValueError: If one part is empty: there is one image of each class.
    """
    first, second = stratified_split(labels, fraction, seed)
    if not len(first) or not len(second):
        raise ValueError(
            f"{setting}={fraction} cannot split {len(labels)} images of "
            f"{len(labels.unique())} classes in two: at least 2 images of a class are needed, one "
            "for each part, and 2 of every class for both to know all of them"
        )
    return first, second


def class_share(
    labels: Int64[Tensor, " images"], fraction: float, seed: int
) -> Int64[Tensor, " chosen"]:
    """Positions of a share of every class, at least one image of each, in ascending order.

    Args:
        labels: Class of each image.
        fraction: In (0, 1); of n images of a class, round(fraction * n) are taken.
        seed: Which of them.

    Example:
        >>> class_share(torch.tensor([0, 0, 0, 0, 1]), 0.5, seed=0).shape
        torch.Size([3])
    """
    chosen, left = stratified_split(labels, fraction, seed)
    lacking = ~torch.isin(labels[left], labels[chosen])  # the only image of its class
    return torch.cat([chosen, left[lacking]]).sort().values
