// BCH codes: the owner of their tables, and the kernels over blocks.
#include "memristore/bch.hpp"

#include <memory>
#include <new>

#include "bindings/buffers.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

BchShape checked_shape(unsigned m, unsigned t) {
  if (m < kBchMinM || m > kBchMaxM) throw py::value_error("m: must be in [5, 14], not " + std::to_string(m));
  const unsigned most = (1U << (m - 1)) - 1 < kBchMaxT ? (1U << (m - 1)) - 1 : kBchMaxT;
  if (t < 1 || t > most)
    throw py::value_error("t: must be in [1, " + std::to_string(most) + "] for m = " + std::to_string(m) + ", not " +
                          std::to_string(t));
  return bch_shape(m, t);
}

// A code with its tables in one piece of memory, each at a multiple of a cache line.
class BchCode {
 public:
  BchCode(unsigned m, unsigned t) {
    code_.shape = checked_shape(m, t);
    const BchShape& s = code_.shape;
    const std::size_t lengths[] = {s.exp * 2, s.log * 2, s.powers * 2, s.rows * 2, s.slices * 8, s.generator * 8};
    std::size_t total = 0;
    for (const std::size_t length : lengths) total += padded(length);
    memory_.reset(static_cast<std::uint8_t*>(::operator new(total, std::align_val_t{kLine})));
    std::uint8_t* at = memory_.get();
    void* tables[6];
    for (int i = 0; i < 6; ++i) {
      tables[i] = at;
      at += padded(lengths[i]);
    }
    code_.exp = static_cast<std::uint16_t*>(tables[0]);
    code_.log = static_cast<std::uint16_t*>(tables[1]);
    code_.powers = static_cast<std::uint16_t*>(tables[2]);
    code_.rows = static_cast<std::uint16_t*>(tables[3]);
    code_.slices = static_cast<std::uint64_t*>(tables[4]);
    code_.generator = static_cast<std::uint64_t*>(tables[5]);
    bch_fill(code_);
  }
  const Bch& get() const { return code_; }
  std::size_t check_bits() const { return code_.shape.check_bits; }
  std::size_t check_bytes() const { return (check_bits() + 7) / 8; }

 private:
  static constexpr std::size_t kLine = 64;
  static std::size_t padded(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }
  struct Release {
    void operator()(std::uint8_t* memory) const { ::operator delete(memory, std::align_val_t{kLine}); }
  };
  Bch code_ = {};
  std::unique_ptr<std::uint8_t, Release> memory_;
};

// Number of blocks of `bytes` bytes of data, after checking that the code has room for them.
std::size_t blocks_of(const BchCode& code, std::size_t data_bits, std::size_t bytes, int threads) {
  const std::size_t room = code.get().shape.order - code.check_bits();
  if (data_bits == 0 || data_bits % 8 != 0 || data_bits > room)
    throw py::value_error("data_bits: must be a positive multiple of 8 and at most " + std::to_string(room) +
                          " for this code, not " + std::to_string(data_bits));
  if (bytes % (data_bits / 8) != 0)
    throw py::value_error("data: has length " + std::to_string(bytes) + ", wanted whole blocks of " +
                          std::to_string(data_bits / 8) + " bytes");
  check_range(0, bytes, threads);
  return bytes / (data_bits / 8);
}

// A block counts as many items as a power of two that is not below its length, so that chunks are whole blocks.
template <class Body>
void for_blocks(const BchCode& code, std::size_t data_bits, std::size_t blocks, int threads, Body body) {
  std::size_t items = 64;
  while (items < data_bits + code.check_bits()) items *= 2;
  for_chunks(blocks * items, threads, [&](std::size_t start, std::size_t n) { body(start / items, n / items); });
}

void encode(const BchCode& code, std::size_t data_bits, const py::buffer& data, const py::buffer& check, int threads) {
  const auto from = input<std::uint8_t>(data, "data");
  const auto to = output<std::uint8_t>(check, "check");
  const std::size_t blocks = blocks_of(code, data_bits, from.n, threads);
  same_length(blocks * code.check_bytes(), to.n, "check");
  const BchKernels& kernels = bch_kernels();
  const Unlocked unlocked;
  for_blocks(code, data_bits, blocks, threads, [&](std::size_t first, std::size_t n) {
    kernels.encode(code.get(), data_bits / 8, from.data + first * (data_bits / 8), n,
                   to.data + first * code.check_bytes());
  });
}

void decode(const BchCode& code, std::size_t data_bits, const py::buffer& data, const py::buffer& check,
            const py::buffer& status, int threads) {
  const auto words = output<std::uint8_t>(data, "data");
  const auto parity = output<std::uint8_t>(check, "check");
  const auto codes = output<std::int32_t>(status, "status");
  const std::size_t blocks = blocks_of(code, data_bits, words.n, threads);
  same_length(blocks * code.check_bytes(), parity.n, "check");
  same_length(blocks, codes.n, "status");
  const BchKernels& kernels = bch_kernels();
  const Unlocked unlocked;
  for_blocks(code, data_bits, blocks, threads, [&](std::size_t first, std::size_t n) {
    kernels.decode(code.get(), data_bits / 8, words.data + first * (data_bits / 8),
                   parity.data + first * code.check_bytes(), n, codes.data + first);
  });
}

void syndromes(const BchCode& code, std::size_t data_bits, const py::buffer& data, const py::buffer& check,
               const py::buffer& out, int threads) {
  const auto words = input<std::uint8_t>(data, "data");
  const auto parity = input<std::uint8_t>(check, "check");
  const auto sums = output<std::uint16_t>(out, "out");
  const std::size_t t = code.get().shape.t;
  const std::size_t blocks = blocks_of(code, data_bits, words.n, threads);
  same_length(blocks * code.check_bytes(), parity.n, "check");
  same_length(blocks * t, sums.n, "out");
  const BchKernels& kernels = bch_kernels();
  const Unlocked unlocked;
  for_blocks(code, data_bits, blocks, threads, [&](std::size_t first, std::size_t n) {
    kernels.syndromes(code.get(), data_bits / 8, words.data + first * (data_bits / 8),
                      parity.data + first * code.check_bytes(), n, sums.data + first * t);
  });
}

}  // namespace

void register_bch(py::module_& m) {
  using py::arg;
  py::class_<BchCode>(m, "BchCode")
      .def(py::init<unsigned, unsigned>(), arg("m"), arg("t"))
      .def("check_bits", &BchCode::check_bits);
  m.def(
      "bch_check_bits", [](unsigned degree, unsigned t) { return checked_shape(degree, t).check_bits; }, arg("m"),
      arg("t"));
  m.def("bch_encode", &encode, arg("code"), arg("data_bits"), arg("data"), arg("check"), arg("threads") = 0);
  m.def("bch_decode", &decode, arg("code"), arg("data_bits"), arg("data"), arg("check"), arg("status"),
        arg("threads") = 0);
  m.def("bch_syndromes", &syndromes, arg("code"), arg("data_bits"), arg("data"), arg("check"), arg("out"),
        arg("threads") = 0);
}

}  // namespace memristore::bindings
