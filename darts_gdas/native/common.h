// Vectors of numbers, and work divided among threads: what all kernels share.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

template <class T, int BYTES>
struct Vector {
  static constexpr int lanes = BYTES / sizeof(T);
  typedef T type __attribute__((vector_size(BYTES)));
  typedef T unaligned __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
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

// In functions with T and BYTES as template parameters.
#define VECTOR typename Vector<T, BYTES>::type
#define LANES (Vector<T, BYTES>::lanes)
#define LOAD(p) (*reinterpret_cast<const typename Vector<T, BYTES>::unaligned*>(p))
#define STORE(p, v) (*reinterpret_cast<typename Vector<T, BYTES>::unaligned*>(p) = (v))

constexpr double LEAST_WORK = 5e5;  // multiplications that pay for a thread: some 100 microseconds

// Calls task(i) for all i < count. Who does which does not matter to the result.
template <class Task>
void parallel(int64_t count, int64_t threads, double work, const Task& task) {
  threads = std::min({threads, count, int64_t(work / LEAST_WORK) + 1});
  if (threads <= 1) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  const auto run = [&] {
    try {
      for (int64_t i; (i = next++) < count;) task(i);
    } catch (...) {
      failed = true;
    }
  };
  std::vector<std::thread> others;
  try {
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(run);
  } catch (...) {  // fewer threads than wanted
  }
  run();
  for (auto& other : others) other.join();
  if (failed) throw std::bad_alloc();
}
