// Threads over chunks of a cell range. Every value is a function of its cell, so cutting a range changes no bits.
#pragma once
#include <cstddef>

namespace memristore {

inline constexpr std::size_t kChunk = 65536;

// Threads that 0 stands for when nothing else runs.
int max_threads();

// Threads of one call, given back at its end. 0 asks for all that other calls of this process leave free, so that several
// Python threads do not oversubscribe the machine, and for no more than one for every four chunks: waking a thread for less
// costs more than it brings, above all where other processes hold its core. A positive number is taken as said, up to the
// number of chunks. One thread in a child made by fork: OpenMP's pool does not survive it.
class Threads {
 public:
  Threads(int requested, std::size_t chunks);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  int count() const { return count_; }

 private:
  int count_;
};

// Pieces of `size` of n things.
template <class Body>
void for_pieces(std::size_t n, std::size_t size, int threads, Body body) {
  if (n == 0) return;
  const std::size_t chunks = (n + size - 1) / size;
  const Threads held(threads, chunks);
  const int used = held.count();
  if (used <= 1) {
    body(std::size_t{0}, n);
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(used)
  for (std::size_t c = 0; c < chunks; ++c) {
    const std::size_t start = c * size;
    body(start, (n - start < size) ? n - start : size);
  }
}

template <class Body>
void for_chunks(std::size_t n, int threads, Body body) {
  for_pieces(n, kChunk, threads, body);
}

}  // namespace memristore
