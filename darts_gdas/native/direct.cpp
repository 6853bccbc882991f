// Dense convolutions as sums over the taps of a kernel, and their two gradients: for pixels of a row, a tap is a
// product of the matrix of what it reads and its weights. For any odd kernel that pads with zeros to keep the size,
// and any stride.
//
// Images are dealt out in parts that do not depend on the number of threads, so neither do the results.
#include "products.h"

namespace {

constexpr int64_t LEAST_PIXELS = 512;  // of a part: to add up its sums takes the time of some pixels

struct Shape {
  int64_t images, height, width, inputs, outputs, kernel, stride;
  int64_t pad() const { return kernel / 2; }
  int64_t taps() const { return kernel * kernel; }
  int64_t down() const { return (height - 1) / stride + 1; }
  int64_t across() const { return (width - 1) / stride + 1; }
  int64_t size() const { return taps() * inputs * outputs; }
  int64_t parts() const {
    return std::clamp<int64_t>(images * down() * across() / LEAST_PIXELS, 1, std::min(images, MOST_PARTS));
  }
};

// Images with zeros around them, one at a time; as they are where there are none.
template <class T>
class Framed {
 public:
  Framed(const T* images, int64_t height, int64_t width, int64_t channels, int64_t pad)
      : images_(images), height_(height), row_(width * channels), pad_(pad), channels_(channels),
        step_(row_ + 2 * pad * channels), held_(pad ? (height + 2 * pad) * step_ : 0) {}

  int64_t row() const { return step_; }
  int64_t channels() const { return channels_; }

  const T* image(int64_t i) {
    const T* from = images_ + i * height_ * row_;
    if (!pad_) return from;
    for (int64_t r = 0; r < height_; ++r)
      std::copy_n(from + r * row_, row_, &held_[(r + pad_) * step_ + pad_ * channels_]);
    return held_.data();
  }

 private:
  const T* images_;
  int64_t height_, row_, pad_, channels_, step_;
  std::vector<T> held_;
};

// Weights of each tap, [taps][inputs][outputs], of [outputs][inputs][taps]; or with the sides exchanged.
template <class T>
std::vector<T> matrices(const Shape& z, const T* weight, bool exchanged) {
  const int64_t C = z.inputs, O = z.outputs, taps = z.taps();
  std::vector<T> all(z.size());
  for (int64_t o = 0; o < O; ++o)
    for (int64_t c = 0; c < C; ++c)
      for (int64_t t = 0; t < taps; ++t)
        all[t * C * O + (exchanged ? o * C + c : c * O + o)] = weight[(o * C + c) * taps + t];
  return all;
}

// Calls with every part of the images, [first, last).
template <class Task>
void in_parts(const Shape& z, int64_t threads, const Task& task) {
  const int64_t parts = z.parts();
  parallel(parts, threads, double(z.images) * z.down() * z.across() * z.size(), [&](int64_t part) {
    task(part, z.images * part / parts, z.images * (part + 1) / parts);
  });
}

template <class T, int BYTES>
void convolve(const Shape& z, int64_t threads, const T* x, const T* weight, T* y) {
  const std::vector<T> by = matrices(z, weight, false), zeros(z.outputs);
  in_parts(z, threads, [&](int64_t, int64_t first, int64_t last) {
    Framed<T> framed(x, z.height, z.width, z.inputs, z.pad());
    std::vector<Term<T>> terms(z.taps());
    for (int64_t image = first; image < last; ++image) {
      const T* from = framed.image(image);
      for (int64_t i = 0; i < z.down(); ++i) {
        for (int64_t t = 0; t < z.taps(); ++t)
          terms[t] = {
              from + (i * z.stride + t / z.kernel) * framed.row() + t % z.kernel * z.inputs, z.inputs,
              z.stride * z.inputs, &by[t * z.inputs * z.outputs]};
        T* to = y + (image * z.down() + i) * z.across() * z.outputs;
        affine<T, BYTES>({to, z.outputs, z.outputs, zeros.data()}, terms, {}, 0, z.across());
      }
    }
  });
}

// What an image's gradient adds up for one of its rows, at every `stride`th pixel from one on: of the gradients' rows
// those that the taps read there.
template <class T>
void reached(
    const Shape& z, const T* g, int64_t row, const std::vector<T>& by, int64_t i, int64_t j, std::vector<Term<T>>& terms) {
  terms.clear();
  const int64_t pad = z.pad();
  for (int64_t t = 0; t < z.taps(); ++t) {
    const int64_t down = i + pad - t / z.kernel, across = j + pad - t % z.kernel;
    if (down % z.stride || across % z.stride) continue;
    const int64_t r = down / z.stride + pad, c = across / z.stride + pad;
    terms.push_back({g + r * row + c * z.outputs, z.outputs, z.outputs, &by[t * z.inputs * z.outputs]});
  }
}

// Gradients that nobody asks for are null pointers.
template <class T, int BYTES, int WIDE>
void backward(const Shape& z, int64_t threads, const T* g, const T* weight, const T* x, T* dx, T* dw) {
  const int64_t C = z.inputs, O = z.outputs, size = dw ? z.size() : 0, parts = z.parts();
  const std::vector<T> by = dx ? matrices(z, weight, true) : std::vector<T>(), zeros(C);
  std::vector<T> sums(parts * size);
  in_parts(z, threads, [&](int64_t part, int64_t first, int64_t last) {
    Framed<T> framed(x, z.height, z.width, C, z.pad()), gradients(g, z.down(), z.across(), O, z.pad());
    std::vector<Term<T>> terms;
    for (int64_t image = first; image < last; ++image) {
      const T* from = gradients.image(image);
      for (int64_t i = 0; dx && i < z.height; ++i)
        for (int64_t j = 0; j < std::min(z.stride, z.width); ++j) {
          reached(z, from, gradients.row(), by, i, j, terms);
          T* to = dx + ((image * z.height + i) * z.width + j) * C;
          affine<T, BYTES>({to, C, z.stride * C, zeros.data()}, terms, {}, 0, (z.width - 1 - j) / z.stride + 1);
        }
      if (!dw) continue;
      const T* rows = framed.image(image);
      for (int64_t t = 0; t < z.taps(); ++t)
        for (int64_t i = 0; i < z.down(); ++i)
          for (int64_t p = 0; p < z.across(); p += RUN) {
            const T* left = rows + (i * z.stride + t / z.kernel) * framed.row() + (p * z.stride + t % z.kernel) * C;
            const T* right = from + (i + z.pad()) * gradients.row() + (p + z.pad()) * O;
            outers<T, BYTES, WIDE>(
                {left, C, z.stride * C}, {right, O, O}, &sums[part * size + t * C * O], O,
                std::min(RUN, z.across() - p), true);
          }
    }
  });
  for (int64_t o = 0; dw && o < O; ++o)
    for (int64_t c = 0; c < C; ++c)
      for (int64_t t = 0; t < z.taps(); ++t) {
        double total = 0;
        for (int64_t part = 0; part < parts; ++part) total += sums[part * size + (t * C + c) * O + o];
        dw[(o * C + c) * z.taps() + t] = T(total);
      }
}

// Calls with a number of the type that has so many bytes, the bytes of vectors, and the shape.
template <class Task>
int with_numbers(const int64_t* sizes, const Task& task) {
  Shape z;
  std::memcpy(&z, sizes + 2, sizeof z);
  if (z.kernel == 1 && z.stride == 1) z.width *= z.height, z.height = 1;  // then there are no rows
  return of_type(sizes[0], [&](auto number) {
    return in_vectors<decltype(number)>(z.inputs, z.outputs, [&](auto bytes) {
      task(z, number, bytes);
      return int(DONE);
    });
  });
}

}  // namespace

// sizes: bytes of a number, threads, then `Shape`. in: images, weights. out: images.
extern "C" int direct_convolution(const int64_t* sizes, const void* const* in, void* const* out) {
  return with_numbers(sizes, [&](const Shape& z, auto number, auto bytes) {
    using T = decltype(number);
    convolve<T, bytes>(z, sizes[1], (const T*)in[0], (const T*)in[1], (T*)out[0]);
  });
}

// in: images, weights, gradients of the outputs. out: gradients of images and of weights, or null.
extern "C" int direct_convolution_gradients(const int64_t* sizes, const void* const* in, void* const* out) {
  return with_numbers(sizes, [&](const Shape& z, auto number, auto bytes) {
    using T = decltype(number);
    const auto call = [&](auto wide) {
      backward<T, bytes, wide>(
          z, sizes[1], (const T*)in[2], (const T*)in[1], (const T*)in[0], (T*)out[0], (T*)out[1]);
    };
    if (z.outputs % (2 * Vector<T, bytes>::lanes) == 0) call(std::integral_constant<int, 2>());
    else call(std::integral_constant<int, 1>());
  });
}
