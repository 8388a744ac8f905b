// LDPC codes: an object holds the base matrix; blocks are spread over threads, each with memory of its own.
#include "memristore/ldpc.hpp"

#include <omp.h>

#include <vector>

#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

struct alignas(64) Line {
  std::int8_t bytes[64];
};

template <class Body>
void for_blocks(std::size_t blocks, int used, Body body) {
  if (used <= 1) {
    for (std::size_t b = 0; b < blocks; ++b) body(b, std::size_t{0});
    return;
  }
#pragma omp parallel for schedule(dynamic) num_threads(used)
  for (std::size_t b = 0; b < blocks; ++b) body(b, static_cast<std::size_t>(omp_get_thread_num()));
}

class Ldpc {
 public:
  Ldpc(std::uint32_t z, std::uint32_t columns, const py::buffer& row_start, const py::buffer& column,
       const py::buffer& shift) {
    const auto starts = input<std::uint32_t>(row_start, "row_start");
    const auto places = input<std::uint16_t>(column, "column");
    const auto shifts = input<std::uint16_t>(shift, "shift");
    same_length(places.n, shifts.n, "shift");
    row_start_.assign(starts.data, starts.data + starts.n);
    column_.assign(places.data, places.data + places.n);
    shift_.assign(shifts.data, shifts.data + shifts.n);
    const auto rows = static_cast<std::uint32_t>(starts.n > 0 ? starts.n - 1 : 0);
    code_ = {z, rows, columns, row_start_.data(), column_.data(), shift_.data()};
    check();
  }

  void encode(const py::buffer& data, std::size_t data_bits, const py::buffer& parity, int threads) const {
    const auto bits = input<std::uint8_t>(data, "data");
    const auto checks = output<std::uint8_t>(parity, "check");
    const std::size_t blocks = count_blocks(checks.n, check_bits() / 8, "check", data_bits);
    same_length(blocks * (data_bits / 8), bits.n, "data");
    check_range(0, blocks, threads);
    const Threads held(threads, blocks);
    const std::size_t words = ldpc_work(code_);
    std::vector<std::uint64_t> work(words * static_cast<std::size_t>(held.count() > 1 ? held.count() : 1));
    const Unlocked unlocked;
    for_blocks(blocks, held.count(), [&](std::size_t b, std::size_t thread) {
      ldpc_encode(code_, bits.data + b * (data_bits / 8), data_bits, work.data() + thread * words,
                  checks.data + b * (check_bits() / 8));
    });
  }

  void decode(const py::buffer& llr, std::size_t data_bits, std::uint32_t iterations, std::uint32_t attempts,
              const py::buffer& data, const py::buffer& status, int threads) const {
    const auto heard = input<std::int8_t>(llr, "llr");
    const auto bits = output<std::uint8_t>(data, "data");
    const auto changed = output<std::int32_t>(status, "status");
    const std::size_t n = data_bits + check_bits();
    const std::size_t blocks = count_blocks(heard.n, n, "llr", data_bits);
    same_length(blocks * (data_bits / 8), bits.n, "data");
    same_length(blocks, changed.n, "status");
    check_range(0, blocks, threads);
    const KernelTable& kernels = active();
    const Threads held(threads, blocks);
    // Both parts are whole cache lines, so that only shifted loads cross one.
    const std::size_t sums = code_.columns * ldpc_stride(code_);
    const std::size_t size = sums + column_.size() * std::size_t{code_.z};
    std::vector<Line> memory(size / sizeof(Line) * static_cast<std::size_t>(held.count() > 1 ? held.count() : 1));
    std::int8_t* const first = memory.front().bytes;
    const Unlocked unlocked;
    for_blocks(blocks, held.count(), [&](std::size_t b, std::size_t thread) {
      const LdpcScratch scratch = {first + thread * size, first + thread * size + sums};
      std::int32_t took = -1;
      for (std::uint32_t attempt = 0; took < 0 && attempt < attempts; ++attempt) {
        ldpc_load(code_, heard.data + b * n, data_bits, attempt, scratch);
        took = kernels.ldpc_decode(code_, scratch, iterations);
      }
      const std::int32_t differ =
          ldpc_unload(code_, heard.data + b * n, data_bits, scratch, bits.data + b * (data_bits / 8));
      changed.data[b] = took < 0 ? -1 : differ;
    });
  }

 private:
  std::size_t check_bits() const { return std::size_t{code_.rows} * code_.z; }

  std::size_t count_blocks(std::size_t length, std::size_t each, const char* what, std::size_t data_bits) const {
    if (data_bits == 0 || data_bits % 8 != 0 || data_bits > std::size_t{code_.columns - code_.rows} * code_.z)
      throw py::value_error("data_bits: must be a multiple of 8, at most what the code holds");
    if (length % each != 0) throw py::value_error(std::string(what) + ": must hold whole blocks");
    return length / each;
  }

  // What the kernels rely on, so that no base matrix can make them leave their memory or encode something else.
  void check() const {
    if (code_.z == 0 || code_.z % kLdpcLanes != 0 || code_.z > kLdpcZ)
      throw py::value_error("z: must be a multiple of 64, at most " + std::to_string(kLdpcZ));
    if (code_.rows < 2 || code_.columns <= code_.rows || code_.columns > 65535)
      throw py::value_error("columns: must be more than the rows, of which there are at least two");
    if (row_start_.front() != 0 || row_start_.back() != column_.size())
      throw py::value_error("row_start: must begin with 0 and end with the number of entries");
    for (std::uint32_t r = 0; r < code_.rows; ++r) {
      if (row_start_[r + 1] <= row_start_[r] || row_start_[r + 1] > column_.size() ||
          row_start_[r + 1] - row_start_[r] > kLdpcDegree)
        throw py::value_error("row_start: a row has 1 to " + std::to_string(kLdpcDegree) + " entries");
    }
    check_entries();
  }

  void check_entries() const {
    const std::uint32_t first = code_.columns - code_.rows;
    std::vector<std::vector<std::uint32_t>> rows_of(code_.rows);  // of each check column
    std::vector<std::uint32_t> head;                              // shifts of the first one
    for (std::uint32_t r = 0; r < code_.rows; ++r)
      for (std::uint32_t e = row_start_[r]; e < row_start_[r + 1]; ++e) {
        if (shift_[e] >= code_.z) throw py::value_error("shift: must be below z");
        if (column_[e] >= code_.columns || (e > row_start_[r] && column_[e] <= column_[e - 1]))
          throw py::value_error("column: must rise along a row and be below columns");
        if (column_[e] < first) continue;
        rows_of[column_[e] - first].push_back(r);
        if (column_[e] == first) head.push_back(shift_[e]);
        if (column_[e] > first && shift_[e] != 0) throw py::value_error("shift: the dual diagonal has none");
      }
    // The outer two entries of the first check column cancel in the sum over all rows.
    if (head.size() != 3 || head[0] != head[2] || head[1] != 0)
      throw py::value_error("shift: the first check column has three entries, with shifts s, 0 and s");
    for (std::uint32_t c = 1; c < code_.rows; ++c)
      if (rows_of[c] != std::vector<std::uint32_t>{c - 1, c})
        throw py::value_error("column: check columns behind the first must form a dual diagonal");
  }

  LdpcCode code_ = {};
  std::vector<std::uint32_t> row_start_;
  std::vector<std::uint16_t> column_;
  std::vector<std::uint16_t> shift_;
};

}  // namespace

void register_ldpc(py::module_& m) {
  using py::arg;
  py::class_<Ldpc>(m, "Ldpc")
      .def(py::init<std::uint32_t, std::uint32_t, const py::buffer&, const py::buffer&, const py::buffer&>(), arg("z"),
           arg("columns"), arg("row_start"), arg("column"), arg("shift"))
      .def("encode", &Ldpc::encode, arg("data"), arg("data_bits"), arg("check"), arg("threads") = 0)
      .def("decode", &Ldpc::decode, arg("llr"), arg("data_bits"), arg("iterations"), arg("attempts"), arg("data"),
           arg("status"), arg("threads") = 0);
}

}  // namespace memristore::bindings
