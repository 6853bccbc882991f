#!/usr/bin/env bash
# Everything that wants a GPU, in one go: the marked tests, the step times, the kernels, a whole search
# and a retraining. Needs a Python with this package's dependencies: benchmarks/gpu.sh [FOLDER]
# (default: outputs/gpu), with PYTHON=... to choose one. Started again with the same folder it goes on
# after the last part that ended well, so it can be stopped at any time; a part that fails does not
# keep the others from running. PART_SECONDS (default 900) bounds each.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-outputs/gpu}
python=${PYTHON:-python3}
failed=0
mkdir -p "$out"

part() { # NAME COMMAND...: run it once; its output goes to NAME.txt, NAME.done says that it ended well
  local name=$1 start=$SECONDS
  shift
  [ -e "$out/$name.done" ] && return
  echo "== $name: $*" | sed "s|$python|python|"
  if timeout "${PART_SECONDS:-900}" "$@" 2>&1 | tee "$out/$name.txt"; then
    touch "$out/$name.done"
  else
    failed=1
    echo "== $name failed"
  fi
  echo "== $name: $((SECONDS - start)) s"
}

benchmark() { # NAME ARGUMENT...
  local name=$1
  shift
  part "$name" "$python" -m benchmarks "$@"
}

part machine "$python" -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())'
part tests "$python" -m pytest -m gpu
benchmark kernels kernels --device cuda --batch 64
benchmark launches launches
for precision in fp32 bf16; do
  benchmark "retrain_step_$precision" retrain_step --device cuda --precision "$precision" \
    --layers 20 --batch 96 --repeats 10 --out "$out/retrain_step_$precision.json"
done
benchmark scaling scaling --device cuda --batch 64 \
  --ranks $("$python" -c 'import torch; print(*sorted({1, torch.cuda.device_count()}))')
part search "$python" search.py device=cuda "run_dir=$out/search" resume=auto
part train "$python" train.py device=cuda "genotype=$out/search" "run_dir=$out/train" resume=auto
for precision in fp32 bf16; do
  benchmark "search_step_$precision" search_step --device cuda --precision "$precision" \
    --batches 16 64 --repeats 10 --out "$out/search_step_$precision.json"
done
for program in search_step retrain_step; do # compiling takes minutes
  benchmark "${program}_compiled" "$program" --device cuda --layers 3 --repeats 10 \
    --compile inductor cuda_graphs --out "$out/${program}_compiled.json"
done
benchmark ntk ntk --device cuda --large --out "$out/ntk.json"
exit $failed
