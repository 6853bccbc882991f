// Vectors of numbers, and work divided among threads: what all kernels share.
//
// Products are fused with sums where the source says so, and nowhere else (`-ffp-contract=off`): left
// to the compiler, it may depend on where numbers lie in memory, and with it the last bits.
#pragma once
#include <immintrin.h>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>

template <class T, int BYTES>
struct Vector {
  static constexpr int lanes = BYTES / sizeof(T);
  typedef T type __attribute__((vector_size(BYTES)));
  typedef T unaligned __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
  static type fused(type a, type b, type sum) {
    if constexpr (sizeof(T) == sizeof(double)) return type(_mm256_fmadd_pd(a, b, sum));
#ifdef __AVX512F__
    else if constexpr (BYTES == 64) return type(_mm512_fmadd_ps(a, b, sum));
#endif
    else if constexpr (BYTES == 32) return type(_mm256_fmadd_ps(a, b, sum));
    else return type(_mm_fmadd_ps(a, b, sum));
  }
};

enum Status { DONE = 0, NO_MEMORY = 1, NOT_HERE = 2 };

// Calls with the bytes of the widest vectors of which channels are whole numbers. Of double, which
// tests compute with, there is one kind.
template <class T, class Call>
int in_vectors(int64_t channels, int64_t others, const Call& call) {
  const auto fits = [&](int bytes) {
    const int64_t lanes = bytes / sizeof(T);
    return channels % lanes == 0 && others % lanes == 0;
  };
  if constexpr (sizeof(T) == sizeof(float)) {
#ifdef __AVX512F__
    if (fits(64)) return call(std::integral_constant<int, 64>());
#endif
    if (fits(32)) return call(std::integral_constant<int, 32>());
    if (fits(16)) return call(std::integral_constant<int, 16>());
  } else if (fits(32)) {
    return call(std::integral_constant<int, 32>());
  }
  return NOT_HERE;
}

// Calls with a number of the type that has so many bytes.
template <class Call>
int of_type(int64_t bytes, const Call& call) {
  try {
    return bytes == sizeof(double) ? call(double()) : call(float());
  } catch (...) {  // no memory, or more than can be asked for
    return NO_MEMORY;
  }
}

// In functions with T and BYTES as template parameters. FUSED is a b + sum, ALL has x in every lane.
#define VECTOR typename Vector<T, BYTES>::type
#define LANES (Vector<T, BYTES>::lanes)
#define LOAD(p) (*reinterpret_cast<const typename Vector<T, BYTES>::unaligned*>(p))
#define FUSED(a, b, sum) (Vector<T, BYTES>::fused(a, b, sum))
#define ALL(x) ((x) - VECTOR{})
#define STORE(p, v) (*reinterpret_cast<typename Vector<T, BYTES>::unaligned*>(p) = (v))

constexpr int64_t MOST_PARTS = 16;  // of work, however many threads there are
constexpr int64_t RUN = 128;        // pixels whose sum is taken in the numbers' own type

// Partial sums of all parts, in the order of the parts, into the first.
inline void gather(std::vector<double>& sums, int64_t parts) {
  const int64_t size = sums.size() / parts;
  for (int64_t part = 1; part < parts; ++part)
    for (int64_t i = 0; i < size; ++i) sums[i] += sums[part * size + i];
}

constexpr double LEAST_WORK = 1e6;  // multiplications that pay for a thread: some 50 microseconds

// Runs a function on so many threads: `GOMP_parallel` of the OpenMP library that torch computes with.
// Threads of our own would wait for cores on which torch's spin.
typedef void (*Team)(void (*)(void*), void*, unsigned, unsigned);
extern Team team;

// Calls task(i) for all i < count. Who does which does not matter to the result.
template <class Task>
void parallel(int64_t count, int64_t threads, double work, const Task& task) {
  threads = std::min({threads, count, int64_t(work / LEAST_WORK) + 1});
  if (threads <= 1 || !team) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  struct Shared {
    const Task& task;
    const int64_t count;
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
  } shared{task, count};
  const auto run = [](void* data) {
    Shared& all = *static_cast<Shared*>(data);
    try {
      for (int64_t i; (i = all.next++) < all.count;) all.task(i);
    } catch (...) {
      all.failed = true;
    }
  };
  team(run, &shared, unsigned(threads), 0);
  if (shared.failed) throw std::bad_alloc();
}
