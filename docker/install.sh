#!/bin/sh
# Installs the repository that this script lies in, with the extra `slurm`, into a new environment:
#     docker/install.sh VENV [TORCH_INDEX]
# The image's build step; it needs no Docker. TORCH_INDEX is the package index for torch and
# torchvision, where it is not to be pip's own.
set -eu
cd "$(dirname "$0")/.."
venv=$1 index=${2:-}
python3 -m venv "$venv"
if [ -n "$index" ]; then
    "$venv/bin/pip" install --no-cache-dir -c constraints.txt --index-url "$index" torch torchvision
fi
"$venv/bin/pip" install --no-cache-dir -c constraints.txt --editable '.[slurm]'
"$venv/bin/python" -c 'import darts_gdas, submitit, torch; print("torch", torch.__version__)'
