// Images normalised by their batch, as they are or after pooling of 3x3 pixels, padded by one.
//
// A window is pooled row by row, each of which serves up to three windows. The pooled images are
// normalised in place and not kept: the gradient takes the normalised ones, and of a largest pixel which
// of the nine it was. Sums over pixels are as in pointwise.cpp: of differences from a row, in double from
// some hundred pixels on, in parts that do not depend on the number of threads.
#include "pooling.h"

namespace {

// Of several numbers their sum, or the largest and where it was: the first of equals, and the last one
// that is no number, as torch has it.
template <class T, int BYTES, Taken TAKEN>
struct Met {
  VECTOR value;
  TAP where;
  void meet(VECTOR other, TAP there) {
    if constexpr (TAKEN == LARGEST) {
      const TAP take = (other > value) | (other != other);
      value = take ? other : value;
      const TAP later = take & there;  // which is above all before it
      where = later > where ? later : where;
    } else {
      value += other;
    }
  }
};

// Pools images one after the other, with the pooled rows of the three pixels above each other at hand.
template <class T, int BYTES, Taken TAKEN>
class Pooling {
 public:
  explicit Pooling(const Geometry& z) : z(z), rows(TAKEN == PIXEL ? 0 : 3 * z.out_row()), places(TAKEN == LARGEST ? 4 * z.out_row() : 0) {}

  void image(const T* x, T* y, uint8_t* taps) {
    if (TAKEN == PIXEL) {
      std::copy_n(x, z.image(), y);
      return;
    }
    int64_t ready = 0;
    for (int64_t r = 0; r < z.out_height; ++r) {
      const Inside inside(r, z.stride, z.height);
      for (; ready < r * z.stride - 1 + inside.last; ++ready) across(x + ready * z.row(), ready % 3);
      const int64_t top = r * z.stride - 1 + inside.first;
      switch (inside.count()) {
        case 1: down<1>(top, inside.first, y + r * z.out_row(), taps + r * z.out_row()); break;
        case 2: down<2>(top, inside.first, y + r * z.out_row(), taps + r * z.out_row()); break;
        case 3: down<3>(top, inside.first, y + r * z.out_row(), taps + r * z.out_row()); break;
      }
    }
  }

 private:
  const Geometry& z;
  std::vector<T> rows;
  std::vector<Whole<T>> places;  // of the three rows, then of a row of windows

  void across(const T* x, int64_t slot) {
    for (int64_t q = 0; q < z.out_width; ++q) {
      const Inside inside(q, z.stride, z.width);
      const T* from = x + (q * z.stride - 1 + inside.first) * z.channels;
      const int64_t to = slot * z.out_row() + q * z.channels;
      switch (inside.count()) {
        case 1: pixel<1>(from, inside.first, to); break;
        case 2: pixel<2>(from, inside.first, to); break;
        case 3: pixel<3>(from, inside.first, to); break;
      }
    }
  }

  template <int COUNT>
  void pixel(const T* from, int64_t first, int64_t to) {
    for (int64_t b = 0; b < z.channels; b += LANES) {
      Met<T, BYTES, TAKEN> met{LOAD(from + b), TAP{} + Whole<T>(first)};
      for (int j = 1; j < COUNT; ++j) met.meet(LOAD(from + j * z.channels + b), TAP{} + Whole<T>(first + j));
      STORE(&rows[to + b], met.value);
      if constexpr (TAKEN == LARGEST) STORE_TAP(&places[to + b], met.where);
    }
  }

  template <int COUNT>
  void down(int64_t top, int64_t first, T* y, uint8_t* taps) {
    int64_t from[COUNT];
    for (int i = 0; i < COUNT; ++i) from[i] = (top + i) % 3 * z.out_row();
    const auto place = [&](int i, int64_t e) {
      return TAKEN == LARGEST ? LOAD_TAP(&places[from[i] + e]) + Whole<T>(3 * (first + i)) : TAP{};
    };
    for (int64_t q = 0; q < z.out_width; ++q) {
      const T count = T(COUNT * Inside(q, z.stride, z.width).count());
      for (int64_t e = q * z.channels; e < (q + 1) * z.channels; e += LANES) {
        Met<T, BYTES, TAKEN> met{LOAD(&rows[from[0] + e]), place(0, e)};
        for (int i = 1; i < COUNT; ++i) met.meet(LOAD(&rows[from[i] + e]), place(i, e));
        STORE(y + e, TAKEN == LARGEST ? met.value : met.value / count);
        if constexpr (TAKEN == LARGEST) STORE_TAP(&places[3 * z.out_row() + e], met.where);
      }
    }
    if (TAKEN == LARGEST) convert(&places[3 * z.out_row()], taps, z.out_row());
  }
};

// Where numbers of `y` go: normalised images, mean, unbiased variance, inverse of the deviation.
template <class T>
struct Normalized {
  T *y, *mean, *variance, *inverse;
};

template <class T, int BYTES, Taken TAKEN>
void forward(const Geometry& z, int64_t threads, double eps, const T* x, const Normalized<T>& to, uint8_t* taps) {
  const int64_t c = z.channels, parts = z.parts(), pixels = z.out_pixels();
  std::vector<double> sums(parts * 2 * c);
  std::vector<T> middles(parts * c), shift(c);
  parallel(parts, threads, z.work(), [&](int64_t part) {
    Pooling<T, BYTES, TAKEN> pooling(z);
    T* middle = &middles[part * c];  // the first pixel
    for (int64_t n = z.first(part); n < z.first(part + 1); ++n) {
      T* y = to.y + n * z.out_image();
      pooling.image(x + n * z.image(), y, taps + (TAKEN == LARGEST ? n * z.out_image() : 0));
      if (n == z.first(part))
        for (int64_t i = 0; i < c; ++i) middle[i] = std::isfinite(y[i]) ? y[i] : T(0);
      const auto moved = [&](int64_t at, int64_t b) { return LOAD(y + at) - LOAD(middle + b); };
      add_sums<T, BYTES>(moved, moved, &sums[part * 2 * c], c, z.out_height * z.out_width);
    }
  });
  for (int64_t i = 0; i < c; ++i) {
    double sum = 0, square = 0;  // of differences from the first part's middle
    for (int64_t part = 0; part < parts; ++part) {
      const double count = double(z.first(part + 1) - z.first(part)) * z.out_height * z.out_width;
      const double step = double(middles[part * c + i]) - middles[i];
      const double *total = &sums[part * 2 * c + i];
      sum += total[0] + count * step;
      square += total[c] + 2 * step * total[0] + count * step * step;
    }
    const double mean = sum / pixels, found = square / pixels - mean * mean;
    const double variance = found < 0 ? 0 : found;  // not where it is no number
    const double inverse = 1 / std::sqrt(variance + eps);
    to.mean[i] = T(middles[i] + mean);
    to.variance[i] = T(variance * pixels / (pixels - 1));
    to.inverse[i] = T(inverse);
    shift[i] = T(-mean * inverse);
  }
  parallel(parts, threads, z.work() / 4, [&](int64_t part) {
    const int64_t last = z.first(part + 1) * z.out_image();
    for (int64_t at = z.first(part) * z.out_image(); at < last; at += c)
      for (int64_t b = 0; b < c; b += LANES)
        STORE(to.y + at + b, FUSED(LOAD(to.y + at + b) - LOAD(&middles[b]), LOAD(to.inverse + b), LOAD(&shift[b])));
  });
}

}  // namespace

// sizes: bytes of a number, threads, what is taken, then `Geometry`.
// in: images. out: normalised images, mean, unbiased variance, inverse of the deviation, taps or null.
extern "C" int normalized_pool(const int64_t* sizes, double eps, const void* const* in, void* const* out) {
  Geometry z;
  std::memcpy(&z, sizes + 3, sizeof z);
  return chosen(sizes, z, [&](auto number, auto bytes, auto taken) {
    using T = decltype(number);
    const auto to = reinterpret_cast<T* const*>(out);
    forward<T, bytes, taken>(
        z, sizes[1], eps, (const T*)in[0], {to[0], to[1], to[2], to[3]}, (uint8_t*)out[4]);
  });
}
