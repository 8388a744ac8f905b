// Threads over chunks of a cell range. Every value is a function of its cell, so cutting a range changes no bits.
#pragma once
#include <cstddef>

namespace memristore {

inline constexpr std::size_t kChunk = 65536;

// 0 means all; never more than there are chunks; one thread in a child made by fork (OpenMP's pool does not survive it).
int resolve_threads(int requested, std::size_t chunks);
// Threads that 0 stands for.
int max_threads();

template <class Body>
void for_chunks(std::size_t n, int threads, Body body) {
  const std::size_t chunks = (n + kChunk - 1) / kChunk;
  const int used = resolve_threads(threads, chunks);
  if (used <= 1) {
    if (n != 0) body(std::size_t{0}, n);
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(used)
  for (std::size_t c = 0; c < chunks; ++c) {
    const std::size_t start = c * kChunk;
    body(start, (n - start < kChunk) ? n - start : kChunk);
  }
}

}  // namespace memristore
