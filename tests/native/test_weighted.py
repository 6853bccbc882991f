"""Weighted sums of the kernels in C++ are those of norms, products and sums of torch."""

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import batch_norm
from torch.testing import assert_close

from darts_gdas import native
from darts_gdas.native import Kernels, build, takes_weighted
from darts_gdas.native.weighted import weighted_sums, weighted_sums_gradients
from darts_gdas.nets.formats import channels_last

pytestmark = pytest.mark.skipif(
    build.library() is None, reason=f"needs kernels in C++: {native.described()}"
)
EXACT = {"rtol": 1e-10, "atol": 1e-10}
EPS = 1e-5


@pytest.fixture(autouse=True)
def _chosen():
    native.choose(Kernels.native)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return channels_last(values) if len(shape) == 4 else values


def drawn(
    terms: int, edges: int, features: int, *shape: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Weights, images that are normalised, and others."""
    images = [
        draw(*shape, seed=1 + i, dtype=dtype) * (i + 1) + i for i in range(terms * edges + features)
    ]
    cut = terms * edges
    return draw(terms + features, edges, dtype=dtype), images[:cut], images[cut:]


def expected_sums(scale: Tensor, normed: list[Tensor], features: list[Tensor]) -> list[Tensor]:
    """Summand by summand."""
    edges = scale.shape[1]
    images = [batch_norm(x, None, None, training=True, eps=EPS) for x in normed]
    rows = [images[k : k + edges] for k in range(0, len(images), edges)]
    rows += [[f] * edges for f in features]
    return [
        torch.stack([s[e] * r[e] for s, r in zip(scale, rows, strict=True)]).sum(0)
        for e in range(edges)
    ]


@pytest.mark.parametrize("shape", [(2, 4, 1, 1), (3, 8, 5, 7), (5, 12, 9, 8), (16, 20, 16, 9)])
@pytest.mark.parametrize(
    ("terms", "edges", "features"),
    [(1, 1, 0), (1, 3, 0), (2, 1, 1), (2, 3, 2), (3, 2, 1), (0, 1, 1), (0, 3, 2)],
)
def test_sums_statistics_and_gradients(
    terms: int, edges: int, features: int, shape: tuple[int, ...]
):
    scale, normed, others = drawn(terms, edges, features, *shape)
    assert takes_weighted([*normed, *others], [scale])
    mean, variance, inverse, sums = weighted_sums(scale, EPS, normed, others)
    for k, x in enumerate(normed):
        values = x.transpose(0, 1).flatten(1)
        assert_close(mean[k], values.mean(1), **EXACT)
        assert_close(variance[k], values.var(1), **EXACT)
        assert_close(inverse[k], (values.var(1, correction=0) + EPS).rsqrt(), **EXACT)
    leaves = [t.requires_grad_() for t in (scale, *normed, *others)]
    expected = expected_sums(scale, normed, others)
    assert_close(sums, expected, **EXACT)
    upstream = [draw(*shape, seed=50 + e) for e in range(edges)]
    wanted = torch.autograd.grad(expected, leaves, upstream)
    plain = [t.detach() for t in leaves]
    found = weighted_sums_gradients(
        plain[0],
        (mean, inverse),
        upstream,
        plain[1 : 1 + len(normed)],
        plain[1 + len(normed) :],
        [True] * len(leaves),
    )
    for actual, target in zip(found, wanted, strict=True):
        assert_close(actual, target, **EXACT)


def test_gradients_that_nobody_asks_for_are_none_and_leave_the_others_as_they_are():
    scale, normed, others = drawn(2, 2, 2, 3, 8, 5, 7)
    mean, _, inverse, _ = weighted_sums(scale, EPS, normed, others)
    upstream = [draw(3, 8, 5, 7, seed=50 + e) for e in range(2)]

    def gradients(*needs: bool) -> list[Tensor | None]:
        return weighted_sums_gradients(scale, (mean, inverse), upstream, normed, others, needs)

    everything = gradients(*[True] * 7)
    for i in range(7):
        found = gradients(*(j == i for j in range(7)))
        assert [j for j, g in enumerate(found) if g is not None] == [i]
        assert_close(found[i], everything[i], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype):
    scale, normed, others = drawn(2, 3, 2, 20, 16, 24, 24, dtype=dtype)
    upstream = [draw(20, 16, 24, 24, seed=50 + e, dtype=dtype) for e in range(3)]
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        mean, variance, inverse, sums = weighted_sums(scale, EPS, normed, others)
        gradients = weighted_sums_gradients(
            scale, (mean, inverse), upstream, normed, others, [True] * 9
        )
        found.append([mean, variance, inverse, *sums, *gradients])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_large_means_cost_no_digits():
    """Of a variance that is a difference of squares nothing would be left."""
    x = 1000 + draw(16, 8, 16, 16)
    scale = torch.ones(1, 1)
    (exact,) = expected_sums(scale.double(), [x.float().double()], [])
    found = weighted_sums(scale, EPS, [x.float()], []).sums[0]
    assert_close(found.double(), exact, rtol=1e-4, atol=1e-3)


def test_what_is_no_number_stays_in_its_channel_and_edge():
    scale, normed, others = drawn(1, 2, 1, 3, 8, 5, 7)
    normed[1][0, 3, 0, 0] = torch.nan
    mean, variance, inverse, (first, second) = weighted_sums(scale, EPS, normed, others)
    assert first.isfinite().all()
    assert second[:, 3].isnan().all() and second[:, :3].isfinite().all()
    assert [t[1].isnan().tolist().index(True) for t in (mean, variance, inverse)] == [3] * 3


def test_what_the_kernels_do_not_take():
    scale, normed, others = drawn(1, 2, 1, 3, 8, 5, 7)
    images = [*normed, *others]
    assert takes_weighted(images, [scale], (torch.zeros(2, 8).double(),))
    assert not takes_weighted([x[:, :6] for x in images], [scale])
    assert not takes_weighted([x[:1, :, :1, :1] for x in images], [scale])
    assert not takes_weighted([*normed, others[0][:, :, :4]], [scale])
    assert not takes_weighted([x.contiguous() for x in images], [scale])
    assert not takes_weighted(images, [scale.float()])
    assert not takes_weighted(images, [scale], (torch.zeros(2, 4).double(),))
    native.choose(Kernels.library)
    assert not takes_weighted(images, [scale])
    native.choose(Kernels.native)
    with forward_ad.dual_level():
        assert not takes_weighted(images, [scale])
