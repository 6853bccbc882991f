#!/usr/bin/env bash
# hydra-core 1.3.8 with omegaconf 2.3.1, Python 3.11 (seen 2026-11-28).
#
# `--help` of an application takes seconds once it registers some tens of structured configs, and its time grows with the square of
# their number. Hydra asks its loader for the options of every group several times, each question begins a new caching repository,
# and that one deep-copies all sources, hence the whole ConfigStore with every schema in it. A run asks twice and costs the same
# whatever is registered; `--help` and listings of groups pay. Lazy imports, the usual remedy for a slow help, change nothing.
#
# Output seen (copies of config nodes; the last help takes 4 s of one core, the run beside it 0.2 s):
#   40 groups: run 429, help 17396
#   80 groups: run 509, help 49196
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet hydra-core==1.3.8 omegaconf==2.3.1 2> /dev/null
cat > "$folder/app.py" <<'PYTHON'
import sys
from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

plain, copies = DictConfig.__deepcopy__, []


def counted(self, memo):
    copies.append(0)
    return plain(self, memo)


@dataclass
class Part:
    size: int = 1


DictConfig.__deepcopy__ = counted
store = ConfigStore.instance().store
for i in range(int(sys.argv.pop(1))):
    store(group=f"group{i}", name="one", node=Part)
store(name="main", node={})


@hydra.main(version_base="1.3", config_name="main")
def main(cfg):
    pass


try:
    main()
finally:
    print(len(copies), file=sys.stderr)
PYTHON
cd "$folder"
count() { "$folder/venv/bin/python" app.py "$@" 2>&1 > /dev/null | tail -n 1; }
seen=""
for groups in 40 80; do
    seen+="$groups groups: run $(count $groups), help $(count $groups --help)
"
done
echo -n "$seen"
[ "$seen" = "40 groups: run 429, help 17396
80 groups: run 509, help 49196
" ] || { echo "the behaviour has changed"; exit 1; }
echo "as described"
