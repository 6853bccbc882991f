"""Chains of blocks: a space whose every position has candidates of its own."""

CHAIN_CANDIDATES = (
    "skip_connect",
    *(f"mbconv{expansion}_{k}x{k}" for expansion in (3, 6) for k in (3, 5, 7)),
)
"""The inverted bottlenecks of ProxylessNAS, by expansion and kernel, and the block that is none.

Reference:
    Cai et al., ICLR 2019, https://arxiv.org/abs/1812.00332, section 4.2.
"""


def block_kinds(count: int) -> tuple[str, ...]:
    """The kinds of a chain's blocks, in order; their names sort in this order, too.

    Example:
        >>> block_kinds(2), block_kinds(11)[-2:]
        (('block0', 'block1'), ('block09', 'block10'))
    """
    digits = len(str(count - 1))
    return tuple(f"block{i:0{digits}}" for i in range(count))
