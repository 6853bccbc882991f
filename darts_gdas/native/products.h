// Products of matrices, with rows of channels at pixels: into rows, and summed over pixels.
#pragma once
#include "common.h"

namespace {

// What is added to a pixel's row: `width` numbers that lie `step` from those of the pixel before, times a matrix
// [width][outputs].
template <class T>
struct Term {
  const T* rows;
  int64_t width, step;
  const T* matrix;
};

// What is added to a row: a row of outputs times a number.
template <class T>
struct Feature {
  const T* rows;
  T factor;
};

// Rows that are written, `step` apart, with a bias each.
template <class T>
struct Rows {
  T* first;
  int64_t outputs, step;
  const T* bias;
};

template <class T, int BYTES, int PIXELS, int BLOCKS>
inline void affine_block(
    const Rows<T>& y, const std::vector<Term<T>>& terms, const std::vector<Feature<T>>& features, int64_t pixel,
    int64_t o) {
  VECTOR sums[PIXELS][BLOCKS];
  for (int v = 0; v < BLOCKS; ++v)
    for (int p = 0; p < PIXELS; ++p) sums[p][v] = LOAD(y.bias + o + v * LANES);
  for (const auto& term : terms) {
    const T *x = term.rows + pixel * term.step, *matrix = term.matrix + o;
    const int64_t width = term.width, step = term.step;
    for (int64_t c = 0; c < width; ++c, matrix += y.outputs) {
      VECTOR row[BLOCKS];
      for (int v = 0; v < BLOCKS; ++v) row[v] = LOAD(matrix + v * LANES);
      for (int p = 0; p < PIXELS; ++p)
        for (int v = 0; v < BLOCKS; ++v) sums[p][v] = FUSED(ALL(x[p * step + c]), row[v], sums[p][v]);
    }
  }
  for (const auto& feature : features)
    for (int p = 0; p < PIXELS; ++p)
      for (int v = 0; v < BLOCKS; ++v)
        sums[p][v] =
            FUSED(LOAD(feature.rows + (pixel + p) * y.outputs + o + v * LANES), ALL(feature.factor), sums[p][v]);
  for (int p = 0; p < PIXELS; ++p)
    for (int v = 0; v < BLOCKS; ++v) STORE(y.first + (pixel + p) * y.step + o + v * LANES, sums[p][v]);
}

template <class T, int BYTES, int PIXELS>
inline void affine_pixels(
    const Rows<T>& y, const std::vector<Term<T>>& terms, const std::vector<Feature<T>>& features, int64_t pixel) {
  int64_t o = 0;
  for (; o + 2 * LANES <= y.outputs; o += 2 * LANES)
    affine_block<T, BYTES, PIXELS, 2>(y, terms, features, pixel, o);
  for (; o < y.outputs; o += LANES) affine_block<T, BYTES, PIXELS, 1>(y, terms, features, pixel, o);
}

// y = bias + sum of terms + sum of features, for the pixels [first, last)
template <class T, int BYTES>
void affine(
    const Rows<T>& y, const std::vector<Term<T>>& terms, const std::vector<Feature<T>>& features, int64_t first,
    int64_t last) {
  int64_t pixel = first;
  for (; pixel + 6 <= last && pixel + 8 != last; pixel += 6) affine_pixels<T, BYTES, 6>(y, terms, features, pixel);
  for (; pixel + 4 <= last; pixel += 4) affine_pixels<T, BYTES, 4>(y, terms, features, pixel);
  for (; pixel < last; ++pixel) affine_pixels<T, BYTES, 1>(y, terms, features, pixel);
}

// Rows of a matrix, `step` apart, of which the columns are summed.
template <class T>
struct Side {
  const T* first;
  int64_t width, step;
};

// total, of rows `apart`, = or += sum over pixels of left(p)_i right(p)_j, of ROWS numbers and WIDE vectors.
template <class T, int BYTES, int ROWS, int WIDE>
inline void outer_block(
    const Side<T>& left, const Side<T>& right, T* total, int64_t apart, int64_t pixels, int64_t i, int64_t j, bool add) {
  const T *v = left.first + i, *g = right.first + j;
  const int64_t step = left.step, across = right.step;
  total += i * apart + j;
  for (int r = 0; r < ROWS; ++r) __builtin_prefetch(total + r * apart, 1);
  VECTOR sums[ROWS][WIDE] = {};
  for (int64_t p = 0; p < pixels; ++p) {
    VECTOR by[WIDE];
    for (int w = 0; w < WIDE; ++w) by[w] = LOAD(g + p * across + w * LANES);
    for (int r = 0; r < ROWS; ++r)
      for (int w = 0; w < WIDE; ++w) sums[r][w] = FUSED(ALL(v[p * step + r]), by[w], sums[r][w]);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int w = 0; w < WIDE; ++w) {
      T* to = total + r * apart + w * LANES;
      STORE(to, add ? LOAD(to) + sums[r][w] : sums[r][w]);
    }
}

// The same of all numbers of both sides, a multiple of four of the left.
template <class T, int BYTES, int WIDE>
void outers(const Side<T>& left, const Side<T>& right, T* total, int64_t apart, int64_t pixels, bool add) {
  for (int64_t o = 0; o < right.width; o += WIDE * LANES) {
    int64_t c = 0;
    const auto rows = [&](auto count) {
      outer_block<T, BYTES, count, WIDE>(left, right, total, apart, pixels, c, o, add);
      c += count;
    };
    while (WIDE == 1 && c + 12 <= left.width) rows(std::integral_constant<int, 12>());
    while (c + 6 <= left.width && left.width - c != 8) rows(std::integral_constant<int, 6>());
    while (c < left.width) rows(std::integral_constant<int, 4>());
  }
}

}  // namespace
