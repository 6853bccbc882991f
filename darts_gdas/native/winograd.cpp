// Dense 3x3 convolutions that pad with zeros to keep the size, and their two gradients, by the minimal
// filtering F(2x2, 3x3) of Lavin and Gray (https://arxiv.org/abs/1509.09308): for a tile of 2x2 outputs and a
// pair of channels 16 products, where the definition has 36.
//
// A tile reads 4x4 pixels d and becomes 16 points V = B^T d B, kernels become U = G g G^T, and a tile's outputs
// are A^T [U V] A: sums over channels are 16 products of matrices [tiles][inputs] and [inputs][outputs]. The
// weights' gradient is G^T [V (A y A^T)] G, summed over tiles. Images are dealt out in parts that do not
// depend on the number of threads, so neither do the results.
#include "winograd.h"

namespace {

constexpr int64_t NEAR = 256 << 10;   // bytes of the cache next to a core that one array may fill
constexpr int64_t LEAST_TILES = 128;  // of a part: to add up its sums takes the time of some tiles

// m [ROWS][panel], of rows that lie a tile's points apart, = v [ROWS][inputs] u [inputs][panel]
template <class T, int BYTES, int ROWS, int WIDE>
inline void product(const T* v, const T* u, T* m, int64_t inputs) {
  VECTOR sums[ROWS][WIDE] = {};
#pragma GCC unroll 4
  for (int64_t c = 0; c < inputs; ++c) {
    VECTOR by[WIDE];
    for (int w = 0; w < WIDE; ++w) by[w] = LOAD(u + (c * WIDE + w) * LANES);
    for (int r = 0; r < ROWS; ++r)
      for (int w = 0; w < WIDE; ++w) sums[r][w] = FUSED(ALL(v[r * inputs + c]), by[w], sums[r][w]);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int w = 0; w < WIDE; ++w) STORE(m + (r * POINTS * WIDE + w) * LANES, sums[r][w]);
}

// total, of rows `apart`, = or += v [tiles][inputs]^T g [tiles][outputs], of ROWS inputs and WIDE vectors of outputs
template <class T, int BYTES, int ROWS, int WIDE>
inline void outer(
    const T* v, const T* g, T* total, int64_t apart, int64_t tiles, int64_t inputs, int64_t outputs, bool add) {
  for (int r = 0; r < ROWS; ++r) __builtin_prefetch(total + r * apart, 1);
  VECTOR sums[ROWS][WIDE] = {};
  for (int64_t t = 0; t < tiles; ++t) {
    VECTOR by[WIDE];
    for (int w = 0; w < WIDE; ++w) by[w] = LOAD(g + t * outputs + w * LANES);
    for (int r = 0; r < ROWS; ++r)
      for (int w = 0; w < WIDE; ++w) sums[r][w] = FUSED(ALL(v[t * inputs + r]), by[w], sums[r][w]);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int w = 0; w < WIDE; ++w) {
      T* to = total + r * apart + w * LANES;
      STORE(to, add ? LOAD(to) + sums[r][w] : sums[r][w]);
    }
}

template <class T, int BYTES, int WIDE>
struct Call {
  static constexpr int PANEL = WIDE * LANES;
  static constexpr int ROWS = WIDE == 1 ? 8 : 6;
  Shape z;
  int64_t threads;

  // Calls with every part of the images, [first, last).
  template <class Task>
  void in_parts(int64_t parts, const Task& task) const {
    parallel(parts, threads, z.work(), [&](int64_t part) {
      task(part, z.images * part / parts, z.images * (part + 1) / parts);
    });
  }

  // y [outputs], of x [inputs] or their ReLU and kernels that were transformed; zero where what was seen, if anything,
  // is not above. The shape is copied: what a loop writes might change another.
  void convolve(const Several<const T>& x, bool rectified, const Numbers<T>& u, const Several<T>& y, const T* seen) const {
    const int64_t rounds = std::clamp<int64_t>(u.size() * sizeof(T) / NEAR, 1, 8), block = ROWS * rounds;
    const int64_t row = z.width * y.channels, apart = block * z.inputs + PANEL;
    in_parts(std::min(z.images, MOST_PARTS), [=, z = z, &u](int64_t, int64_t first, int64_t last) {
      auto strips = strips_of<false>(x, rectified);
      Numbers<T> v(POINTS * apart), m(block * POINTS * PANEL);
      Place at{first};
      for (int64_t left = (last - first) * z.tiles(); left > 0; left -= block) {
        const int64_t count = std::min(block, left);
        const Place start = at;
        for (int64_t t = 0; t < count; ++t, at.next(z)) {
          read(strips, at, &v[t * z.inputs], apart);
          const int64_t pixel = (at.image * z.height + 2 * at.i) * row + 2 * at.j * y.channels;
          for (int64_t i = 0; i < y.count; ++i) fetch_pixels<1>(y.first[i] + pixel, row, y.channels);
        }
        for (int64_t o = 0; o < z.outputs; o += PANEL) {
          for (int64_t k = 0; k < POINTS; ++k)
            for (int64_t t = 0; t < count; t += ROWS)
              product<T, BYTES, ROWS, WIDE>(
                  &v[k * apart + t * z.inputs], &u[(o * POINTS + k * PANEL) * (z.inputs + 1)],
                  &m[(t * POINTS + k) * PANEL], z.inputs);
          Place to = start;
          T* image = y.first[o / y.channels] + o % y.channels;
          for (int64_t t = 0; t < count; ++t, to.next(z)) {
            const int64_t pixel = (to.image * z.height + 2 * to.i) * row + 2 * to.j * y.channels;
            const bool below = 2 * to.i + 1 < z.height, beside = 2 * to.j + 1 < z.width;
            finish<T, BYTES, WIDE>(
                &m[t * POINTS * PANEL], image + pixel, seen ? seen + pixel + o : nullptr, row, y.channels, below, beside);
          }
        }
      }
    });
  }

  template <bool GRADIENTS>
  using Strips = std::vector<Strip<T, BYTES, GRADIENTS>>;

  template <bool GRADIENTS>
  Strips<GRADIENTS> strips_of(const Several<const T>& images, bool rectified) const {
    Strips<GRADIENTS> all;
    for (int64_t i = 0; i < images.count; ++i) all.emplace_back(images.first[i], z, images.channels, rectified);
    return all;
  }

  // The points of all images at a tile, and the next strip of each asked for.
  template <bool GRADIENTS>
  static void read(Strips<GRADIENTS>& strips, const Place& at, T* to, int64_t apart) {
    for (auto& strip : strips) {
      transform<T, BYTES, GRADIENTS>(strip.tile(at), strip.row(), strip.channels(), to, apart);
      strip.fetch(at);
      to += strip.channels();
    }
  }

  // Numbers from an input's sums to the next one's; a power of two would be in one place of a cache.
  static int64_t sums_apart(const Shape& z) { return POINTS * z.outputs + PANEL; }

  // Sums of a point over tiles of v_i g_o, set or added to, total [inputs][POINTS][outputs].
  static void sum_products(const Shape& z, const T* v, const T* g, T* total, int64_t tiles, bool add) {
    const int64_t inputs = z.inputs, outputs = z.outputs, apart = sums_apart(z);
    for (int64_t o = 0; o < outputs; o += PANEL) {
      int64_t c = 0;
      const auto rows = [&](auto count) {
        outer<T, BYTES, count, WIDE>(v + c, g + o, total + c * apart + o, apart, tiles, inputs, outputs, add);
        c += count;
      };
      while (WIDE == 1 && c + 12 <= inputs) rows(std::integral_constant<int, 12>());
      while (c + 6 <= inputs && inputs - c != 8) rows(std::integral_constant<int, 6>());
      while (c < inputs) rows(std::integral_constant<int, 4>());
    }
  }

  // dw, of x [inputs] and g [outputs].
  void correlate(const Several<const T>& x, const Several<const T>& g, T* const* dw) const {
    const int64_t most = std::min(z.images, MOST_PARTS);
    const int64_t parts = std::clamp<int64_t>(z.images * z.tiles() / LEAST_TILES, 1, most);
    const int64_t size = z.inputs * sums_apart(z);
    const int64_t fits = NEAR / int64_t(sizeof(T) * POINTS * (z.inputs + z.outputs));
    const int64_t block = std::clamp<int64_t>(fits, 24, 64);
    const int64_t apart = block * z.inputs + PANEL, apart_g = block * z.outputs + PANEL;
    Numbers<T> sums(parts * size);
    in_parts(parts, [=, z = z, &sums](int64_t part, int64_t first, int64_t last) {
      auto strips = strips_of<false>(x, z.rectified);
      auto gradients = strips_of<true>(g, false);
      Numbers<T> v(POINTS * apart), w(POINTS * apart_g);
      Place at{first};
      bool fresh = true;
      for (int64_t left = (last - first) * z.tiles(); left > 0; left -= block) {
        const int64_t count = std::min(block, left);
        for (int64_t t = 0; t < count; ++t, at.next(z)) {
          read(strips, at, &v[t * z.inputs], apart);
          read(gradients, at, &w[t * z.outputs], apart_g);
        }
        for (int64_t k = 0; k < POINTS; ++k)
          sum_products(z, &v[k * apart], &w[k * apart_g], &sums[part * size + k * z.outputs], count, !fresh);
        fresh = false;
      }
    });
    parallel(z.inputs, threads, double(parts) * size, [&](int64_t c) { write_taps(sums, parts, c, g.channels, dw); });
  }

  // Gradients of an input's kernels: G^T s G of the sums of all parts, in the order of the parts.
  void write_taps(const Numbers<T>& sums, int64_t parts, int64_t c, int64_t each, T* const* dw) const {
    const int64_t O = z.outputs;
    std::vector<double> points(POINTS * O), halves(12 * O), taps(TAPS * O);
    for (int64_t part = 0; part < parts; ++part) {
      const T* from = &sums[(part * z.inputs + c) * sums_apart(z)];
      for (int64_t i = 0; i < POINTS * O; ++i) points[i] += from[i];
    }
    const auto fold = [O](const double* from, int64_t apart, double* to, int64_t step) {
      for (int64_t o = 0; o < O; ++o) {
        const double even = (from[apart + o] + from[2 * apart + o]) / 2;
        to[o] = from[o] + even;
        to[step + o] = (from[apart + o] - from[2 * apart + o]) / 2;
        to[2 * step + o] = even - from[3 * apart + o];
      }
    };
    for (int j = 0; j < 4; ++j) fold(&points[j * O], 4 * O, &halves[j * O], 4 * O);
    for (int i = 0; i < 3; ++i) fold(&halves[4 * i * O], O, &taps[3 * i * O], O);
    for (int64_t o = 0; o < O; ++o)
      for (int64_t t = 0; t < TAPS; ++t) dw[o / each][(o % each * z.inputs + c) * TAPS + t] = T(taps[t * O + o]);
  }
};

// Calls with what computes from images to images.
template <class T, class Task>
int with_call(const Shape& z, int64_t threads, int64_t inputs, int64_t outputs, const Task& task) {
  return in_vectors<T>(inputs, outputs, [&](auto bytes) {
    if (outputs % (2 * Vector<T, bytes>::lanes) == 0) task(Call<T, bytes, 2>{z, threads});
    else task(Call<T, bytes, 1>{z, threads});
    return int(DONE);
  });
}

// y of x, by kernels [y.channels][x.channels] of every pair; turned about, [x.channels][y.channels], for gradients,
// of images that were seen if these were rectified.
template <class T>
int outputs(
    const Shape& z, int64_t threads, const Several<const T>& x, const T* const* weights, const Several<T>& y,
    bool turned, const T* seen = nullptr) {
  return with_call<T>(z, threads, x.channels, y.channels, [&](const auto& call) {
    constexpr int PANEL = std::decay_t<decltype(call)>::PANEL;
    Numbers<T> u(POINTS * (z.inputs + 1) * z.outputs);
    const int64_t left = x.channels * TAPS, right = y.channels * TAPS;
    for (int64_t i = 0; i < x.count * y.count; ++i) {
      const T* weight = weights[i];
      const Kernels<T> as_they_are{weight, left, TAPS, 1}, about{weight + TAPS - 1, TAPS, right, -1};
      const int64_t panels = i / x.count * y.channels * POINTS * (z.inputs + 1);
      transform_kernels<T, PANEL>(
          turned ? about : as_they_are, x.channels, y.channels, z.inputs,
          &u[panels + i % x.count * x.channels * PANEL]);
    }
    call.convolve(x, z.rectified && !turned, u, y, seen);
  });
}

Shape shape_of(const int64_t* sizes) {
  Shape z;
  std::memcpy(&z, sizes + 2, sizeof z);
  z.outputs *= z.sets;
  return z;
}

}  // namespace

// sizes: bytes of a number, threads, then `Shape`, with the outputs of a set of weights. in: images, sets of weights.
// out: images, one of every set.
extern "C" int convolution(const int64_t* sizes, const void* const* in, void* const* out) {
  const Shape z = shape_of(sizes);
  return of_type(sizes[0], [&](auto number) {
    using T = decltype(number);
    const auto from = reinterpret_cast<const T* const*>(in);
    const Several<T> y{reinterpret_cast<T* const*>(out), z.sets, z.outputs / z.sets};
    return outputs<T>(z, sizes[1], {from, 1, z.inputs}, from + 1, y, false);
  });
}

// in: images, sets of weights, gradients of the outputs. out: gradients of images and of weights, or null.
extern "C" int convolution_gradients(const int64_t* sizes, const void* const* in, void* const* out) {
  const Shape z = shape_of(sizes);
  return of_type(sizes[0], [&](auto number) {
    using T = decltype(number);
    const auto from = reinterpret_cast<const T* const*>(in);
    const auto to = reinterpret_cast<T* const*>(out);
    const Several<const T> x{from, 1, z.inputs}, g{from + 1 + z.sets, z.sets, z.outputs / z.sets};
    int status = DONE;
    if (to[0]) {
      Shape back = z;
      std::swap(back.inputs, back.outputs);
      status = outputs<T>(back, sizes[1], g, from + 1, {to, 1, z.inputs}, true, z.rectified ? *from : nullptr);
    }
    if (to[1] && !status)
      status = with_call<T>(z, sizes[1], x.channels, g.channels, [&](const auto& call) { call.correlate(x, g, to + 1); });
    return status;
  });
}
