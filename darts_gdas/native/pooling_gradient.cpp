// The gradient of images that were pooled and then normalised by their batch, in two passes: sums of the
// gradients, then image by image the pooled ones' gradients, a row at a time, which their windows' pixels
// take from there.
#include "pooling.h"

namespace {

// Spreads gradients of pooled images over the pixels of their windows, three rows of windows at hand.
template <class T, int BYTES, Taken TAKEN, int STRIDE>
class Spreading {
 public:
  explicit Spreading(const Geometry& z) : z(z), rows(TAKEN == PIXEL ? 0 : 3 * z.out_row()), places(TAKEN == LARGEST ? rows.size() : 0) {}

  // gradient(e, b): of the pooled images, the vector at e, whose first channel is b.
  template <class Gradient>
  void image(const Gradient& gradient, const uint8_t* taps, T* dx) {
    for (int64_t e = 0; TAKEN == PIXEL && e < z.image(); e += z.channels)
      for (int64_t b = 0; b < z.channels; b += LANES) STORE(dx + e + b, gradient(e + b, b));
    int64_t ready = 0;
    for (int64_t a = 0; TAKEN != PIXEL && a < z.height; ++a) {
      const int64_t first = a ? (a + STRIDE - 2) / STRIDE : 0, last = std::min(z.out_height, (a + 1) / STRIDE + 1);
      for (; ready < last; ++ready) enter(ready, gradient, taps);
      for (int64_t b = 0; b < z.channels; b += LANES) switch (last - first) {
          case 1: row<1>(a, first, b, dx + a * z.row() + b); break;
          case 2: row<2>(a, first, b, dx + a * z.row() + b); break;
          case 3: row<3>(a, first, b, dx + a * z.row() + b); break;
        }
    }
  }

 private:
  const Geometry& z;
  std::vector<T> rows;
  std::vector<Whole<T>> places;

  template <class Gradient>
  void enter(int64_t r, const Gradient& gradient, const uint8_t* taps) {
    const int64_t height = Inside(r, STRIDE, z.height).count();
    T* to = &rows[r % 3 * z.out_row()];
    for (int64_t q = 0; q < z.out_width; ++q) {
      const T share = TAKEN == LARGEST ? T(1) : T(1) / T(height * Inside(q, STRIDE, z.width).count());
      for (int64_t b = 0; b < z.channels; b += LANES) {
        const int64_t e = q * z.channels + b;
        const VECTOR found = gradient(r * z.out_row() + e, b);
        STORE(to + e, TAKEN == LARGEST ? found : found * share);
      }
    }
    if (TAKEN == LARGEST) convert(taps + r * z.out_row(), &places[r % 3 * z.out_row()], z.out_row());
  }

  // A vector of channels of the row of pixels a, which COUNT rows of windows share from the first on.
  template <int COUNT>
  void row(int64_t a, int64_t first, int64_t b, T* dx) const {
    const int64_t c = z.channels, width = z.width;
    const T* from[COUNT];
    const Whole<T>* place[COUNT];
    TAP taps[COUNT][3];
    for (int n = 0; n < COUNT; ++n) {
      const int64_t at = (first + n) % 3 * z.out_row() + b;
      from[n] = rows.data() + at;
      place[n] = places.data() + (TAKEN == LARGEST ? at : 0);
      for (int j = 0; j < 3; ++j) taps[n][j] = TAP{} + Whole<T>(3 * (a + 1 - (first + n) * STRIDE) + j);
    }
    VECTOR before = {}, here = {};  // what windows so far add to the pixels left of the next and in its middle
    for (int64_t q = 0; q < z.out_width; ++q) {
      VECTOR sums[3] = {};  // of the three columns of the windows
      for (int n = 0; n < COUNT; ++n) {
        const VECTOR value = LOAD(from[n] + q * c);
        if constexpr (TAKEN == LARGEST) {
          const TAP taken = LOAD_TAP(place[n] + q * c);
          for (int j = 0; j < 3; ++j) sums[j] += taken == taps[n][j] ? value : VECTOR{};
        } else {
          sums[0] += value;
        }
      }
      if (TAKEN == MEAN) sums[2] = sums[1] = sums[0];
      if (q) STORE(dx + (q * STRIDE - 1) * c, before + sums[0]);
      before = STRIDE == 1 ? here + sums[1] : sums[2];
      here = sums[2];
      if (STRIDE == 2) STORE(dx + q * STRIDE * c, sums[1]);
    }
    if (STRIDE == 1 || width % 2 == 0) STORE(dx + (width - 1) * c, before);
  }
};

// g: gradient of the normalised images y. In the pooled ones it is
// inverse (g - mean of g - y mean of g y).
template <class T, int BYTES, Taken TAKEN, int STRIDE>
void backward(
    const Geometry& z, int64_t threads, const T* g, const T* y, const T* inverse, const uint8_t* taps, T* dx) {
  const int64_t c = z.channels, parts = z.parts(), pixels = z.out_pixels();
  std::vector<double> sums(parts * 2 * c);
  std::vector<T> mean(c), slope(c);
  parallel(parts, threads, z.work() / 4, [&](int64_t part) {
    const int64_t start = z.first(part) * z.out_image(), end = z.first(part + 1) * z.out_image();
    const auto left = [&](int64_t at, int64_t) { return VECTOR(LOAD(g + start + at)); };
    const auto right = [&](int64_t at, int64_t) { return VECTOR(LOAD(y + start + at)); };
    add_sums<T, BYTES>(left, right, &sums[part * 2 * c], c, (end - start) / c);
  });
  gather(sums, parts);
  for (int64_t i = 0; i < c; ++i) {
    mean[i] = T(sums[i] / pixels);
    slope[i] = T(-sums[c + i] / pixels);
  }
  parallel(parts, threads, z.work(), [&](int64_t part) {
    Spreading<T, BYTES, TAKEN, STRIDE> spreading(z);
    for (int64_t n = z.first(part); n < z.first(part + 1); ++n) {
      const T *from = g + n * z.out_image(), *at = y + n * z.out_image();
      const auto gradient = [&](int64_t e, int64_t b) {
        const VECTOR found = FUSED(LOAD(at + e), LOAD(&slope[b]), LOAD(from + e) - LOAD(&mean[b]));
        return VECTOR(found * LOAD(inverse + b));
      };
      spreading.image(gradient, taps + (TAKEN == LARGEST ? n * z.out_image() : 0), dx + n * z.image());
    }
  });
}

}  // namespace

// sizes: as of `normalized_pool`. in: gradient of the normalised images, these, inverse of the deviation,
// taps or null.
// out: gradient of the images.
extern "C" int normalized_pool_gradient(const int64_t* sizes, const void* const* in, void* const* out) {
  Geometry z;
  std::memcpy(&z, sizes + 3, sizeof z);
  return chosen(sizes, z, [&](auto number, auto bytes, auto taken) {
    using T = decltype(number);
    const auto run = [&](auto stride) {
      const auto from = reinterpret_cast<const T* const*>(in);
      backward<T, bytes, taken, stride>(
          z, sizes[1], from[0], from[1], from[2], (const uint8_t*)in[3], (T*)out[0]);
    };
    if (z.stride == 1) run(std::integral_constant<int, 1>());
    else run(std::integral_constant<int, 2>());
  });
}
