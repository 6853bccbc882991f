#!/usr/bin/env bash
# PyTorch 2.14.1, on a CPU (seen 2026-11-30).
#
# `F.gumbel_softmax(hard=True)` draws candidates with their probabilities, at any temperature: in float32. Of logits
# in bfloat16, as a supernet cast as a whole has, the earlier of two candidates is drawn more often, and the more so
# the higher the temperature. The maximum is looked for behind the softmax, whose eight bits make many pairs equal
# that were not, and `max` takes the first of equals. `RelaxedOneHotCategorical` does the same, and more, for its noise
# is made of numbers with eight bits too. Float16 has ties too few to see. Nothing is said; samples look right one
# by one. GDAS begins at a temperature of 10 and, as DARTS, has `none` at the head of its list: between eight equal
# candidates the first is drawn 6 % more often than the last, or 10 %: what a difference of alphas of 0.06 does, or 200
# steps of Adam at the usual 3e-4. Noise and maximum in float32, and the maximum before the softmax, are without it.
#
# Output seen (percent of a million draws from eight equal logits, 12.50 each would be right):
#   float32   gumbel_softmax, temperature 10: 12.47 12.50 12.46 12.47 12.54 12.54 12.52 12.50
#   bfloat16  gumbel_softmax, temperature 10: 12.86 12.78 12.63 12.50 12.47 12.37 12.24 12.14
#   bfloat16  gumbel_softmax, temperature  1: 12.53 12.55 12.48 12.47 12.52 12.52 12.48 12.45
#   bfloat16  relaxed categorical, temp.  10: 13.15 12.94 12.74 12.54 12.42 12.21 12.09 11.92
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.distributions import RelaxedOneHotCategorical
from torch.nn.functional import gumbel_softmax

torch.set_num_threads(1)


def relaxed(logits, tau, hard):
    return RelaxedOneHotCategorical(torch.tensor(tau, dtype=logits.dtype), logits=logits).rsample()


def drawn(sample, dtype, tau, draws=1_000_000):
    """Percent of the draws in which each of eight equal candidates is the largest."""
    torch.manual_seed(0)
    chosen = sample(torch.zeros(draws, 8, dtype=dtype), tau=tau, hard=True).argmax(1)
    shares = [100 * n / draws for n in chosen.bincount(minlength=8).tolist()]
    print(f"{dtype} {sample.__name__}, {tau:g}:", *(f"{share:.2f}" for share in shares))
    return shares


for sample in gumbel_softmax, relaxed:
    right, rounded = (drawn(sample, dtype, 10.0) for dtype in (torch.float32, torch.bfloat16))
    assert max(right) - min(right) < 0.25  # the deviation of a share is 0.033
    assert rounded[0] - rounded[-1] > 0.5, "the behaviour has changed"
    assert min(rounded[:4]) > max(rounded[4:]), "the behaviour has changed"
drawn(gumbel_softmax, torch.bfloat16, 1.0)
PYTHON
echo "as described"
