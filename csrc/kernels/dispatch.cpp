// Picks the kernel table once, at load: the best level that the machine runs, or the one named by MEMRISTORE_ISA.
#include <atomic>
#include <cstring>

#include "memristore/kernels.hpp"

namespace memristore {

const KernelTable& table_scalar();
#if defined(__x86_64__)
const KernelTable& table_avx2();
const KernelTable& table_avx512();
#elif defined(__aarch64__)
const KernelTable& table_neon();
#endif

std::size_t available(const KernelTable* out[], std::size_t capacity) {
  std::size_t n = 0;
  const auto add = [&](const KernelTable& table) {
    if (n < capacity) out[n++] = &table;
  };
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    add(table_avx512());
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add(table_avx2());
#elif defined(__aarch64__)
  add(table_neon());  // part of the architecture
#endif
  add(table_scalar());
  return n;
}

namespace {

const KernelTable* find(const char* name) {
  const KernelTable* tables[8];
  const std::size_t n = available(tables, 8);
  for (std::size_t i = 0; i < n; ++i)
    if (std::strcmp(tables[i]->name, name) == 0) return tables[i];
  return nullptr;
}

std::atomic<const KernelTable*>& current() {
  static std::atomic<const KernelTable*> table = [] {
    const KernelTable* tables[8];
    available(tables, 8);
    return tables[0];
  }();
  return table;
}

}  // namespace

const KernelTable& active() { return *current().load(std::memory_order_relaxed); }

bool select(const char* name) {
  const KernelTable* table = find(name);
  if (table != nullptr) current().store(table, std::memory_order_relaxed);
  return table != nullptr;
}

}  // namespace memristore
