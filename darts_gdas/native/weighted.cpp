// Weighted sums of images that are normalised by their batch, and of others, edge by edge:
//
//   sum over terms k of s_k (x_k - mean_k) / sqrt(variance_k + eps) + sum over features of t_f z_f.
//
// No normalised image is ever written. Sums over pixels are as in pointwise.cpp: of differences from a
// row, in double from some hundred pixels on, in parts that do not depend on the number of threads.
#include "sums.h"

namespace {

constexpr int64_t LEAST_PART = 1024;  // of pixels

struct Sizes {
  int64_t threads, terms, edges, channels, features, pixels;
  explicit Sizes(const int64_t* all) { std::memcpy(this, all, sizeof *this); }
  int64_t parts() const { return std::clamp<int64_t>(pixels / LEAST_PART, 1, MOST_PARTS); }
  int64_t first(int64_t part) const { return pixels * part / parts(); }
  int64_t pairs() const { return terms * edges; }
  double work() const { return double(pairs() + features * edges) * pixels * channels; }
};

// Calls with the first pixel and the number of pixels of runs that a cache holds.
template <class Call>
void in_runs(const Sizes& z, int64_t part, const Call& call) {
  for (int64_t p = z.first(part); p < z.first(part + 1); p += RUN)
    call(p, std::min(RUN, z.first(part + 1) - p));
}

// y += (x - less) factor, pixel by pixel, with numbers of each channel
template <class T, int BYTES>
void add(const T* x, const T* less, const T* factor, T* y, int64_t channels, int64_t pixels) {
  for (int64_t b = 0; b < channels; b += LANES) {
    const VECTOR from = LOAD(less + b), times = LOAD(factor + b);
    for (int64_t q = b; q < pixels * channels; q += channels)
      STORE(y + q, FUSED(LOAD(x + q) - from, times, LOAD(y + q)));
  }
}

// Where numbers of channels [pairs][channels] go: mean, unbiased variance, inverse of the deviation.
template <class T>
struct Statistics {
  T *mean, *unbiased, *inverse;
};

template <class T, int BYTES>
void forward(
    const Sizes& z, double eps, const T* scale, const T* const* inputs, const T* const* features,
    const Statistics<T>& found, T* const* outputs) {
  const int64_t C = z.channels, parts = z.parts();
  std::vector<double> sums(parts * z.pairs() * 2 * C);
  std::vector<T> middles(z.pairs() * C), factors(z.pairs() * C), biases(z.edges * C);
  for (int64_t i = 0; i < z.pairs() * C; ++i) {  // the first pixel
    const T value = inputs[i / C][i % C];
    middles[i] = std::isfinite(value) ? value : T(0);
  }
  parallel(parts * z.pairs(), z.threads, z.work(), [&](int64_t i) {
    const int64_t part = i / z.pairs(), k = i % z.pairs();
    const T *rows = inputs[k] + z.first(part) * C, *middle = &middles[k * C];
    const auto moved = [&](int64_t at, int64_t b) { return LOAD(rows + at) - LOAD(middle + b); };
    add_sums<T, BYTES>(moved, moved, &sums[i * 2 * C], C, z.first(part + 1) - z.first(part));
  });
  gather(sums, parts);
  std::vector<double> shift(z.edges * C);
  for (int64_t i = 0; i < z.pairs() * C; ++i) {
    const int64_t k = i / C, c = i % C;
    const double step = sums[k * 2 * C + c] / z.pixels;
    const double value = sums[(k * 2 + 1) * C + c] / z.pixels - step * step;
    const double variance = value < 0 ? 0 : value;  // not where it is no number
    const double inverse = 1 / std::sqrt(variance + eps);
    found.mean[i] = T(middles[i] + step);
    found.unbiased[i] = T(variance * z.pixels / (z.pixels - 1));
    found.inverse[i] = T(inverse);
    factors[i] = T(scale[k] * inverse);
    shift[k % z.edges * C + c] -= step * scale[k] * inverse;
  }
  std::copy(shift.begin(), shift.end(), biases.begin());
  const std::vector<T> zeros(C), weights = [&] {  // of features, one for each channel
    std::vector<T> all(z.features * z.edges * C);
    for (size_t i = 0; i < all.size(); ++i) all[i] = scale[z.pairs() + i / C];
    return all;
  }();
  parallel(parts * z.edges, z.threads, z.work(), [&](int64_t i) {
    const int64_t e = i % z.edges;
    in_runs(z, i / z.edges, [&](int64_t p, int64_t pixels) {
      T* y = outputs[e] + p * C;
      for (int64_t q = 0; q < pixels; ++q) std::copy_n(&biases[e * C], C, y + q * C);
      for (int64_t k = e; k < z.pairs(); k += z.edges)
        add<T, BYTES>(inputs[k] + p * C, &middles[k * C], &factors[k * C], y, C, pixels);
      for (int64_t f = 0; f < z.features; ++f)
        add<T, BYTES>(features[f] + p * C, zeros.data(), &weights[(f * z.edges + e) * C], y, C, pixels);
    });
  });
}

// Gradients that nobody asks for are null pointers.
template <class T>
struct Gradients {
  T* scale;
  T *const *inputs, *const *features;
};

template <class T, int BYTES>
void backward(
    const Sizes& z, const T* scale, const T* mean, const T* inverse, const T* const* upstream,
    const T* const* inputs, const T* const* features, const Gradients<T>& found) {
  const int64_t C = z.channels, parts = z.parts(), weighed = z.features * z.edges;
  std::vector<double> sums(parts * z.pairs() * 2 * C), products(parts * weighed);
  parallel(parts * z.edges, z.threads, z.work(), [&](int64_t i) {
    const int64_t part = i / z.edges, e = i % z.edges;
    in_runs(z, part, [&](int64_t p, int64_t pixels) {
      const T* g = upstream[e] + p * C;
      for (int64_t f = e; found.scale && f < weighed; f += z.edges)
        products[part * weighed + f] += inner<T, BYTES>(g, features[f / z.edges] + p * C, pixels * C);
      const auto left = [&](int64_t at, int64_t) { return VECTOR(LOAD(g + at)); };
      for (int64_t k = e; k < z.pairs(); k += z.edges) {
        const T *x = inputs[k] + p * C, *less = mean + k * C;
        const auto right = [&](int64_t at, int64_t b) { return LOAD(x + at) - LOAD(less + b); };
        add_sums<T, BYTES>(left, right, &sums[(part * z.pairs() + k) * 2 * C], C, pixels);
      }
    });
  });
  gather(sums, parts);
  gather(products, parts);
  if (found.scale) std::copy_n(products.begin(), weighed, found.scale + z.pairs());
  // Of every input: its gradient is weight g + slope (x - mean) + bias.
  std::vector<T> weights(z.pairs() * C), slopes(z.pairs() * C), biases(z.pairs() * C);
  for (int64_t k = 0; k < z.pairs(); ++k) {
    double inner = 0;
    for (int64_t c = 0; c < C; ++c) {
      const int64_t i = k * C + c;
      const double product = sums[(k * 2 + 1) * C + c], weight = double(scale[k]) * inverse[i];
      inner += product * inverse[i];
      weights[i] = T(weight);
      slopes[i] = T(-weight * inverse[i] * inverse[i] * product / z.pixels);
      biases[i] = T(-weight * sums[k * 2 * C + c] / z.pixels);
    }
    if (found.scale) found.scale[k] = T(inner);
  }
  parallel(parts, z.threads, z.work(), [&](int64_t part) {
    in_runs(z, part, [&](int64_t p, int64_t pixels) {
      for (int64_t k = 0; k < z.pairs(); ++k) {
        if (!found.inputs[k]) continue;
        const T *g = upstream[k % z.edges] + p * C, *x = inputs[k] + p * C, *less = mean + k * C;
        T* to = found.inputs[k] + p * C;
        for (int64_t b = 0; b < C; b += LANES) {
          const VECTOR weight = LOAD(&weights[k * C + b]), slope = LOAD(&slopes[k * C + b]);
          const VECTOR bias = LOAD(&biases[k * C + b]), from = LOAD(less + b);
          for (int64_t q = b; q < pixels * C; q += C)
            STORE(to + q, FUSED(LOAD(g + q), weight, FUSED(LOAD(x + q) - from, slope, bias)));
        }
      }
      for (int64_t f = 0; f < z.features; ++f)
        if (T* to = found.features[f])
          weighted_total<T, BYTES>(
              upstream, scale + (z.terms + f) * z.edges, z.edges, to, p * C, (p + pixels) * C);
    });
  });
}

// Calls with vectors of so many bytes, and with what is read and written as numbers of the type that is asked for.
template <class Task>
int with_numbers(const int64_t* sizes, const void* const* in, void* const* out, const Task& task) {
  const Sizes z(sizes + 1);
  return of_type(sizes[0], [&](auto number) {
    using T = decltype(number);
    return in_vectors<T>(z.channels, 0, [&](auto bytes) {
      task(z, bytes, reinterpret_cast<const T* const*>(in), reinterpret_cast<T* const*>(out));
      return int(DONE);
    });
  });
}

}  // namespace

// sizes: bytes of a number, then `Sizes`. in: scale, inputs, features. out: `Statistics`, sums.
extern "C" int weighted_sums(const int64_t* sizes, double eps, const void* const* in, void* const* out) {
  return with_numbers(sizes, in, out, [&](const Sizes& z, auto bytes, auto* from, auto* to) {
    const auto inputs = from + 1;
    using T = std::decay_t<decltype(**to)>;
    forward<T, bytes>(z, eps, from[0], inputs, inputs + z.pairs(), {to[0], to[1], to[2]}, to + 3);
  });
}

// in: scale, means, inverses, gradients of the sums, inputs, features.
// out: gradients of scale, inputs and features, or null.
extern "C" int weighted_sums_gradients(const int64_t* sizes, const void* const* in, void* const* out) {
  return with_numbers(sizes, in, out, [&](const Sizes& z, auto bytes, auto* from, auto* to) {
    const auto gradients = from + 3, inputs = gradients + z.edges;
    using T = std::decay_t<decltype(**to)>;
    backward<T, bytes>(
        z, from[0], from[1], from[2], gradients, inputs, inputs + z.pairs(), {to[0], to + 1, to + 1 + z.pairs()});
  });
}
