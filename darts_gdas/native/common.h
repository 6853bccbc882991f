// Vectors of numbers, and work divided among threads: what all kernels share.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

template <class T, int BYTES>
struct Vector {
  static constexpr int lanes = BYTES / sizeof(T);
  typedef T type __attribute__((vector_size(BYTES)));
  typedef T unaligned __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
};

// Bytes of the widest vectors; of double, which tests compute with, the shorter do.
template <class T>
constexpr int widest() {
#ifdef __AVX512F__
  return sizeof(T) == sizeof(float) ? 64 : 32;
#else
  return 32;
#endif
}

// In functions with T and BYTES as template parameters.
#define VECTOR typename Vector<T, BYTES>::type
#define LANES (Vector<T, BYTES>::lanes)
#define LOAD(p) (*reinterpret_cast<const typename Vector<T, BYTES>::unaligned*>(p))
#define STORE(p, v) (*reinterpret_cast<typename Vector<T, BYTES>::unaligned*>(p) = (v))

enum Status { DONE = 0, NO_MEMORY = 1, NOT_HERE = 2 };

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
    } catch (const std::bad_alloc&) {
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
