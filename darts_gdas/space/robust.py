"""The candidates of S1 to S4, four spaces on which differentiable search is known to fail.

S1 offers two operations per edge, those that DARTS preferred; S2 and S3 invite skip connections to
win; S4 offers noise, which no search should choose. Wiring and derivation are those of DARTS.

Reference:
    Zela et al., ICLR 2020, https://arxiv.org/abs/1909.09656, section 3 and figure 10; S1's table as
    in the authors' repository, automl/RobustDARTS, src/spaces.py.
"""

_SKIP, _MAX, _AVG = "skip_connect", "max_pool_3x3", "avg_pool_3x3"
_SEP, _DIL, _DIL5 = "sep_conv_3x3", "dil_conv_3x3", "dil_conv_5x5"

PerEdge = tuple[str, ...] | tuple[tuple[str, ...], ...]
"""Candidates of every edge alike, or of each of the 14 edges."""

_S1_NORMAL = (
    *((_SKIP, _DIL), (_SKIP, _DIL5)),
    *((_SKIP, _DIL5), (_SKIP, _SEP), (_SKIP, _DIL)),
    *((_MAX, _SKIP), (_SKIP, _SEP), (_SKIP, _SEP), (_SKIP, _DIL)),
    *((_SKIP, _SEP), (_MAX, _SKIP), (_SKIP, _DIL), (_DIL, _DIL5), (_DIL, _DIL5)),
)
_S1_REDUCE = (
    *((_MAX, _AVG), (_MAX, _DIL)),
    *((_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5)),
    *((_MAX, _AVG), (_MAX, _SEP), (_SKIP, _DIL), (_SKIP, _DIL5)),
    *((_MAX, _AVG), (_MAX, _AVG), (_SKIP, _DIL5), (_SKIP, _DIL5), (_SKIP, _DIL5)),
)
_S2 = (_SKIP, _SEP)
_S3 = ("none", *_S2)
_S4 = ("noise", _SEP)

ROBUST_CANDIDATES: dict[str, dict[str, PerEdge]] = {
    "s1": {"normal": _S1_NORMAL, "reduce": _S1_REDUCE},
    "s2": {"normal": _S2, "reduce": _S2},
    "s3": {"normal": _S3, "reduce": _S3},
    "s4": {"normal": _S4, "reduce": _S4},
}
"""By space and kind of cell, in the order of `CellSpace.edges`."""
