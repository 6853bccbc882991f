#!/usr/bin/env bash
# hydra-submitit-launcher 1.2.0 and submitit 1.5.4 with hydra-core 1.3.8 (seen 2026-11-28).
#
# `hydra/launcher=submitit_local` sets CUDA_VISIBLE_DEVICES anew in every job and does not look at the value that
# the sweep itself was started with. Without `gpus_per_node` it is empty, so no job sees a GPU and whatever falls back to the
# CPU does so in silence. With `gpus_per_node=1` it is 0 in every job, also of those that run at the same time, and also
# where the sweep was given other GPUs: a user who holds 4 and 5 of a shared machine computes on somebody else's GPU 0.
#
# Output seen: started with 4,5: '' and ''; with gpus_per_node=1: '0' and '0'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hydra-core==1.3.8 omegaconf==2.3.1 hydra-submitit-launcher==1.2.0 submitit==1.5.4
cat > "$folder/app.py" <<'PYTHON'
import os
from pathlib import Path

import hydra


@hydra.main(version_base="1.3", config_path=None, config_name=None)
def main(cfg):
    Path(os.environ["SEEN"], str(cfg.x)).write_text(repr(os.environ.get("CUDA_VISIBLE_DEVICES")) + "\n")


if __name__ == "__main__":
    main()
PYTHON
cd "$folder"
seen() {  # NAME SETTING...: what two jobs that run side by side see
    mkdir "$1"
    CUDA_VISIBLE_DEVICES=4,5 SEEN="$folder/$1" "$folder/venv/bin/python" app.py -m hydra/launcher=submitit_local \
        "hydra.sweep.dir=$1_sweep" +x=1,2 "${@:2}" > "$1.log" 2>&1 || { tail -5 "$1.log"; exit 1; }
    cat "$1"/* | tr '\n' ' '
}
unasked=$(seen unasked)
one=$(seen one hydra.launcher.gpus_per_node=1)
echo "started with 4,5: $unasked; with gpus_per_node=1: $one"
[ "$unasked" = "'' '' " ] && [ "$one" = "'0' '0' " ] || { echo "the behaviour has changed"; exit 1; }
echo "as described"
