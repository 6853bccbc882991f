#!/usr/bin/env bash
# jaxtyping 0.3.11 with beartype 0.23.1 (seen 2026-11-30).
#
# The import hook that checks annotated shapes decorates every function of a module, those too that stand in
# other functions. Such a one is made anew at every call of the function around it, so its annotations are
# read, its signature is taken and the checker's code is generated and compiled anew each time, twice: a
# millisecond for a helper of one line, whether it is called or not. A suite of tests under the hook spends
# its time there without anything saying so (a test that drew four thousand cells took six times as long);
# functions at the top of a module are decorated once and cost microseconds.
#
# Output seen:
#   times the checker was applied in 1000 calls: outer function 0, inner function 2000
#   microseconds per call with beartype: without an inner function 11, with one 1052
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jaxtyping==0.3.11 beartype==0.23.1 numpy==2.2.6 2>/dev/null
cd "$folder"
cat > counting.py <<'PYTHON'
applied = []


def checker(function):
    applied.append(function.__qualname__)
    return function
PYTHON
cat > plain.py <<'PYTHON'
def without(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


def with_inner(numbers: list[int]) -> list[int]:
    def double(number: int) -> int:
        return 2 * number

    return [2 * number for number in numbers]
PYTHON
cp plain.py counted.py
"$folder/venv/bin/python" - <<'PYTHON'
import timeit

from jaxtyping import install_import_hook

with install_import_hook("counted", "counting.checker"):
    import counted
with install_import_hook("plain", "beartype.beartype"):
    import plain

from counting import applied

assert counted.with_inner([1, 2]) == plain.with_inner([1, 2]) == [2, 4]
applied.clear()
for _ in range(1000):
    counted.with_inner([1])
# The checker sees a function twice: its parameters, and the whole.
inner = sum("double" in name for name in applied)
outer = len(applied) - inner
print(f"times the checker was applied in 1000 calls: outer function {outer}, inner function {inner}")
times = [min(timeit.repeat(lambda: f([1]), number=300, repeat=3)) / 300 * 1e6
         for f in (plain.without, plain.with_inner)]
print("microseconds per call with beartype: without an inner function %.0f, with one %.0f" % tuple(times))
assert outer == 0 and inner >= 1000, "the behaviour has changed"
assert times[1] > 10 * times[0], "the behaviour has changed"
PYTHON
