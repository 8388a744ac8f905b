// Trellis-coded quantisation.
#include <algorithm>
#include <vector>

#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"
#include "memristore/trellis.hpp"

namespace memristore::bindings {
namespace {

void check_trellis(std::uint32_t states) {
  if (states != 4 && states != 8 && states != 16 && states != 32 && states != 64)
    throw py::value_error("states: must be 4, 8, 16, 32 or 64, not " + std::to_string(states));
}

// Levels may also be those of a uniform quantiser, which has one state and needs no search.
void check_states(std::uint32_t states) {
  if (states != 1) check_trellis(states);
}

void check_limit(std::int32_t limit) {
  if (limit < 1 || limit > 4095) throw py::value_error("limit: must be 1 to 4095, not " + std::to_string(limit));
}

const std::uint8_t* check_classes(View<const std::uint8_t> classes, std::size_t n, std::size_t count) {
  if (classes.n == 0) return nullptr;
  same_length(n, classes.n, "classes");
  for (std::size_t i = 0; i < n; ++i)
    if (classes.data[i] >= count) throw py::value_error("classes: must be below their number");
  return classes.data;
}

// Runs body(start, count) on each block of a chunk.
template <class Body>
void for_blocks(std::size_t n, int threads, Body body) {
  static_assert(kChunk % kTrellisBlock == 0);
  for_chunks(n, threads, [&](std::size_t start, std::size_t count) {
    for (std::size_t done = 0; done < count; done += kTrellisBlock)
      body(start + done, std::min(kTrellisBlock, count - done));
  });
}

void search(const py::buffer& values, std::uint32_t states, float inverse_step, std::int32_t limit,
            const py::buffer& costs, const py::buffer& classes, const py::buffer& shifts, const py::buffer& levels,
            int threads) {
  check_trellis(states);
  check_limit(limit);
  const auto x = input<float>(values, "values");
  const auto table = input<float>(costs, "costs");
  const auto shift = input<float>(shifts, "shifts");
  const auto out = output<std::int32_t>(levels, "levels");
  same_length(x.n, out.n, "levels");
  same_length(kTrellisShifts, shift.n, "shifts");
  check_range(0, x.n, threads);
  const std::size_t size = (2 * static_cast<std::size_t>(limit) + 1) * states;
  if (table.n == 0 || table.n % size != 0) throw py::value_error("costs: must be classes x (2 limit + 1) x states");
  const auto* const of = check_classes(input<std::uint8_t>(classes, "classes"), x.n, table.n / size);
  TrellisSearch t = {states, limit, inverse_step, table.data, {}};
  std::copy_n(shift.data, kTrellisShifts, t.shifts);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_blocks(x.n, threads, [&](std::size_t start, std::size_t n) {
    thread_local std::vector<std::uint8_t> scratch;
    scratch.resize(trellis_scratch(states, n));
    kernels.trellis(t, x.data + start, of == nullptr ? nullptr : of + start, n, scratch.data(), out.data + start);
  });
}

TrellisMemory memory_of(View<const std::uint32_t> memory) {
  if (memory.n == 0 || memory.n > 16 || memory.data[0] > 15)
    throw py::value_error("memory: must be a decay below 16 and at most 15 bounds");
  return {memory.data[0], static_cast<std::uint32_t>(memory.n - 1), memory.data + 1};
}

TrellisContexts contexts_of(std::uint32_t states, std::int32_t limit, View<const std::uint8_t> group,
                            std::uint32_t groups, View<const std::uint32_t> memory, std::size_t contexts) {
  check_states(states);
  check_limit(limit);
  same_length(states, group.n, "group");
  for (std::size_t i = 0; i < group.n; ++i)
    if (group.data[i] >= groups) throw py::value_error("group: must be below the number of groups");
  const TrellisContexts c = {states, limit, group.data, groups, memory_of(memory)};
  if (contexts != memory.n * groups || contexts > kTrellisMaxContexts)
    throw py::value_error("counts: must be for (bounds + 1) x groups, at most " + std::to_string(kTrellisMaxContexts));
  return c;
}

void count(const py::buffer& levels, std::uint32_t states, std::int32_t limit, const py::buffer& group,
           std::uint32_t groups, const py::buffer& memory, const py::buffer& counts) {
  const auto k = input<std::int32_t>(levels, "levels");
  const auto out = output<std::uint32_t>(counts, "counts");
  check_limit(limit);
  const std::size_t width = 2 * static_cast<std::size_t>(limit) + 1;
  if (out.n % width != 0) throw py::value_error("counts: must be contexts x (2 limit + 1)");
  const auto c = contexts_of(states, limit, input<std::uint8_t>(group, "group"), groups,
                             input<std::uint32_t>(memory, "memory"), out.n / width);
  const Unlocked unlocked;
  for_blocks(k.n, 1, [&](std::size_t start, std::size_t n) { trellis_count(c, k.data + start, n, out.data); });
}

std::size_t split(const py::buffer& levels, std::uint32_t states, std::int32_t limit, const py::buffer& group,
                  std::uint32_t groups, const py::buffer& memory, const py::buffer& counts, const py::buffer& symbols,
                  const py::buffer& escapes) {
  const auto k = input<std::int32_t>(levels, "levels");
  const auto queues = output<std::uint32_t>(counts, "counts");
  const auto out = output<std::int32_t>(symbols, "symbols");
  const auto more = output<std::int32_t>(escapes, "escapes");
  const auto c = contexts_of(states, limit, input<std::uint8_t>(group, "group"), groups,
                             input<std::uint32_t>(memory, "memory"), queues.n);
  same_length(k.n, out.n, "symbols");
  same_length(k.n, more.n, "escapes");
  if (k.n > kTrellisBlock) throw py::value_error("levels: must be one block");
  const Unlocked unlocked;
  return trellis_split(c, k.data, k.n, queues.data, queues.n, out.data, more.data);
}

void join(const py::buffer& symbols, std::uint32_t states, std::int32_t limit, const py::buffer& group,
          std::uint32_t groups, const py::buffer& memory, const py::buffer& counts, const py::buffer& escapes,
          const py::buffer& levels) {
  const auto in = input<std::int32_t>(symbols, "symbols");
  const auto queues = input<std::uint32_t>(counts, "counts");
  const auto more = input<std::int32_t>(escapes, "escapes");
  const auto k = output<std::int32_t>(levels, "levels");
  const auto c = contexts_of(states, limit, input<std::uint8_t>(group, "group"), groups,
                             input<std::uint32_t>(memory, "memory"), queues.n);
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < queues.n; ++i) total += queues.data[i];
  if (total != in.n) throw py::value_error("counts: must add up to the symbols");
  if (k.n > kTrellisBlock) throw py::value_error("levels: must be one block");
  const Unlocked unlocked;
  trellis_join(c, in.data, queues.data, queues.n, more.data, more.n, k.n, k.data);
}

void classes(const py::buffer& points, const py::buffer& memory, const py::buffer& classes, int threads) {
  const auto x = input<float>(points, "points");
  const auto out = output<std::uint8_t>(classes, "classes");
  const auto m = memory_of(input<std::uint32_t>(memory, "memory"));
  same_length(x.n, out.n, "classes");
  check_range(0, x.n, threads);
  const Unlocked unlocked;
  for_blocks(x.n, threads,
             [&](std::size_t start, std::size_t n) { trellis_classes(m, x.data + start, n, out.data + start); });
}

void points(const py::buffer& levels, std::uint32_t states, const py::buffer& shifts, const py::buffer& out,
            int threads, std::uint32_t state) {
  check_states(states);
  if (state >= states) throw py::value_error("state: must be below the number of states");
  const auto k = input<std::int32_t>(levels, "levels");
  const auto shift = input<float>(shifts, "shifts");
  const auto y = output<float>(out, "out");
  same_length(kTrellisShifts, shift.n, "shifts");
  same_length(k.n, y.n, "out");
  check_range(0, k.n, threads);
  const Unlocked unlocked;
  for_blocks(k.n, threads, [&](std::size_t start, std::size_t n) {
    trellis_points(states, start == 0 ? state : 0, shift.data, k.data + start, n, y.data + start);
  });
}

}  // namespace

void register_trellis(py::module_& m) {
  using py::arg;
  m.attr("TRELLIS_BLOCK") = kTrellisBlock;
  m.attr("TRELLIS_MAX_LEVEL") = kTrellisMaxLevel;
  m.def("trellis_search", &search, arg("values"), arg("states"), arg("inverse_step"), arg("limit"), arg("costs"),
        arg("classes"), arg("shifts"), arg("levels"), arg("threads") = 0);
  m.def("trellis_count", &count, arg("levels"), arg("states"), arg("limit"), arg("group"), arg("groups"), arg("memory"),
        arg("counts"));
  m.def("trellis_split", &split, arg("levels"), arg("states"), arg("limit"), arg("group"), arg("groups"), arg("memory"),
        arg("counts"), arg("symbols"), arg("escapes"));
  m.def("trellis_join", &join, arg("symbols"), arg("states"), arg("limit"), arg("group"), arg("groups"), arg("memory"),
        arg("counts"), arg("escapes"), arg("levels"));
  m.def("trellis_classes", &classes, arg("points"), arg("memory"), arg("classes"), arg("threads") = 0);
  m.def("trellis_points", &points, arg("levels"), arg("states"), arg("shifts"), arg("out"), arg("threads") = 0,
        arg("state") = 0);
}

}  // namespace memristore::bindings
