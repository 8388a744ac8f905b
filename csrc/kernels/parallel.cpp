#include "memristore/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <atomic>

namespace memristore {
namespace {

std::atomic<bool> forked{false};

const bool watching = [] {
  pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
  return true;
}();

}  // namespace

int max_threads() { return watching && forked.load() ? 1 : omp_get_max_threads(); }

int resolve_threads(int requested, std::size_t chunks) {
  int threads = max_threads();
  if (requested > 0 && !forked.load()) threads = requested;
  return static_cast<std::size_t>(threads) > chunks ? static_cast<int>(chunks) : threads;
}

}  // namespace memristore
