#!/usr/bin/env bash
# run.sh oldest|newest|next PYTHON [ARGS of pytest]: this project's tests with other versions of what it needs, in an
# environment under a temporary folder that is gone afterwards (6 GB where torch's wheel brings CUDA).
#   oldest  the lowest version that pyproject.toml allows of each run-time dependency, and of onnx and the launcher
#   newest  the newest version that it allows of everything, also of the tools
#   next    newest, with hydra-core's and omegaconf's pre-releases, which pyproject.toml keeps out
# Without ARGS: what versions can break soonest. All tests: ARGS=tests. KEEP=FOLDER puts the environment there, to be used again.
set -euo pipefail
end=$1 python=$2
shift 2
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
place=${KEEP:-$folder/venv}
"$python" -m venv "$folder/uv"
"$folder/uv/bin/python" -m pip install --quiet uv
uv() { "$folder/uv/bin/uv" "$@"; }
export UV_CACHE_DIR=${UV_CACHE_DIR:-$folder/cache} UV_PYTHON=$place/bin/python
case $end in
    oldest)
        echo 'pyparsing<3.3' > "$folder/limits"  # later ones deprecate what the lowest matplotlib calls
        uv pip compile --quiet --python "$python" --resolution lowest-direct --extra export --extra slurm --constraint "$folder/limits" \
            -o "$folder/versions" pyproject.toml
        ways=(--constraint "$folder/versions") ;;
    newest) ways=() ;;
    next)
        printf 'hydra-core>=1.4.0rc1\nomegaconf>=2.4.1rc1\n' > "$folder/versions"
        ways=(--override "$folder/versions") ;;
    *) echo "run.sh: oldest, newest or next, not $end" >&2; exit 2 ;;
esac
[ -d "$place" ] || uv venv --quiet --python "$python" "$place"
uv pip install --quiet "${ways[@]}" '.[dev,slurm]' pip  # which the tests of packaging ask for
uv pip list 2> /dev/null | grep -E '^(torch|torchvision|numpy|pillow|pyyaml|hydra-[a-z-]*|omegaconf|jaxtyping|matplotlib|scikit-learn|scipy|submitit|tensorboard|tqdm|onnx[a-z]*) '
# An old release meets newer ones of what it needs itself, and then warns about others; this project's warnings stay errors.
warnings=$'filterwarnings=default\nerror:::darts_gdas'
# Deprecated there, while the versions that pyproject.toml allows have no other way.
[ "$end" = next ] && warnings+=$'\nignore:register_new_resolver\nignore:The version_base parameter\nignore:ConfigStore config'
[ "$end" = newest ] || set -- -o "$warnings" "$@"
soonest="tests/test_config.py tests/test_extend.py tests/cli tests/ntk/test_kernel.py tests/nets/test_supernet.py tests/report tests/portable
    tests/runtime/test_checkpoint.py tests/runtime/test_datasets.py tests/runtime/test_folder.py"
"$UV_PYTHON" -m pytest -q -o "testpaths=$soonest" "$@"  # pytest itself knows whether ARGS name tests
