// Sums over pixels, and over edges.
#pragma once
#include "common.h"

namespace {

// totals [2][channels] += sums over pixels of left, and of left times right: vectors by their position.
template <class T, int BYTES, class Left, class Right>
void add_sums(const Left& left, const Right& right, double* totals, int64_t c, int64_t pixels) {
  constexpr int CHAINS = 4;  // at a time, that none waits for the one before
  for (int64_t b = 0; b < c; b += LANES)
    for (int64_t p = 0; p < pixels; p += RUN) {
      const int64_t end = std::min(p + RUN, pixels);
      VECTOR sums[CHAINS] = {}, products[CHAINS] = {};
      int64_t q = p;
      for (; q + CHAINS <= end; q += CHAINS)
        for (int k = 0; k < CHAINS; ++k) {
          const VECTOR value = left((q + k) * c + b, b);
          sums[k] += value;
          products[k] = FUSED(value, right((q + k) * c + b, b), products[k]);
        }
      for (; q < end; ++q) {
        const VECTOR value = left(q * c + b, b);
        sums[0] += value;
        products[0] = FUSED(value, right(q * c + b, b), products[0]);
      }
      for (int k = 1; k < CHAINS; ++k) sums[0] += sums[k], products[0] += products[k];
      for (int l = 0; l < LANES; ++l) totals[b + l] += sums[0][l], totals[c + b + l] += products[0][l];
    }
}

// <left, right>
template <class T, int BYTES>
double inner(const T* left, const T* right, int64_t count) {
  double total = 0;
  for (int64_t i = 0; i < count; i += 64 * LANES) {
    VECTOR sum = {};
    for (int64_t j = i; j < std::min(i + 64 * LANES, count); j += LANES)
      sum = FUSED(LOAD(left + j), LOAD(right + j), sum);
    for (int l = 0; l < LANES; ++l) total += sum[l];
  }
  return total;
}

// The numbers [first, last) of the gradient of a summand that edges share: the sum of what reaches them, by
// its weights on each.
template <class T, int BYTES>
void weighted_total(
    const T* const* upstream, const T* weights, int64_t edges, T* to, int64_t first, int64_t last) {
  for (int64_t q = first; q < last; q += LANES) {
    VECTOR sum = LOAD(upstream[0] + q) * weights[0];
    for (int64_t e = 1; e < edges; ++e) sum = FUSED(LOAD(upstream[e] + q), ALL(weights[e]), sum);
    STORE(to + q, sum);
  }
}

}  // namespace
