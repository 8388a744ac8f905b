// Bits on cells and their code.
#include <atomic>

#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

std::uint64_t store(const Device& device, const ReadTime& time, std::uint64_t key, std::uint32_t write_event,
                    std::uint32_t purpose, std::uint32_t read_event, std::uint64_t first, std::uint64_t plane_stride,
                    std::uint32_t planes, const py::buffer& words, float x_zero, float x_one, float threshold,
                    const py::buffer& out, int threads) {
  const auto written = input<std::uint64_t>(words, "words");
  const auto seen = output<std::uint64_t>(out, "out");
  same_length(written.n, seen.n, "out");
  if (planes == 0) throw py::value_error("planes: a bit needs at least one cell");
  const KernelTable& kernels = active();
  std::atomic<std::uint64_t> errors{0};
  const Unlocked unlocked;
  // A chunk of words is 1/64 of a chunk of cells, so that a chunk is the same amount of work as elsewhere.
  for_chunks(written.n * 64, threads, [&](std::size_t start, std::size_t n) {
    const BitCells cells = {key, first + start, plane_stride, planes, x_zero, x_one, threshold};
    errors += store_bits(kernels, device, time, cells, write_event, {purpose, read_event}, written.data + start / 64,
                         n / 64, seen.data + start / 64);
  });
  return errors.load();
}

void encode(const py::buffer& words, const py::buffer& check, int threads) {
  const auto data = input<std::uint64_t>(words, "words");
  const auto parity = output<std::uint8_t>(check, "check");
  same_length(data.n, parity.n, "check");
  const Unlocked unlocked;
  for_chunks(data.n, threads,
             [&](std::size_t start, std::size_t n) { secded_encode(data.data + start, n, parity.data + start); });
}

void decode(const py::buffer& words, const py::buffer& check, const py::buffer& status, int threads) {
  const auto data = output<std::uint64_t>(words, "words");
  const auto parity = output<std::uint8_t>(check, "check");
  const auto codes = output<std::uint8_t>(status, "status");
  same_length(data.n, parity.n, "check");
  same_length(data.n, codes.n, "status");
  const Unlocked unlocked;
  for_chunks(data.n, threads, [&](std::size_t start, std::size_t n) {
    secded_decode(data.data + start, parity.data + start, n, codes.data + start);
  });
}

}  // namespace

void register_bits(py::module_& m) {
  using py::arg;
  m.def("store_bits", &store, arg("device"), arg("time"), arg("key"), arg("write_event"), arg("purpose"),
        arg("read_event"), arg("first"), arg("plane_stride"), arg("planes"), arg("words"), arg("x_zero"), arg("x_one"),
        arg("threshold"), arg("out"), arg("threads") = 0);
  m.def("secded_encode", &encode, arg("words"), arg("check"), arg("threads") = 0);
  m.def("secded_decode", &decode, arg("words"), arg("check"), arg("status"), arg("threads") = 0);
}

}  // namespace memristore::bindings
