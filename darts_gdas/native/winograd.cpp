// Dense 3x3 convolutions that pad with zeros to keep the size, and their two gradients, by the minimal
// filtering F(2x2, 3x3) of Lavin and Gray (https://arxiv.org/abs/1509.09308): for a tile of 2x2 outputs and a
// pair of channels 16 products, where the definition has 36.
//
// A tile reads 4x4 pixels d and becomes 16 points V = B^T d B, kernels become U = G g G^T, and a tile's outputs
// are A^T [U V] A: sums over channels are 16 products of matrices [tiles][inputs] and [inputs][outputs]. The
// weights' gradient is G^T [V (A y A^T)] G, summed over tiles. Images are dealt out in parts that do not
// depend on the number of threads, so neither do the results.
#include "products.h"
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

  // y [outputs], of x [inputs] and kernels that were transformed. The shape is copied: what a loop writes might
  // change another.
  void convolve(const T* x, const Numbers<T>& u, T* y) const {
    const int64_t rounds = std::clamp<int64_t>(u.size() * sizeof(T) / NEAR, 1, 8), block = ROWS * rounds;
    const int64_t row = z.width * z.outputs, apart = block * z.inputs + PANEL;
    in_parts(std::min(z.images, MOST_PARTS), [=, z = z, &u](int64_t, int64_t first, int64_t last) {
      Strip<T, BYTES, false> strip(x, z, z.inputs);
      Numbers<T> v(POINTS * apart), m(block * POINTS * PANEL);
      Place at{first};
      for (int64_t left = (last - first) * z.tiles(); left > 0; left -= block) {
        const int64_t count = std::min(block, left);
        const Place start = at;
        for (int64_t t = 0; t < count; ++t, at.next(z)) {
          transform<T, BYTES, false>(strip.tile(at), strip.row(), z.inputs, &v[t * z.inputs], apart);
          strip.fetch(at);
          fetch_pixels<1>(y + (at.image * z.height + 2 * at.i) * row + 2 * at.j * z.outputs, row, z.outputs);
        }
        for (int64_t o = 0; o < z.outputs; o += PANEL) {
          for (int64_t k = 0; k < POINTS; ++k)
            for (int64_t t = 0; t < count; t += ROWS)
              product<T, BYTES, ROWS, WIDE>(
                  &v[k * apart + t * z.inputs], &u[(o * POINTS + k * PANEL) * (z.inputs + 1)],
                  &m[(t * POINTS + k) * PANEL], z.inputs);
          Place to = start;
          for (int64_t t = 0; t < count; ++t, to.next(z)) {
            T* pixel = y + (to.image * z.height + 2 * to.i) * row + 2 * to.j * z.outputs + o;
            const bool below = 2 * to.i + 1 < z.height, beside = 2 * to.j + 1 < z.width;
            finish<T, BYTES, WIDE>(&m[t * POINTS * PANEL], pixel, row, z.outputs, below, beside);
          }
        }
      }
    });
  }

  // Numbers from an input's sums to the next one's; a power of two would be in one place of a cache.
  static int64_t sums_apart(const Shape& z) { return POINTS * z.outputs + PANEL; }

  // dw, of x [inputs] and g [outputs].
  void correlate(const T* x, const T* g, T* dw) const {
    const int64_t most = std::min(z.images, MOST_PARTS);
    const int64_t parts = std::clamp<int64_t>(z.images * z.tiles() / LEAST_TILES, 1, most);
    const int64_t size = z.inputs * sums_apart(z);
    const int64_t fits = NEAR / int64_t(sizeof(T) * POINTS * (z.inputs + z.outputs));
    const int64_t block = std::clamp<int64_t>(fits, 24, 64);
    const int64_t apart = block * z.inputs + PANEL, apart_g = block * z.outputs + PANEL;
    Numbers<T> sums(parts * size);
    in_parts(parts, [=, z = z, &sums](int64_t part, int64_t first, int64_t last) {
      Strip<T, BYTES, false> strip(x, z, z.inputs);
      Strip<T, BYTES, true> strip_g(g, z, z.outputs);
      Numbers<T> v(POINTS * apart), w(POINTS * apart_g);
      Place at{first};
      bool fresh = true;
      for (int64_t left = (last - first) * z.tiles(); left > 0; left -= block) {
        const int64_t count = std::min(block, left);
        for (int64_t t = 0; t < count; ++t, at.next(z)) {
          transform<T, BYTES, false>(strip.tile(at), strip.row(), z.inputs, &v[t * z.inputs], apart);
          transform<T, BYTES, true>(strip_g.tile(at), strip_g.row(), z.outputs, &w[t * z.outputs], apart_g);
          strip.fetch(at);
          strip_g.fetch(at);
        }
        for (int64_t k = 0; k < POINTS; ++k)
          outers<T, BYTES, WIDE>(
              {&v[k * apart], z.inputs, z.inputs}, {&w[k * apart_g], z.outputs, z.outputs},
              &sums[part * size + k * z.outputs], sums_apart(z), count, !fresh);
        fresh = false;
      }
    });
    parallel(z.inputs, threads, double(parts) * size, [&](int64_t c) { write_taps(sums, parts, c, dw); });
  }

  // Gradients of an input's kernels: G^T s G of the sums of all parts, in the order of the parts.
  void write_taps(const Numbers<T>& sums, int64_t parts, int64_t c, T* dw) const {
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
      for (int64_t t = 0; t < TAPS; ++t) dw[(o * z.inputs + c) * TAPS + t] = T(taps[t * O + o]);
  }
};

// Calls with what computes from `inputs` to `outputs` channels.
template <class T, class Task>
int with_call(const Shape& z, int64_t threads, const Task& task) {
  return in_vectors<T>(z.inputs, z.outputs, [&](auto bytes) {
    if (z.outputs % (2 * Vector<T, bytes>::lanes) == 0) task(Call<T, bytes, 2>{z, threads});
    else task(Call<T, bytes, 1>{z, threads});
    return int(DONE);
  });
}

template <class T>
int outputs(const Shape& z, int64_t threads, const T* x, const T* weight, T* y, bool turned) {
  return with_call<T>(z, threads, [&](const auto& call) {
    Numbers<T> u(POINTS * (z.inputs + 1) * z.outputs);
    const int64_t left = z.inputs * TAPS, right = z.outputs * TAPS;
    const Kernels<T> as_they_are{weight, left, TAPS, 1}, about{weight + TAPS - 1, TAPS, right, -1};
    transform_kernels<T, std::decay_t<decltype(call)>::PANEL>(turned ? about : as_they_are, z.inputs, z.outputs, u.data());
    call.convolve(x, u, y);
  });
}

}  // namespace

// sizes: bytes of a number, threads, then `Shape`. in: images, weights. out: images.
extern "C" int convolution(const int64_t* sizes, const void* const* in, void* const* out) {
  Shape z;
  std::memcpy(&z, sizes + 2, sizeof z);
  return of_type(sizes[0], [&](auto number) {
    using T = decltype(number);
    return outputs<T>(z, sizes[1], (const T*)in[0], (const T*)in[1], (T*)out[0], false);
  });
}

// in: gradients of the outputs, weights, images. out: gradients of images and of weights, or null.
extern "C" int convolution_gradients(const int64_t* sizes, const void* const* in, void* const* out) {
  Shape z;
  std::memcpy(&z, sizes + 2, sizeof z);
  return of_type(sizes[0], [&](auto number) {
    using T = decltype(number);
    const T *g = (const T*)in[0], *weight = (const T*)in[1], *x = (const T*)in[2];
    int status = DONE;
    if (out[0]) {
      Shape back = z;
      std::swap(back.inputs, back.outputs);
      status = outputs<T>(back, sizes[1], g, weight, (T*)out[0], true);
    }
    if (out[1] && !status)
      status = with_call<T>(z, sizes[1], [&](const auto& call) { call.correlate(x, g, (T*)out[1]); });
    return status;
  });
}
