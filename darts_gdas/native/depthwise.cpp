// Depthwise convolutions of images whose channels lie side by side, and their two gradients.
//
// An image, or its ReLU, is copied into a frame of zeros first, so no tap asks where the image ends. Then every
// channel, of which there are whole vectors, is a lane: of a convolution eight neighbouring pixels are
// summed at a time, of a weight gradient one row of taps. Images are dealt out in parts that do not
// depend on the number of threads, so neither do the results.
#include "common.h"

Team team = nullptr;

// Who computes with several threads; until this is said, nobody does.
extern "C" void use_team(Team chosen) { team = chosen; }

namespace {

struct Geometry {
  int64_t images, height, width, channels, out_height, out_width, side, stride, dilation;
  int64_t margin() const { return dilation * (side / 2); }
  int64_t framed_row() const { return (width + 2 * margin()) * channels; }
  int64_t framed() const { return (height + 2 * margin()) * framed_row(); }
  int64_t image() const { return height * width * channels; }
  int64_t out_image() const { return out_height * out_width * channels; }
  int64_t taps() const { return side * side * channels; }
};

// Where an image is not positive its ReLU does not move; what is no number stays none.
template <class T>
void stop_where_zero(const T* image, T* gradient, int64_t count) {
  for (int64_t i = 0; i < count; ++i) gradient[i] = image[i] <= 0 ? T(0) : gradient[i];
}

template <class T>
void frame(const T* image, T* framed, const Geometry& z, bool rectified) {
  const int64_t margin = z.margin(), row = z.framed_row(), side = margin * z.channels;
  std::fill_n(framed, margin * row, T(0));
  for (int64_t i = 0; i < z.height; ++i) {
    T* to = framed + (margin + i) * row;
    std::fill_n(to, side, T(0));
    const T* from = image + i * z.width * z.channels;
    if (rectified) std::transform(from, from + z.width * z.channels, to + side, [](T x) { return x < 0 ? T(0) : x; });
    else std::copy_n(from, z.width * z.channels, to + side);
    std::fill_n(to + side + z.width * z.channels, side, T(0));
  }
  std::fill_n(framed + (margin + z.height) * row, margin * row, T(0));
}

// Weights as torch has them, [channels][side][side], with channels side by side; turned or not.
template <class T>
void arrange(const T* weight, T* arranged, const Geometry& z, bool turned) {
  const int64_t taps = z.side * z.side;
  for (int64_t c = 0; c < z.channels; ++c)
    for (int64_t t = 0; t < taps; ++t)
      arranged[(turned ? taps - 1 - t : t) * z.channels + c] = weight[c * taps + t];
}

// PIXELS outputs in a row, starting with what reads `x` with its first tap.
template <class T, int BYTES, int SIDE, int PIXELS>
inline void convolve_pixels(const T* x, const T* w, T* y, const Geometry& z, bool add) {
  const int64_t c = z.channels, down = z.dilation * z.framed_row(), right = z.dilation * c;
  const int64_t step = z.stride * c;
  for (int64_t b = 0; b < c; b += LANES) {
    VECTOR sums[PIXELS];
    for (int p = 0; p < PIXELS; ++p) sums[p] = add ? VECTOR(LOAD(y + p * c + b)) : VECTOR{};
    for (int i = 0; i < SIDE; ++i)
      for (int j = 0; j < SIDE; ++j) {
        const VECTOR tap = LOAD(w + (i * SIDE + j) * c + b);
        const T* at = x + i * down + j * right + b;
        for (int p = 0; p < PIXELS; ++p) sums[p] = FUSED(LOAD(at + p * step), tap, sums[p]);
      }
    for (int p = 0; p < PIXELS; ++p) STORE(y + p * c + b, sums[p]);
  }
}

template <class T, int BYTES, int SIDE>
void convolve(const T* framed, const T* w, T* y, const Geometry& z, bool add) {
  constexpr int PIXELS = 8;
  for (int64_t i = 0; i < z.out_height; ++i) {
    const T* x = framed + i * z.stride * z.framed_row();
    T* to = y + i * z.out_width * z.channels;
    int64_t j = 0;
    for (; j + PIXELS <= z.out_width; j += PIXELS)
      convolve_pixels<T, BYTES, SIDE, PIXELS>(x + j * z.stride * z.channels, w, to + j * z.channels, z, add);
    for (; j < z.out_width; ++j)
      convolve_pixels<T, BYTES, SIDE, 1>(x + j * z.stride * z.channels, w, to + j * z.channels, z, add);
  }
}

// A row of taps of BLOCKS vectors of channels: added to dw.
template <class T, int BYTES, int SIDE, int BLOCKS>
inline void correlate_row(const T* framed, const T* g, T* dw, const Geometry& z, int64_t b, int i) {
  const int64_t c = z.channels, right = z.dilation * c, step = z.stride * c;
  VECTOR sums[SIDE][BLOCKS];
  for (int j = 0; j < SIDE; ++j)
    for (int v = 0; v < BLOCKS; ++v) sums[j][v] = LOAD(dw + (i * SIDE + j) * c + b + v * LANES);
  for (int64_t r = 0; r < z.out_height; ++r) {
    const T* x = framed + (r * z.stride + i * z.dilation) * z.framed_row() + b;
    const T* from = g + r * z.out_width * c + b;
    for (int64_t q = 0; q < z.out_width; ++q, x += step, from += c) {
      VECTOR slope[BLOCKS];
      for (int v = 0; v < BLOCKS; ++v) slope[v] = LOAD(from + v * LANES);
      for (int j = 0; j < SIDE; ++j)
        for (int v = 0; v < BLOCKS; ++v) sums[j][v] = FUSED(LOAD(x + j * right + v * LANES), slope[v], sums[j][v]);
    }
  }
  for (int j = 0; j < SIDE; ++j)
    for (int v = 0; v < BLOCKS; ++v) STORE(dw + (i * SIDE + j) * c + b + v * LANES, sums[j][v]);
}

template <class T, int BYTES, int SIDE>
void correlate(const T* framed, const T* g, T* dw, const Geometry& z) {
  const int64_t c = z.channels;
  int64_t b = 0;
  for (; b + 2 * LANES <= c; b += 2 * LANES)
    for (int i = 0; i < SIDE; ++i) correlate_row<T, BYTES, SIDE, 2>(framed, g, dw, z, b, i);
  for (; b < c; b += LANES)
    for (int i = 0; i < SIDE; ++i) correlate_row<T, BYTES, SIDE, 1>(framed, g, dw, z, b, i);
}

// The transpose of `convolve` at any stride: every gradient added to all that it has read.
template <class T, int BYTES, int SIDE>
void spread(T* framed, const T* w, const T* g, const Geometry& z) {
  const int64_t c = z.channels;
  for (int64_t r = 0; r < z.out_height; ++r)
    for (int64_t q = 0; q < z.out_width; ++q) {
      T* to = framed + r * z.stride * z.framed_row() + q * z.stride * c;
      const T* from = g + (r * z.out_width + q) * c;
      for (int i = 0; i < SIDE; ++i)
        for (int j = 0; j < SIDE; ++j) {
          T* at = to + i * z.dilation * z.framed_row() + j * z.dilation * c;
          const T* tap = w + (i * SIDE + j) * c;
          for (int64_t b = 0; b < c; b += LANES) STORE(at + b, FUSED(LOAD(from + b), LOAD(tap + b), LOAD(at + b)));
        }
    }
}

template <class T>
struct Call {
  Geometry z;
  int64_t edges, threads, rectified;
  const T *const *left, *const *right;
  T* const* out;

  // Calls with every part of the images, [first, last).
  template <class Task>
  void in_parts(const Task& task) const {
    const int64_t parts = std::min(z.images, MOST_PARTS);
    const double work = double(z.images) * z.out_image() * z.side * z.side * edges;
    parallel(parts, threads, work, [&](int64_t part) {
      task(part, z.images * part / parts, z.images * (part + 1) / parts);
    });
  }

  std::vector<T> arranged(bool turned) const {
    std::vector<T> all(edges * z.taps());
    for (int64_t e = 0; e < edges; ++e) arrange(right[e], &all[e * z.taps()], z, turned);
    return all;
  }

  // left[0]: images, right: weights, out: images
  template <int BYTES, int SIDE>
  void outputs() const {
    const auto weights = arranged(false);
    in_parts([&](int64_t, int64_t first, int64_t last) {
      std::vector<T> framed(z.framed());
      for (int64_t n = first; n < last; ++n) {
        frame(left[0] + n * z.image(), framed.data(), z, rectified);
        for (int64_t e = 0; e < edges; ++e)
          convolve<T, BYTES, SIDE>(framed.data(), &weights[e * z.taps()], out[e] + n * z.out_image(), z, false);
      }
    });
  }

  // left: gradients, then images; right: weights; out: images, then weights. Images are read where they
  // were rectified or for the weights, weights for the images; nulls in `out` are not asked for.
  template <int BYTES, int SIDE>
  void gradients() const {
    const bool turn = z.stride == 1;  // a convolution with the turned kernel
    const int64_t parts = std::min(z.images, MOST_PARTS), all = edges * z.taps();
    T* const dx = out[0];
    const bool for_weights = out[1];
    const auto weights = dx ? arranged(turn) : std::vector<T>();
    std::vector<T> sums(for_weights ? parts * all : 0);
    in_parts([&](int64_t part, int64_t first, int64_t last) {
      std::vector<T> read(for_weights ? z.framed() : 0), reached(dx ? z.framed() : 0);
      for (int64_t n = first; n < last; ++n) {
        if (for_weights) frame(left[edges] + n * z.image(), read.data(), z, rectified);
        if (dx && !turn) std::fill(reached.begin(), reached.end(), T(0));
        for (int64_t e = 0; e < edges; ++e) {
          const T *g = left[e] + n * z.out_image(), *w = dx ? &weights[e * z.taps()] : nullptr;
          if (for_weights) correlate<T, BYTES, SIDE>(read.data(), g, &sums[part * all + e * z.taps()], z);
          if (dx && turn) {
            frame(g, reached.data(), z, false);
            convolve<T, BYTES, SIDE>(reached.data(), w, dx + n * z.image(), z, e > 0);
          } else if (dx) {
            spread<T, BYTES, SIDE>(reached.data(), w, g, z);
          }
        }
        if (dx) finish(reached.data(), n);
      }
    });
    if (for_weights) write_weights(sums, parts);
  }

  // The gradient of image n, out of its frame where it was made there, and through its ReLU.
  void finish(const T* reached, int64_t n) const {
    T* to = out[0] + n * z.image();
    const T* from = reached + z.margin() * z.framed_row() + z.margin() * z.channels;
    if (z.stride > 1)
      for (int64_t i = 0; i < z.height; ++i)
        std::copy_n(from + i * z.framed_row(), z.width * z.channels, to + i * z.width * z.channels);
    if (rectified) stop_where_zero(left[edges] + n * z.image(), to, z.image());
  }

  // Sums of all parts, in the order of the parts, as torch has weights.
  void write_weights(const std::vector<T>& sums, int64_t parts) const {
    const int64_t taps = z.side * z.side, all = edges * z.taps();
    for (int64_t e = 0; e < edges; ++e)
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t c = 0; c < z.channels; ++c) {
          T sum = 0;
          for (int64_t part = 0; part < parts; ++part) sum += sums[part * all + e * z.taps() + t * z.channels + c];
          out[1 + e][c * taps + t] = sum;
        }
  }

  template <int BYTES, int SIDE>
  void run(int64_t what) const {
    if (what == 0) outputs<BYTES, SIDE>();
    if (what == 1) gradients<BYTES, SIDE>();
  }

  template <int BYTES>
  int run_side(int64_t what) const {
    switch (z.side) {
      case 3: run<BYTES, 3>(what); return DONE;
      case 5: run<BYTES, 5>(what); return DONE;
      case 7: run<BYTES, 7>(what); return DONE;
    }
    return NOT_HERE;
  }

  int operator()(int64_t what) const {
    return in_vectors<T>(z.channels, 0, [&](auto bytes) { return run_side<bytes>(what); });
  }
};

}  // namespace

// what: 0 outputs, 1 gradients.
// sizes: bytes of a number, threads, edges, whether the ReLU of the images is convolved, then `Geometry`.
extern "C" int depthwise(
    int64_t what, const int64_t* sizes, const void* const* left, const void* const* right, void* const* out) {
  Geometry z;
  std::memcpy(&z, sizes + 4, sizeof z);
  return of_type(sizes[0], [&](auto number) {
    using T = decltype(number);
    const auto from = (const T* const*)left, by = (const T* const*)right;
    return Call<T>{z, sizes[2], sizes[1], sizes[3], from, by, (T* const*)out}(what);
  });
}
