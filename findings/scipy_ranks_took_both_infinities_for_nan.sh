#!/usr/bin/env bash
# scipy 1.13.1 and 1.14.1, with numpy 1.26.4 (seen 2026-11-28; 1.11.1 and 1.12.0 as 1.13.1, and `rankdata` too).
#
# Up to scipy 1.13 a rank correlation is NaN (numpy warns of an invalid value in a sum) of values among which are both inf and -inf: the
# test for NaN adds them up, and inf - inf is NaN. The order of such values is well defined, and scores of
# untrained networks are such values: -inf for a network that is broken, inf for one that is regular. One
# infinity alone, or `weightedtau` and `somersd`, give the value of any finite numbers in the same order. In
# 1.12 and before `rankdata` gives NaN for every item, also for those that are finite. From 1.14 on all are right.
#
# Output seen (Kendall's tau and Spearman's rho of (inf, -inf, 1, 2) and (1, 2, 3, 4)):
#   scipy 1.13.1: nan nan of (9, -9, 1, 2) instead: 0.0 -0.2
#   scipy 1.14.1: 0.0 -0.2 of (9, -9, 1, 2) instead: 0.0 -0.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 1.13.1 1.14.1; do
    "$folder/venv/bin/pip" install --quiet scipy==$version numpy==1.26.4 2> /dev/null
    "$folder/venv/bin/python" - <<'PYTHON'
import math

import scipy
from scipy.stats import kendalltau, spearmanr, somersd, weightedtau

reference, inf = [1, 2, 3, 4], math.inf


def both(values):
    return [round(float(f(values, reference).statistic), 12) for f in (kendalltau, spearmanr)]


infinite, finite = both([inf, -inf, 1, 2]), both([9, -9, 1, 2])
print(f"scipy {scipy.__version__}:", *infinite, "of (9, -9, 1, 2) instead:", *finite)
assert finite == [0.0, -0.2] and both([inf, -9, 1, 2]) == finite
for function in (somersd, weightedtau):
    assert function([inf, -inf, 1, 2], reference).statistic == function([9, -9, 1, 2], reference).statistic
if scipy.__version__ == "1.13.1":
    assert all(map(math.isnan, infinite)), "the behaviour has changed"
else:
    assert infinite == finite, "the behaviour has changed"
PYTHON
done
echo "as described"
