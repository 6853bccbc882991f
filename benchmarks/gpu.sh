#!/usr/bin/env bash
# Everything that wants a GPU, in one go: the marked tests, a whole search and a retraining, and the
# step times. Needs a Python with this package's dependencies: benchmarks/gpu.sh [FOLDER] (default:
# outputs/gpu), with PYTHON=... to choose one.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-outputs/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
{
  "$python" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())'
  "$python" -m pytest -m gpu
  "$python" -m benchmarks scaling --device cuda --batch 64 \
    --ranks $("$python" -c 'import torch; print(*sorted({1, torch.cuda.device_count()}))')
  "$python" -m benchmarks kernels --device cuda --batch 64
  "$python" -m benchmarks ntk --device cuda --large --out "$out/ntk.json"
  for precision in fp32 bf16; do
    "$python" -m benchmarks search_step --device cuda --precision "$precision" \
      --batches 16 64 --repeats 10 \
      --out "$out/search_step_$precision.json"
    "$python" -m benchmarks retrain_step --device cuda --precision "$precision" \
      --layers 20 --batch 96 --repeats 10 \
      --out "$out/retrain_step_$precision.json"
  done
  "$python" search.py device=cuda "run_dir=$out/search" resume=auto
  "$python" train.py device=cuda "genotype=$out/search" "run_dir=$out/train" resume=auto
  for program in search_step retrain_step; do  # last: compiling takes minutes
    "$python" -m benchmarks "$program" --device cuda --layers 3 --repeats 10 \
      --compile inductor cuda_graphs --out "$out/${program}_compiled.json"
  done
} 2>&1 | tee "$out/log.txt"
