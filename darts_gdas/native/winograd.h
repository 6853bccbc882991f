// Tiles of 2x2 outputs of convolutions of 3x3 pixels, and what becomes of them: the transforms of F(2x2, 3x3).
#pragma once
#include "common.h"

namespace {

constexpr int64_t TAPS = 9, POINTS = 16;

// Numbers that begin where a line of the cache does (of vectors that do not, every second lies in two lines), and
// that nobody has set.
template <class T>
struct FromLine {
  typedef T value_type;
  FromLine() = default;
  template <class Other>
  FromLine(const FromLine<Other>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), LINE)); }
  void deallocate(T* p, size_t) { ::operator delete(p, LINE); }
  void construct(T*) {}
  void construct(T* p, T value) { *p = value; }
  bool operator==(const FromLine&) const { return true; }
  bool operator!=(const FromLine&) const { return false; }
  static constexpr std::align_val_t LINE{64};
};

template <class T>
using Numbers = std::vector<T, FromLine<T>>;

// Images of one size, whose channels follow each other as if they were one's.
template <class T>
struct Several {
  T* const* first;
  int64_t count, channels;
};

struct Shape {
  int64_t images, height, width, inputs, outputs, sets, rectified;
  int64_t down() const { return (height + 1) / 2; }
  int64_t across() const { return (width + 1) / 2; }
  int64_t tiles() const { return down() * across(); }  // of an image
  double work() const { return double(images) * tiles() * POINTS * inputs * outputs; }
};

// Where a tile lies.
struct Place {
  int64_t image, i = 0, j = 0;
  void next(const Shape& z) {
    if (++j < z.across()) return;
    j = 0;
    if (++i < z.down()) return;
    i = 0;
    ++image;
  }
};

// Asks the memory for 2x2 pixels; those behind the images' end are not there, and that does no harm. Not inlined,
// GCC takes it for a function without effects, and leaves it out
// (findings/gcc_drops_calls_of_functions_that_only_prefetch.sh).
template <int TO_WRITE, class T>
__attribute__((always_inline)) inline void fetch_pixels(const T* first, int64_t row, int64_t channels) {
  for (int64_t b = 0; b < 2 * channels; b += 64 / int64_t(sizeof(T))) {
    __builtin_prefetch(first + b, TO_WRITE);
    __builtin_prefetch(first + row + b, TO_WRITE);
  }
}

// A row of tiles, transformed down its columns: B^T d of images or of their ReLU, A y of gradients, but for the sign
// of its last row. Four rows with zeros where the image ends, so that tiles do not ask where they lie.
template <class T, int BYTES, bool GRADIENTS>
class Strip {
 public:
  Strip(const T* images, const Shape& z, int64_t channels, bool rectified)
      : images_(images), z_(z), rectified_(rectified), channels_(channels), wide_(z.width * channels), row_((2 * z.across() + 2) * channels),
        held_(4 * row_, T(0)), zeros_(wide_, T(0)) {}

  int64_t row() const { return row_; }
  int64_t channels() const { return channels_; }

  // What a tile will read of the next strip, asked of the memory ahead of time.
  __attribute__((always_inline)) void fetch(const Place& at) const {
    const T* first = images_ + (at.image * z_.height + 2 * at.i + (GRADIENTS ? 2 : 3)) * wide_;
    fetch_pixels<0>(first + 2 * at.j * channels_, wide_, channels_);
  }

  // The first pixel of what a tile reads.
  const T* tile(const Place& at) {
    if (at.image != image_ || at.i != i_) {
      if (rectified_) move<true>(at.image, at.i);
      else move<false>(at.image, at.i);
    }
    return &held_[(2 * at.j + GRADIENTS) * channels_];
  }

 private:
  template <bool RECTIFIED>
  void move(int64_t image, int64_t i) {
    image_ = image;
    i_ = i;
    const auto from = [&](int64_t r) {
      return r < 0 || r >= z_.height ? zeros_.data() : images_ + (image * z_.height + r) * wide_;
    };
    const T *first = from(2 * i - 1), *second = from(2 * i), *third = from(2 * i + 1), *fourth = from(2 * i + 2);
    const auto read = [](const T* at) {
      const VECTOR value = LOAD(at), zero = {};
      return RECTIFIED ? VECTOR(value < zero ? zero : value) : value;  // what is no number stays
    };
    T* to = &held_[channels_];
    for (int64_t b = 0; b < wide_; b += LANES, to += LANES) {
      const VECTOR p = read(second + b), q = read(third + b);
      STORE(to, GRADIENTS ? p : read(first + b) - q);
      STORE(to + row_, p + q);
      STORE(to + 2 * row_, GRADIENTS ? p - q : q - p);
      STORE(to + 3 * row_, GRADIENTS ? q : p - read(fourth + b));
    }
  }

  const T* images_;
  const Shape z_;
  const bool rectified_;
  const int64_t channels_, wide_, row_;
  Numbers<T> held_, zeros_;
  int64_t image_ = -1, i_ = -1;
};

// A tile's points, which are to lie `apart`, of a strip: (B^T d) B or (A y) A^T, with the same signs.
template <class T, int BYTES, bool GRADIENTS>
inline void transform(const T* strip, int64_t row, int64_t channels, T* v, int64_t apart) {
  for (int64_t i = 0; i < 4; ++i, strip += row, v += 4 * apart)
    for (int64_t b = 0; b < channels; b += LANES) {
      const T* from = strip + b;
      T* to = v + b;
      const VECTOR first = LOAD(from), second = LOAD(from + channels);
      if constexpr (GRADIENTS) {
        STORE(to, first);
        STORE(to + apart, first + second);
        STORE(to + 2 * apart, first - second);
        STORE(to + 3 * apart, second);
      } else {
        const VECTOR third = LOAD(from + 2 * channels);
        STORE(to, first - third);
        STORE(to + apart, second + third);
        STORE(to + 2 * apart, third - second);
        STORE(to + 3 * apart, second - LOAD(from + 3 * channels));
      }
    }
}

// A tile's outputs, A^T m A of WIDE vectors: 2x2 of them, or what of these is in the image. Zero where what was
// seen there, if anything, is not above.
template <class T, int BYTES, int WIDE>
inline void finish(const T* m, T* y, const T* seen, int64_t row, int64_t channels, bool below, bool beside) {
  const auto put = [&](int64_t at, VECTOR value) {
    const VECTOR zero = {};
    STORE(y + at, seen ? VECTOR(LOAD(seen + at) <= zero ? zero : value) : value);
  };
  for (int w = 0; w < WIDE; ++w, m += LANES, y += LANES, seen += seen ? LANES : 0) {
    VECTOR t[2][4];
    for (int j = 0; j < 4; ++j) {
      const T* at = m + j * WIDE * LANES;
      const VECTOR second = LOAD(at + 4 * WIDE * LANES), third = LOAD(at + 8 * WIDE * LANES);
      t[0][j] = LOAD(at) + second + third;
      t[1][j] = second - third - LOAD(at + 12 * WIDE * LANES);
    }
    put(0, t[0][0] + t[0][1] + t[0][2]);
    if (beside) put(channels, t[0][1] - t[0][2] - t[0][3]);
    if (below) put(row, t[1][0] + t[1][1] + t[1][2]);
    if (below && beside) put(row + channels, t[1][1] - t[1][2] - t[1][3]);
  }
}

// Where kernels lie: numbers from an output, an input and a tap to the next one.
template <class T>
struct Kernels {
  const T* first;
  int64_t output, input, tap;
};

// G g G^T of kernels: [panels of outputs][points][inputs][panel], of inputs that are among others.
template <class T, int PANEL>
void transform_kernels(const Kernels<T>& kernels, int64_t inputs, int64_t outputs, int64_t among, T* u) {
  constexpr int64_t panel = PANEL;
  T g[TAPS * PANEL];
  for (int64_t first = 0; first < outputs; first += panel)
    for (int64_t c = 0; c < inputs; ++c) {
      for (int64_t o = 0; o < panel; ++o) {
        const T* from = kernels.first + (first + o) * kernels.output + c * kernels.input;
        for (int64_t t = 0; t < TAPS; ++t) g[t * panel + o] = from[t * kernels.tap];
      }
      const int64_t apart = (among + 1) * panel;  // not a power of two, so not in each other's way
      T* to = u + first / panel * POINTS * apart + c * panel;
      for (int64_t o = 0; o < panel; ++o) {
        T rows[4][3];
        for (int j = 0; j < 3; ++j) {
          const T top = g[j * panel + o], middle = g[(3 + j) * panel + o], low = g[(6 + j) * panel + o];
          rows[0][j] = top;
          rows[1][j] = (top + low + middle) / 2;
          rows[2][j] = (top + low - middle) / 2;
          rows[3][j] = low;
        }
        for (int i = 0; i < 4; ++i) {
          const T left = rows[i][0], middle = rows[i][1], right = rows[i][2];
          to[(4 * i) * apart + o] = left;
          to[(4 * i + 1) * apart + o] = (left + right + middle) / 2;
          to[(4 * i + 2) * apart + o] = (left + right - middle) / 2;
          to[(4 * i + 3) * apart + o] = right;
        }
      }
    }
}

}  // namespace
