#!/usr/bin/env bash
# GCC 12.2.0 (Debian 12), x86-64 with AVX-512 or AVX2 (seen 2026-11-29).
#
# A dot product, beside which a row is copied, has other last bits where the copy goes to memory that
# lies right behind the row: not over it, so all arguments are legal and all inputs are the same. What
# writes may not touch what it reads, so `-O3` makes two loops and asks at run time how far the arrays are apart.
# In one the products are vectors and the sums, whose order is kept, are not; in the other products
# are contracted with sums (`-ffp-contract=fast` is GCC's default, with `-mfma` there is something to
# contract to). Which one runs is asked for whole vectors, more than short arrays have, so a heap that gives
# a temporary a place a few bytes further away changes the result: the same net, pass after pass, was
# equal but for rounding, now and then. `-ffp-contract=off`, or `fma` where one is wanted, has one sum for all.
# (TorchInductor of torch 2.14.1 compiles its C++ with contraction off.)
#
# Output seen: of 200 random rows of n doubles, copied to memory that begins `gap` numbers behind the
# row's end, 40 to 62 have another sum where n + gap < 8 and n >= 4 (`-mavx512f -mavx512dq -mavx512vl
# -mfma`), or n + gap < 4 and n >= 2 (`-mavx2 -mfma`); none elsewhere, and none with `-ffp-contract=off`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
found=$(gcc -dumpfullversion)
[ "$found" = 12.2.0 ] || { echo "this is about GCC 12.2.0, here is $found"; exit 1; }
cat > "$folder/copied.c" <<'C'
double copied_dot(double *copy, const double *row, const double *weights, long n) {
  double sum = 0;
  for (long i = 0; i < n; ++i) {
    copy[i] = row[i];
    sum += row[i] * weights[i];
  }
  return sum;
}
C
cat > "$folder/main.c" <<'C'
#include <stdio.h>
#include <stdlib.h>

double copied_dot(double *copy, const double *row, const double *weights, long n);

int main(void) {
  static double memory[128] __attribute__((aligned(64)));
  for (long n = 2; n <= 16; ++n) {
    long differ[33] = {0};
    srand(0);
    for (int trial = 0; trial < 200; ++trial) {
      double weights[16];
      for (long i = 0; i < n; ++i) memory[i] = rand() / 1e9 - 1, weights[i] = rand() / 1e9 - 1;
      double far = copied_dot(memory + n + 64, memory, weights, n);
      for (long gap = 0; gap <= 32; ++gap)
        differ[gap] += copied_dot(memory + n + gap, memory, weights, n) != far;
    }
    for (long gap = 0; gap <= 32; ++gap)
      if (differ[gap]) printf("n=%ld gap=%ld: %s\n", n, gap, differ[gap] > 20 ? "many" : "few");
  }
  return 0;
}
C
seen() {
  gcc -O3 "$@" -c "$folder/copied.c" -o "$folder/copied.o"
  gcc -O1 "$folder/main.c" "$folder/copied.o" -o "$folder/main"
  "$folder/main"
}
AVX2=$(printf '%s\n' "n=2 gap=0: many" "n=2 gap=1: many" "n=3 gap=0: many")
AVX512=$(for n in 4 5 6 7; do for gap in 0 1 2 3; do
  if ((n + gap < 8)); then echo "n=$n gap=$gap: many"; fi
done; done)
[ "$(seen -mavx2 -mfma)" = "$AVX2" ]
[ -z "$(seen -mavx2 -mfma -ffp-contract=off)" ]
if grep -q avx512dq /proc/cpuinfo; then
  [ "$(seen -mavx512f -mavx512dq -mavx512vl -mfma)" = "$AVX512" ]
  [ -z "$(seen -mavx512f -mavx512dq -mavx512vl -mfma -ffp-contract=off)" ]
fi
echo "a dot product still depends on where an array of no concern to it lies"
