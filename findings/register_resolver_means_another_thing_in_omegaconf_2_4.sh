#!/usr/bin/env bash
# omegaconf 2.3.1 and 2.4.1rc1, Python 3.11 and 3.13 (seen 2026-11-28).
#
# `OmegaConf.register_resolver` is the name of two different functions. In 2.3.1 it is a deprecated one of years ago: a resolver
# gets the text of its arguments, an interpolation among them is an error, and each result is kept. In 2.4 it is what
# `register_new_resolver` was: arguments have types, interpolations are resolved, nothing is kept; and `register_new_resolver`, which
# 2.3.1 recommends, is the deprecated one. So a program in the old way gets other numbers from 2.4 and no word of it, and one that
# follows the advice of either version is warned, or wrong, in the other. The keyword `annotation_validation`, and nothing in
# the name, tells them apart.
#
# Output seen: 2.3.1 gives '33', an error, 1 and 1 with a warning; 2.4.1rc1 gives 6, 6, 1 and 2 without any
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
seen() {  # VERSION: what resolvers of that version give, and how many warnings registering them gave
    "$folder/venv/bin/pip" install --quiet omegaconf=="$1" 2> /dev/null
    "$folder/venv/bin/python" - <<'PYTHON'
import warnings

from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

calls = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    OmegaConf.register_resolver("double", lambda width: width * 2)
    OmegaConf.register_resolver("draw", lambda: calls.append(0) or len(calls))
cfg = OmegaConf.create(
    {"width": 3, "direct": "${double:3}", "nested": "${double:${width}}", "first": "${draw:}", "second": "${draw:}"}
)
found = []
for key in ("direct", "nested", "first", "second"):
    try:
        found.append(repr(cfg[key]))
    except InterpolationResolutionError:
        found.append("error")
print(*found, "warnings:", len(caught))
PYTHON
}
old=$(seen 2.3.1) new=$(seen 2.4.1rc1)
echo "2.3.1: $old"
echo "2.4.1rc1: $new"
[ "$old" = "'33' error 1 1 warnings: 2" ] && [ "$new" = "6 6 1 2 warnings: 0" ] || { echo "the behaviour has changed"; exit 1; }
echo "as described"
