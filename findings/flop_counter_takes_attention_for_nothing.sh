#!/usr/bin/env bash
# PyTorch 2.14.1, on a CPU (seen 2026-11-29).
#
# torch.utils.flop_counter.FlopCounterMode has formulas for what attention and recurrent layers run on a
# GPU, and none for what the same modules run on a CPU: operations without a formula are zero and nobody says so.
# Which operation a module takes depends on more than its sizes, so one module has several costs:
#   - scaled_dot_product_attention: 0, forwards and backwards, in any format; with dropout, with the backend
#     MATH, or on the device meta it is taken apart, and all is counted;
#   - nn.MultiheadAttention: the projections alone; with need_weights=True also the attention; in evaluation
#     without gradients one fused operation, and 0 in all;
#   - nn.TransformerEncoderLayer: the linear layers alone; in evaluation without gradients 0 in all;
#   - nn.LSTM: 0, nn.GRU of the same sizes: all of it; on the device meta both are counted.
# A search that ranks candidates by such counts takes an attention candidate for a skip connection. Counting
# on the device meta is right in every one of these cases.
#
# Output seen, multiply-adds in pairs (images of 64 tokens, 32 numbers each, 4 heads, a batch of 2):
#   attention 0, with dropout 524288, on meta 524288; MultiheadAttention 524288, with weights 1048576, evaluated 0, on
#   meta 1048576; TransformerEncoderLayer 1048576, evaluated 0, on meta 1572864; LSTM 0, on meta 393216; GRU 294912
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6 2> /dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore")
batch, tokens, width, heads = 2, 64, 32, 4
x = torch.randn(batch, tokens, width)
q = torch.randn(batch, heads, tokens, width // heads)
products = 2 * batch * tokens**2 * width  # of an attention's two
projections = 4 * batch * tokens * width**2
feed_forward = 2 * batch * tokens * width * 64


def count(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2


def attend(q, **settings):
    return F.scaled_dot_product_attention(q, q, q, **settings)


def backwards():
    attend(q.clone().requires_grad_()).sum().backward()


found = {"attention": count(lambda: attend(q)), "backwards": count(backwards)}
found["double"] = count(lambda: attend(q.double()))
assert not any(found.values()), found
assert count(lambda: attend(q, dropout_p=0.1)) == products
assert count(lambda: attend(q.to("meta"))) == products

module = nn.MultiheadAttention(width, heads, batch_first=True)
found["multihead"] = count(lambda: module(x, x, x, need_weights=False))
found["multihead, weights"] = count(lambda: module(x, x, x))
assert found["multihead"] == projections, found
assert found["multihead, weights"] == projections + products, found
layer = nn.TransformerEncoderLayer(width, heads, 64, batch_first=True, dropout=0.0)
found["layer"] = count(lambda: layer(x))
assert found["layer"] == projections + feed_forward, found
with torch.no_grad():
    module.eval(), layer.eval()
    found["multihead, evaluated"] = count(lambda: module(x, x, x, need_weights=False))
    found["layer, evaluated"] = count(lambda: layer(x))
    assert not found["multihead, evaluated"] and not found["layer, evaluated"], found
    y = x.to("meta")
    module.to("meta"), layer.to("meta")
    found["multihead, meta"] = count(lambda: module(y, y, y, need_weights=False))
    found["layer, meta"] = count(lambda: layer(y))
    assert found["multihead, meta"] == projections + products, found
    assert found["layer, meta"] == projections + products + feed_forward, found

steps = batch * tokens * (width * 16 + 16 * 16)  # of one gate
lstm, gru = nn.LSTM(width, 16, batch_first=True), nn.GRU(width, 16, batch_first=True)
found["LSTM"], found["GRU"] = count(lambda: lstm(x)), count(lambda: gru(x))
lstm.to("meta")
found["LSTM, meta"] = count(lambda: lstm(y))
assert found["LSTM"] == 0 and found["LSTM, meta"] == 4 * steps and found["GRU"] == 3 * steps, found
print(found)
PYTHON
echo "the counter still takes attention and LSTM for nothing on a CPU"
