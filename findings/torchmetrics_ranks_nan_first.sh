#!/usr/bin/env bash
# torchmetrics 1.9.0 with torch 2.15.0, scipy 1.17.1 (seen 2026-11-30; with torch 2.14.1 the same).
#
# A score of an untrained network may be NaN, and one would guess that a rank correlation of such scores is NaN, as
# scipy's is, or an error. torchmetrics gives a number, and says nothing. `spearman_corrcoef` sorts NaN behind
# everything else, so a candidate without a score is the best of all; two of them are not tied, but ranked in
# their order in the list: the same pairs in another order have another correlation. `kendall_rank_corrcoef`
# takes a pair with a NaN for neither concordant nor discordant nor tied, so that it still counts in the
# denominator: a NaN draws it towards 0 wherever the candidate belongs. With NaN in the accuracies instead of the
# scores it is the same; pairs without NaN have scipy's values in both, ties included.
#
# Output seen (five candidates in perfect order, the sixth, NaN, is the best or the worst; scipy: nan in all of them):
#   the best: Spearman 1.0000, Kendall 0.6667    the worst: Spearman 0.1429, Kendall 0.6667
#   two NaN, all 720 orders of the same pairs: Spearman -0.4286 or -0.3714, Kendall 0.4000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchmetrics==1.9.0 torch==2.15.0 numpy==2.4.6 scipy==1.17.1 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import itertools
import math

import torch
from scipy.stats import kendalltau, spearmanr
from torchmetrics.functional import kendall_rank_corrcoef, spearman_corrcoef

torch.set_num_threads(1)


def correlations(scores, accuracies):
    return [round(f(scores, accuracies).item(), 4) for f in (spearman_corrcoef, kendall_rank_corrcoef)]


def of_scipy(scores, accuracies):
    return [float(f(scores.numpy(), accuracies.numpy())[0]) for f in (spearmanr, kendalltau)]


generator = torch.Generator().manual_seed(0)
for levels in (3, 50):  # with many ties and with few
    scores, noise = torch.randint(levels, (2, 40), generator=generator).float()
    found, expected = correlations(scores, scores + noise), of_scipy(scores, scores + noise)
    print(f"no NaN: torchmetrics {found}, scipy {expected}")
    assert all(math.isclose(a, b, abs_tol=2e-4) for a, b in zip(found, expected, strict=True))

scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, math.nan])
for name, last, seen in (("best", 6.0, [1.0, 0.6667]), ("worst", 0.0, [0.1429, 0.6667])):
    accuracies = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, last])
    found, swapped, expected = correlations(scores, accuracies), correlations(accuracies, scores), of_scipy(scores, accuracies)
    print(f"NaN is the {name}: torchmetrics {found}, the other way round {swapped}, scipy {expected}")
    assert all(map(math.isnan, expected))
    assert found == swapped == seen, "the behaviour has changed"

scores = torch.tensor([1.0, 2.0, 3.0, 4.0, math.nan, math.nan])
accuracies = torch.tensor([3.0, 4.0, 5.0, 6.0, 1.0, 2.0])
orders = [list(order) for order in itertools.permutations(range(6))]
found = {tuple(correlations(scores[order], accuracies[order])) for order in orders}
print(f"two NaN, {len(orders)} orders: {sorted(found)}")
assert found == {(-0.4286, 0.4), (-0.3714, 0.4)}, "the behaviour has changed"
PYTHON
echo "as described"
