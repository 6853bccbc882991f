// Weighted sums of batch-normalised pointwise convolutions and their derivatives: the formulas of
// nets/pointwise.py, with pixels as rows of channels.
//
// Sums over pixels are of differences from a row near their mean, so large means cost no digits. They
// are taken in the numbers' own type for some hundred pixels and in double from there on, in parts
// that do not depend on the number of threads, so neither do the results.
#include "sums.h"

namespace {

constexpr int64_t LEAST_PART = 4096;  // of pixels

struct Sizes {
  int64_t threads, terms, edges, outputs, channels, features, pixels;
  explicit Sizes(const int64_t* all) { std::memcpy(this, all, sizeof *this); }
  int64_t parts() const { return std::clamp<int64_t>(pixels / LEAST_PART, 1, MOST_PARTS); }
  int64_t first(int64_t part) const { return pixels * part / parts(); }
  int64_t pairs() const { return terms * edges; }
};

// What is added to a row: `width` numbers of it times a matrix [width][outputs].
template <class T>
struct Term {
  const T* rows;
  int64_t width;
  const T* matrix;
};

// What is added to a row: a row of outputs times a number.
template <class T>
struct Feature {
  const T* rows;
  T factor;
};

template <class T, int BYTES, int PIXELS, int BLOCKS>
inline void affine_block(
    const T* bias, const std::vector<Term<T>>& terms, const std::vector<Feature<T>>& features, T* y,
    int64_t outputs, int64_t pixel, int64_t o) {
  VECTOR sums[PIXELS][BLOCKS];
  for (int v = 0; v < BLOCKS; ++v)
    for (int p = 0; p < PIXELS; ++p) sums[p][v] = LOAD(bias + o + v * LANES);
  for (const auto& term : terms) {
    const T* x = term.rows + pixel * term.width;
    for (int64_t c = 0; c < term.width; ++c) {
      VECTOR row[BLOCKS];
      for (int v = 0; v < BLOCKS; ++v) row[v] = LOAD(term.matrix + c * outputs + o + v * LANES);
      for (int p = 0; p < PIXELS; ++p)
        for (int v = 0; v < BLOCKS; ++v) sums[p][v] = FUSED(ALL(x[p * term.width + c]), row[v], sums[p][v]);
    }
  }
  for (const auto& feature : features)
    for (int p = 0; p < PIXELS; ++p)
      for (int v = 0; v < BLOCKS; ++v)
        sums[p][v] =
            FUSED(LOAD(feature.rows + (pixel + p) * outputs + o + v * LANES), ALL(feature.factor), sums[p][v]);
  for (int p = 0; p < PIXELS; ++p)
    for (int v = 0; v < BLOCKS; ++v) STORE(y + (pixel + p) * outputs + o + v * LANES, sums[p][v]);
}

template <class T, int BYTES, int PIXELS>
inline void affine_pixels(
    const T* bias, const std::vector<Term<T>>& terms, const std::vector<Feature<T>>& features, T* y,
    int64_t outputs, int64_t pixel) {
  int64_t o = 0;
  for (; o + 2 * LANES <= outputs; o += 2 * LANES)
    affine_block<T, BYTES, PIXELS, 2>(bias, terms, features, y, outputs, pixel, o);
  for (; o < outputs; o += LANES)
    affine_block<T, BYTES, PIXELS, 1>(bias, terms, features, y, outputs, pixel, o);
}

// y = bias + sum of terms + sum of features, for the pixels [first, last)
template <class T, int BYTES>
void affine(
    const T* bias, const std::vector<Term<T>>& terms, const std::vector<Feature<T>>& features, T* y,
    int64_t outputs, int64_t first, int64_t last) {
  constexpr int PIXELS = 6;
  int64_t pixel = first;
  for (; pixel + PIXELS <= last; pixel += PIXELS)
    affine_pixels<T, BYTES, PIXELS>(bias, terms, features, y, outputs, pixel);
  for (; pixel < last; ++pixel) affine_pixels<T, BYTES, 1>(bias, terms, features, y, outputs, pixel);
}

// total [lefts][rights] += sum over pixels of left(p)_i right(p)_j
template <class T, int BYTES, int BLOCKS>
inline void outer_block(
    const T* left, const T* right, double* total, int64_t lefts, int64_t rights, int64_t pixels, int64_t i,
    int64_t j) {
  constexpr int ROWS = 4;
  VECTOR sums[ROWS][BLOCKS] = {};
  for (int64_t p = 0; p < pixels; ++p) {
    VECTOR row[BLOCKS];
    for (int v = 0; v < BLOCKS; ++v) row[v] = LOAD(right + p * rights + j + v * LANES);
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < BLOCKS; ++v) sums[r][v] = FUSED(ALL(left[p * lefts + i + r]), row[v], sums[r][v]);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < BLOCKS; ++v)
      for (int l = 0; l < LANES; ++l) total[(i + r) * rights + j + v * LANES + l] += sums[r][v][l];
}

// The rows of one run of pixels, less a row.
template <class T, int BYTES>
void centre(const T* rows, const T* middle, T* centred, int64_t width, int64_t pixels) {
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t c = 0; c < width; c += LANES)
      STORE(centred + p * width + c, LOAD(rows + p * width + c) - LOAD(middle + c));
}

// Sums over the pixels [first, last) of left(p) (right(p) - middle)^T, or, without left, of
// (right(p) - middle) (right(p) - middle)^T, of which what lies left of the diagonal's blocks is left out.
template <class T, int BYTES>
void outer(
    const T* left, const T* right, const T* middle, double* total, int64_t lefts, int64_t rights, int64_t first,
    int64_t last) {
  std::vector<T> centred(RUN * rights);
  for (int64_t p = first; p < last; p += RUN) {
    const int64_t pixels = std::min(RUN, last - p);
    centre<T, BYTES>(right + p * rights, middle, centred.data(), rights, pixels);
    const T* from = left ? left + p * lefts : centred.data();
    for (int64_t i = 0; i < lefts; i += 4) {
      int64_t j = 0;
      for (; j + 2 * LANES <= rights; j += 2 * LANES)
        if (left || j + 2 * LANES > i)
          outer_block<T, BYTES, 2>(from, centred.data(), total, lefts, rights, pixels, i, j);
      for (; j < rights; j += LANES)
        outer_block<T, BYTES, 1>(from, centred.data(), total, lefts, rights, pixels, i, j);
    }
  }
}

template <class T, int BYTES>
void column_sums(const T* rows, const T* middle, double* total, int64_t width, int64_t first, int64_t last) {
  for (int64_t p = first; p < last; p += RUN)
    for (int64_t c = 0; c < width; c += LANES) {
      VECTOR sum = {};
      const VECTOR less = LOAD(middle + c);
      for (int64_t q = p; q < std::min(p + RUN, last); ++q) sum += LOAD(rows + q * width + c) - less;
      for (int l = 0; l < LANES; ++l) total[c + l] += sum[l];
    }
}

// The sums, from mean and variance of every output.
template <class T, int BYTES>
void normalize(
    const Sizes& z, double eps, const T* scale, const T* const* kernels, const T* const* inputs,
    const T* const* features, const std::vector<double>& mean, const std::vector<double>& variance,
    T* const* outputs) {
  const int64_t C = z.channels, O = z.outputs, parts = z.parts();
  std::vector<T> matrices(z.pairs() * C * O), biases(z.edges * O);
  std::vector<double> shift(z.edges * O);
  for (int64_t k = 0; k < z.pairs(); ++k)
    for (int64_t o = 0; o < O; ++o) {
      const double weight = scale[k] / std::sqrt(variance[k * O + o] + eps);
      for (int64_t j = 0; j < C; ++j) matrices[(k * C + j) * O + o] = T(weight * kernels[k][o * C + j]);
      shift[k % z.edges * O + o] -= weight * mean[k * O + o];
    }
  std::copy(shift.begin(), shift.end(), biases.begin());
  parallel(parts * z.edges, z.threads, double(z.pairs()) * z.pixels * C * O, [&](int64_t i) {
    const int64_t part = i / z.edges, e = i % z.edges;
    std::vector<Term<T>> terms;
    for (int64_t k = e; k < z.pairs(); k += z.edges) terms.push_back({inputs[k], C, &matrices[k * C * O]});
    std::vector<Feature<T>> others;
    for (int64_t f = 0; f < z.features; ++f) others.push_back({features[f], scale[(z.terms + f) * z.edges + e]});
    affine<T, BYTES>(&biases[e * O], terms, others, outputs[e], O, z.first(part), z.first(part + 1));
  });
}

// Of outputs, of inputs, and what their derivatives need: as `normalized_sum` returns them.
template <class T>
struct Statistics {
  T *mean, *unbiased, *means, *products, *variances;
};

template <class T, int BYTES>
void forward(
    const Sizes& z, double eps, const T* scale, const T* const* kernels, const T* const* inputs,
    const T* const* features, const Statistics<T>& found, T* const* outputs) {
  const int64_t C = z.channels, O = z.outputs, parts = z.parts(), moments = C * (C + 1);
  const double work = double(z.pairs()) * z.pixels * C;
  std::vector<double> sums(parts * z.pairs() * moments);
  parallel(parts * z.pairs(), z.threads, work * C, [&](int64_t i) {
    const int64_t part = i / z.pairs();
    const T* rows = inputs[i % z.pairs()];
    double* to = &sums[i * moments];
    const T* middle = rows;  // the first pixel
    column_sums<T, BYTES>(rows, middle, to, C, z.first(part), z.first(part + 1));
    outer<T, BYTES>(nullptr, rows, middle, to + C, C, C, z.first(part), z.first(part + 1));
  });
  gather(sums, parts);
  std::vector<double> all_means(z.pairs() * O), all_variances(z.pairs() * O);
  parallel(z.pairs(), z.threads, double(z.pairs()) * O * C * C, [&](int64_t k) {
    const double* sum = &sums[k * moments];
    std::vector<double> covariance(C * C), row(C);
    for (int64_t i = 0; i < C; ++i) {
      found.means[k * C + i] = T(inputs[k][i] + sum[i] / z.pixels);
      for (int64_t j = i; j < C; ++j)
        covariance[i * C + j] = covariance[j * C + i] =
            sum[C + i * C + j] / z.pixels - sum[i] / z.pixels * (sum[j] / z.pixels);
    }
    for (int64_t o = 0; o < O; ++o) {
      const T* p = kernels[k] + o * C;
      std::fill(row.begin(), row.end(), 0);
      for (int64_t i = 0; i < C; ++i)
        for (int64_t j = 0; j < C; ++j) row[j] = std::fma(p[i], covariance[i * C + j], row[j]);
      double variance = 0, mean = 0;
      for (int64_t j = 0; j < C; ++j) {
        found.products[(k * O + o) * C + j] = T(row[j]);
        variance += row[j] * p[j];
        mean += (inputs[k][j] + sum[j] / z.pixels) * p[j];
      }
      variance = variance < 0 ? 0 : variance;  // not where it is no number
      all_means[k * O + o] = mean;
      all_variances[k * O + o] = variance;
      found.mean[k * O + o] = T(mean);
      found.variances[k * O + o] = T(variance);
      found.unbiased[k * O + o] = T(variance * z.pixels / (z.pixels - 1));
    }
  });
  normalize<T, BYTES>(z, eps, scale, kernels, inputs, features, all_means, all_variances, outputs);
}

// Gradients that nobody asks for are null pointers.
template <class T>
struct Gradients {
  T* scale;
  T *const *kernels, *const *inputs;
  T* const* features;
};

template <class T, int BYTES>
void backward(
    const Sizes& z, double eps, const T* scale, const T* const* kernels, const T* means, const T* products,
    const T* variances, const T* const* upstream, const T* const* inputs, const T* const* features,
    const Gradients<T>& found) {
  const int64_t C = z.channels, O = z.outputs, parts = z.parts(), size = O * C;
  const double work = double(z.pairs()) * z.pixels * C * O;
  std::vector<double> totals(parts * z.edges * O), outers(parts * z.pairs() * size);
  const std::vector<T> zeros(O);
  parallel(parts * z.pairs(), z.threads, work, [&](int64_t i) {
    const int64_t part = i / z.pairs(), k = i % z.pairs();
    const T* g = upstream[k % z.edges];
    outer<T, BYTES>(g, inputs[k], means + k * C, &outers[i * size], O, C, z.first(part), z.first(part + 1));
    if (k < z.edges)
      column_sums<T, BYTES>(g, zeros.data(), &totals[(part * z.edges + k) * O], O, z.first(part), z.first(part + 1));
  });
  gather(totals, parts);
  gather(outers, parts);
  // Of every input: its gradient is forward_k^T g + curvature_k z + bias_k.
  std::vector<T> slopes(z.pairs() * size), curvatures(z.pairs() * C * C), biases(z.pairs() * C);
  parallel(z.pairs(), z.threads, double(z.pairs()) * O * C * C, [&](int64_t k) {
    std::vector<double> curvature(C * C), bias(C), row(C);
    double inner_scale = 0;
    for (int64_t o = 0; o < O; ++o) {
      const T* p = kernels[k] + o * C;
      const double* outer = &outers[k * size + o * C];
      const double total = totals[k % z.edges * O + o];
      const double inverse = 1 / std::sqrt(double(variances[k * O + o]) + eps), weight = scale[k] * inverse;
      double inner = 0;
      for (int64_t c = 0; c < C; ++c) inner += outer[c] * p[c];
      const double slope = weight * inverse * inverse * inner;
      inner_scale += inner * inverse;
      for (int64_t c = 0; c < C; ++c) {
        if (found.kernels && found.kernels[k]) found.kernels[k][o * C + c] = T(weight * outer[c] - slope * products[(k * O + o) * C + c]);
        slopes[k * size + o * C + c] = T(weight * p[c]);
        bias[c] -= total * weight * p[c] / z.pixels;
      }
      if (!found.inputs) continue;
      std::copy_n(p, C, row.begin());
      for (int64_t i = 0; i < C; ++i) {  // what lies left of the diagonal is the same
        const double factor = -slope * row[i] / z.pixels;
        for (int64_t j = i; j < C; ++j) curvature[i * C + j] = std::fma(factor, row[j], curvature[i * C + j]);
      }
    }
    if (found.scale) found.scale[k] = T(inner_scale);
    if (!found.inputs) return;
    for (int64_t i = 0; i < C; ++i)
      for (int64_t j = 0; j < C; ++j) {
        const double value = curvature[std::min(i, j) * C + std::max(i, j)];
        bias[j] -= means[k * C + i] * value;
        curvatures[(k * C + i) * C + j] = T(value);
      }
    for (int64_t c = 0; c < C; ++c) biases[k * C + c] = T(bias[c]);
  });
  if (found.inputs)
    parallel(parts * z.pairs(), z.threads, work * 2, [&](int64_t i) {
      const int64_t part = i / z.pairs(), k = i % z.pairs();
      if (!found.inputs[k]) return;
      const std::vector<Term<T>> terms{
          {upstream[k % z.edges], O, &slopes[k * size]}, {inputs[k], C, &curvatures[k * C * C]}};
      affine<T, BYTES>(&biases[k * C], terms, {}, found.inputs[k], C, z.first(part), z.first(part + 1));
    });
  const double image = double(z.pixels) * O;
  if (found.scale && z.features)
    parallel(z.features * z.edges, z.threads, z.features * z.edges * image, [&](int64_t i) {
      found.scale[z.pairs() + i] = T(inner<T, BYTES>(upstream[i % z.edges], features[i / z.edges], z.pixels * O));
    });
  if (found.features)
    parallel(z.features * parts, z.threads, z.features * z.edges * image, [&](int64_t i) {
      const int64_t f = i / parts, part = i % parts;
      const T* weights = scale + (z.terms + f) * z.edges;
      if (T* to = found.features[f])
        weighted_total<T, BYTES>(upstream, weights, z.edges, to, z.first(part) * O, z.first(part + 1) * O);
    });
}

template <class T>
int run_forward(const Sizes& z, double eps, const void* const* in, void* const* out) {
  const auto from = reinterpret_cast<const T* const*>(in);
  const auto to = reinterpret_cast<T* const*>(out);
  return in_vectors<T>(z.channels, z.outputs, [&](auto bytes) {
    const auto kernels = from + 1, inputs = kernels + z.pairs();
    const Statistics<T> found{to[0], to[1], to[2], to[3], to[4]};
    forward<T, bytes>(z, eps, from[0], kernels, inputs, inputs + z.pairs(), found, to + 5);
    return int(DONE);
  });
}

template <class T>
int run_evaluation(const Sizes& z, double eps, const void* const* in, void* const* out) {
  const auto from = reinterpret_cast<const T* const*>(in);
  const auto all = [&](const T* p) { return std::vector<double>(p, p + z.pairs() * z.outputs); };
  return in_vectors<T>(z.channels, z.outputs, [&](auto bytes) {
    const auto kernels = from + 3, inputs = kernels + z.pairs();
    normalize<T, bytes>(
        z, eps, from[0], kernels, inputs, inputs + z.pairs(), all(from[1]), all(from[2]),
        reinterpret_cast<T* const*>(out));
    return int(DONE);
  });
}

template <class T>
int run_backward(const Sizes& z, double eps, const void* const* in, void* const* out) {
  const auto from = reinterpret_cast<const T* const*>(in);
  const auto to = reinterpret_cast<T* const*>(out);
  const auto any = [](T* const* first, int64_t count) {
    return std::any_of(first, first + count, [](T* p) { return p != nullptr; }) ? first : nullptr;
  };
  T *const *kernels = any(to + 1, z.pairs()), *const *inputs = any(to + 1 + z.pairs(), z.pairs());
  const Gradients<T> found{to[0], kernels, inputs, any(to + 1 + 2 * z.pairs(), z.features)};
  return in_vectors<T>(z.channels, z.outputs, [&](auto bytes) {
    const auto statistics = from + 1 + z.pairs(), gradients = statistics + 3, inputs = gradients + z.edges;
    backward<T, bytes>(
        z, eps, from[0], from + 1, statistics[0], statistics[1], statistics[2], gradients, inputs, inputs + z.pairs(),
        found);
    return int(DONE);
  });
}

}  // namespace

// sizes: bytes of a number, then `Sizes`. in: scale, kernels, inputs, features.
// out: `Statistics`, sums.
extern "C" int normalized_sum(const int64_t* sizes, double eps, const void* const* in, void* const* out) {
  const Sizes z(sizes + 1);
  return of_type(sizes[0], [&](auto number) { return run_forward<decltype(number)>(z, eps, in, out); });
}

// in: scale, means and variances of the outputs, kernels, inputs, features. out: sums.
extern "C" int evaluated_sum(const int64_t* sizes, double eps, const void* const* in, void* const* out) {
  const Sizes z(sizes + 1);
  return of_type(sizes[0], [&](auto number) { return run_evaluation<decltype(number)>(z, eps, in, out); });
}

// in: scale, kernels, means, products, variances, gradients of the sums, inputs, features.
// out: gradients of scale, kernels, inputs and features, or null.
extern "C" int normalized_sum_gradients(const int64_t* sizes, double eps, const void* const* in, void* const* out) {
  const Sizes z(sizes + 1);
  return of_type(sizes[0], [&](auto number) { return run_backward<decltype(number)>(z, eps, in, out); });
}
