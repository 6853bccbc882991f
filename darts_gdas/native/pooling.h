// What the norm of pooled images and its gradient share.
#pragma once
#include "sums.h"

namespace {

struct Geometry {
  int64_t images, height, width, channels, out_height, out_width, stride;
  int64_t row() const { return width * channels; }
  int64_t out_row() const { return out_width * channels; }
  int64_t image() const { return height * row(); }
  int64_t out_image() const { return out_height * out_row(); }
  int64_t out_pixels() const { return images * out_height * out_width; }
  int64_t parts() const { return std::min(images, MOST_PARTS); }
  int64_t first(int64_t part) const { return images * part / parts(); }
  double work() const { return 9. * images * out_image(); }
};

// What is taken of a window; PIXEL is of images that are normalised as they are.
enum Taken { MEAN = 0, LARGEST = 1, PIXEL = 2 };

// Which of up to three rows or columns, from first to before last, the window at a place has inside.
struct Inside {
  int64_t first, last;
  Inside(int64_t place, int64_t stride, int64_t size)
      : first(place == 0), last(std::min<int64_t>(3, size + 1 - place * stride)) {}
  int64_t count() const { return last - first; }
};

// Which pixel of a window, 0 to 8 in the order of scanning, is a whole number as wide as what is pooled;
// in memory it is a byte.
template <class T>
using Whole = std::conditional_t<sizeof(T) == sizeof(double), int64_t, int32_t>;

#define TAP decltype(typename Vector<T, BYTES>::type{} > typename Vector<T, BYTES>::type{})
#define LOAD_TAP(p) (*reinterpret_cast<const typename Vector<Whole<T>, BYTES>::unaligned*>(p))
#define STORE_TAP(p, v) (*reinterpret_cast<typename Vector<Whole<T>, BYTES>::unaligned*>(p) = (v))

template <class From, class To>
void convert(const From* __restrict from, To* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = To(from[i]);
}

// Calls with what is taken, and with the type of numbers and the bytes of vectors.
template <class Call>
int chosen(const int64_t* sizes, const Geometry& z, const Call& call) {
  return of_type(sizes[0], [&](auto number) {
    return in_vectors<decltype(number)>(z.channels, 0, [&](auto bytes) {
      switch (sizes[2]) {
        case MEAN: call(number, bytes, std::integral_constant<Taken, MEAN>()); return int(DONE);
        case LARGEST: call(number, bytes, std::integral_constant<Taken, LARGEST>()); return int(DONE);
        case PIXEL: call(number, bytes, std::integral_constant<Taken, PIXEL>()); return int(DONE);
      }
      return int(NOT_HERE);
    });
  });
}

}  // namespace
