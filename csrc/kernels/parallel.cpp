#include "memristore/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <atomic>

namespace memristore {
namespace {

std::atomic<bool> forked{false};
std::atomic<int> busy{0};

const bool watching = [] {
  pthread_atfork(nullptr, nullptr, [] {
    forked.store(true);
    busy.store(0);
  });
  return true;
}();

}  // namespace

int max_threads() { return watching && forked.load() ? 1 : omp_get_max_threads(); }

Threads::Threads(int requested, std::size_t chunks) {
  int wanted = requested;
  std::size_t worth = chunks;
  if (forked.load()) {
    wanted = 1;
  } else if (requested <= 0) {
    const int free = max_threads() - busy.load();
    wanted = free > 1 ? free : 1;
    worth = chunks < 4 ? 1 : chunks / 4;
  }
  count_ = static_cast<std::size_t>(wanted) > worth ? static_cast<int>(worth) : wanted;
  busy.fetch_add(count_);
}

Threads::~Threads() { busy.fetch_sub(count_); }

}  // namespace memristore
