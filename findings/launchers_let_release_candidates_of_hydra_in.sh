#!/usr/bin/env bash
# pip 26.3 (and 23.2.1, 24.3.1, 25.3, 26.0), hydra-joblib-launcher 1.2.0, hydra-core 1.3.8 and 1.4.0rc3 (seen 2026-11-28).
#
# `pip install hydra-core` takes the newest final release. Beside hydra's launcher it takes a release candidate, though
# nobody passed --pre: the launcher requires `hydra-core>=1.1.0.dev7`, and a pre-release in any specifier lets pip take
# pre-releases of that package, also years newer ones. An upper bound of one's own that names no pre-release (`<1.5`) changes
# nothing. `<1.4` does: by PEP 440 it excludes the pre-releases of 1.4 too. Where a project's own requirement is read first,
# as in `pip install project[extra]`, the final release was chosen before the launcher was looked at; the same requirements
# in one list give the candidate.
#
# Output seen: alone 1.3.8, with the launcher 1.4.0rc3, below 1.5 1.4.0rc3, below 1.4 1.3.8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pip==26.3
taken() {  # REQUIREMENT...: the version of hydra-core that pip would install
    "$folder/venv/bin/pip" install --quiet --dry-run --ignore-installed --report "$folder/report" "$@" 2> /dev/null
    "$folder/venv/bin/python" - "$folder/report" <<'PYTHON'
import json
import sys

packages = [item["metadata"] for item in json.load(open(sys.argv[1]))["install"]]
print(next(package["version"] for package in packages if package["name"] == "hydra-core"))
PYTHON
}
launcher=hydra-joblib-launcher==1.2.0
alone=$(taken hydra-core) beside=$(taken "$launcher")
wide=$(taken 'hydra-core<1.5' "$launcher") narrow=$(taken 'hydra-core<1.4' "$launcher")
echo "alone $alone, with the launcher $beside, below 1.5 $wide, below 1.4 $narrow"
is_final() { [[ $1 =~ ^[0-9.]+$ ]]; }
is_final "$alone" && is_final "$narrow" && ! is_final "$beside" && ! is_final "$wide" || { echo "the behaviour has changed"; exit 1; }
echo "as described"
