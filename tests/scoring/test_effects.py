"""Main effects are the regression they claim to be, on cells that are drawn in balance."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from darts_gdas.scoring.effects import main_effects, sample_balanced
from darts_gdas.space import CellSpace, Genotype, SearchSpace

DARTS = SearchSpace.named("darts")
SMALL = SearchSpace(
    {"normal": CellSpace((("none", "a", "b"),) * 2, num_nodes=1, num_inputs=2, keep=None)}  # type: ignore[arg-type]
)


@pytest.mark.parametrize("count", [70, 100])
def test_operations_and_edges_occur_equally_often(count: int):
    genotypes = sample_balanced(DARTS, count, seed=3)
    assert len(genotypes) == count
    for kind, cell in DARTS.cells.items():
        edges, operations = Counter(), Counter()
        for genotype in genotypes:
            for node, kept in enumerate(genotype.cells[kind].nodes):
                assert len({edge.source for edge in kept}) == cell.keep
                edges.update((node, edge.source) for edge in kept)
                operations.update(edge.op for edge in kept)
        for node in range(cell.num_nodes):
            share = count * 2 / (2 + node)
            for source in range(2 + node):
                assert abs(edges[node, source] - share) <= 2
        assert set(operations) == set(cell.derivable(0))
        share = count * 8 / 7
        # Kept edges carry a random subset of their edge's balanced operations.
        assert all(abs(n - share) < 5 * share**0.5 for n in operations.values())


def test_every_operation_on_every_edge_where_all_edges_stay():
    genotypes = sample_balanced(SMALL, 10, seed=0)
    for source in range(2):
        drawn = Counter(g.cells["normal"].nodes[0][source].op for g in genotypes)
        assert drawn == {"a": 5, "b": 5}


def test_the_sample_is_a_function_of_its_seed():
    assert sample_balanced(DARTS, 8, seed=1) == sample_balanced(DARTS, 8, seed=1)
    assert sample_balanced(DARTS, 8, seed=1) != sample_balanced(DARTS, 8, seed=2)


def value(genotype: Genotype) -> float:
    """a on edge 0 is worth 2, on edge 1 it costs 1."""
    first, second = genotype.cells["normal"].nodes[0]
    return 2.0 * (first.op == "a") - (second.op == "a")


def test_effects_of_an_additive_score_are_found():
    genotypes = sample_balanced(SMALL, 40, seed=0)
    effects = main_effects(SMALL, genotypes, [value(g) for g in genotypes], ridge=1e-9)
    mean = effects.mean["normal"]
    # Ridge without weight takes the solution of least norm: a and b share each edge's contrast.
    assert mean[0, 1] > 0 > mean[0, 2] and mean[1, 2] > 0 > mean[1, 1]
    assert_close(mean[:, 0], torch.zeros(2, dtype=torch.float64))
    assert effects.drawn["normal"][:, 0].sum() == 0
    assert float(mean[0, 1] - mean[0, 2]) > 1.5 * float(mean[1, 2] - mean[1, 1])
    assert effects.explained > 0.9


def test_effects_equal_the_normal_equations_solved_by_another_library():
    """beta minimises |y - X beta|^2 + ridge |beta|^2: a least-squares problem with more rows."""
    genotypes = sample_balanced(SMALL, 12, seed=5)
    rng = random.Random(0)
    scores = [rng.random() for _ in genotypes]
    columns = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    x = np.array([[g.cells["normal"].nodes[0][e].op == op for op, e in columns] for g in genotypes])
    x = x - x.mean(0)
    y = np.argsort(np.argsort(scores)).astype(float)
    y = (y - y.mean()) / y.std()
    rows = np.vstack([x, 3.0**0.5 * np.eye(4)])
    beta = np.linalg.lstsq(rows, np.concatenate([y, np.zeros(4)]), rcond=None)[0]
    effects = main_effects(SMALL, genotypes, scores, ridge=3.0)
    assert_close(effects.mean["normal"][:, 1:].flatten(), torch.from_numpy(beta))


def test_standard_errors_are_those_of_repeated_samples():
    """Over many sets of random scores the effects' spread is what one regression says of it."""
    genotypes = sample_balanced(SMALL, 60, seed=0)
    rng = np.random.default_rng(0)
    found = [main_effects(SMALL, genotypes, rng.random(60).tolist()) for _ in range(400)]
    spread = torch.stack([e.mean["normal"][:, 1:] for e in found]).std(0)
    said = torch.stack([e.standard_error["normal"][:, 1:] for e in found]).mean(0)
    # A standard deviation from 400 samples has a relative error of 1 / sqrt(800) = 3.5 %.
    assert_close(said, spread, rtol=0.15, atol=0)


def test_first_alphas_are_scaled_and_capped():
    genotypes = sample_balanced(SMALL, 40, seed=0)
    effects = main_effects(SMALL, genotypes, [value(g) for g in genotypes])
    logits = effects.logits(cap=1e9)["normal"]
    assert_close(logits[:, 1:].std(), torch.tensor(1.0, dtype=torch.float64))
    assert_close(effects.logits(temperature=2.0, cap=1e9)["normal"], logits / 2)
    assert float(effects.logits(cap=0.5)["normal"].abs().max()) == 0.5
    assert logits[:, 0].tolist() == [0.0, 0.0]  # none, which is not drawn, gets the mean


def test_equal_scores_have_no_effects():
    genotypes = sample_balanced(SMALL, 6, seed=0)
    effects = main_effects(SMALL, genotypes, [1.0] * 6)
    assert all(not mean.any() for mean in effects.mean.values())
    assert all(not logits.any() for logits in effects.logits().values())


def test_the_worst_score_may_be_minus_infinity():
    genotypes = sample_balanced(SMALL, 8, seed=0)
    scores = [value(g) for g in genotypes]
    worst = min(range(8), key=scores.__getitem__)
    finite = main_effects(SMALL, genotypes, [s - 5 * (i == worst) for i, s in enumerate(scores)])
    scores[worst] = -float("inf")
    assert_close(main_effects(SMALL, genotypes, scores).mean, finite.mean)


@pytest.mark.parametrize(("cells", "scores"), [(2, 2), (5, 4)])
def test_too_few_or_unequal_numbers_are_refused(cells: int, scores: int):
    genotypes = sample_balanced(SMALL, cells, seed=0)
    with pytest.raises(ValueError, match=f"got {cells} cells and {scores} scores"):
        main_effects(SMALL, genotypes, [0.0] * scores)
