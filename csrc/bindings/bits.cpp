// Level errors, and the SECDED code.
#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

LevelModel make_levels(std::uint32_t bits, View<const std::uint8_t> levels, View<const float> up,
                       View<const float> down) {
  if (bits != 1 && bits != 2 && bits != 4) throw py::value_error("bits: 1, 2 or 4 bits per cell");
  const std::size_t count = std::size_t{1} << bits;
  same_length(count, levels.n, "level_of");
  same_length(count, up.n, "up");
  same_length(count, down.n, "down");
  LevelModel model = {};
  model.bits = bits;
  std::uint32_t seen = 0;
  double worst = 0.0;
  for (std::size_t i = 0; i < count; ++i) {
    if (levels.data[i] >= count || ((seen >> levels.data[i]) & 1U) != 0)
      throw py::value_error("level_of: must be a permutation of the levels");
    seen |= 1U << levels.data[i];
    model.level_of[i] = levels.data[i];
    model.label_of[levels.data[i]] = static_cast<std::uint8_t>(i);
    model.up[i] = up.data[i];
    model.down[i] = down.data[i];
    const double chance = static_cast<double>(up.data[i]) + static_cast<double>(down.data[i]);
    if (!(up.data[i] >= 0.0F && down.data[i] >= 0.0F && chance <= 1.0))
      throw py::value_error("up, down: must be probabilities that sum to at most 1 for each level");
    worst = chance > worst ? chance : worst;
  }
  if (up.data[count - 1] != 0.0F || down.data[0] != 0.0F)
    throw py::value_error("up, down: the highest level cannot rise and the lowest cannot fall");
  double clean = 1.0;
  for (std::uint32_t c = 0; c < 8 / bits; ++c) clean *= 1.0 - worst;
  const double bound = (1.0 - clean) * 4294967296.0 + 1.0;
  model.bound = bound < 4294967295.0 ? static_cast<std::uint32_t>(bound) + 1U : 4294967295U;
  return model;
}

void encode(const py::buffer& words, const py::buffer& check, int threads) {
  const auto data = input<std::uint64_t>(words, "words");
  const auto parity = output<std::uint8_t>(check, "check");
  same_length(data.n, parity.n, "check");
  check_range(0, data.n, threads);
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
  check_range(0, data.n, threads);
  const Unlocked unlocked;
  for_chunks(data.n, threads, [&](std::size_t start, std::size_t n) {
    secded_decode(data.data + start, parity.data + start, n, codes.data + start);
  });
}

void level_errors(std::uint64_t key, std::uint32_t event, std::uint64_t first, std::uint32_t bits,
                  const py::buffer& level_of, const py::buffer& up, const py::buffer& down, const py::buffer& in,
                  const py::buffer& out, int threads) {
  const auto levels = input<std::uint8_t>(level_of, "level_of");
  const auto rise = input<float>(up, "up");
  const auto fall = input<float>(down, "down");
  const auto written = input<std::uint8_t>(in, "symbols");
  const auto seen = output<std::uint8_t>(out, "out");
  if (event >= (1U << 24)) throw py::value_error("event: must be below 2**24");
  const LevelModel model = make_levels(bits, levels, rise, fall);
  same_length(written.n, seen.n, "out");
  check_range(first, written.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(written.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.level_errors(model, {key, first + start, n}, event, written.data + start, seen.data + start);
  });
}

}  // namespace

void register_bits(py::module_& m) {
  using py::arg;
  m.def("level_errors", &level_errors, arg("key"), arg("event"), arg("first"), arg("bits"), arg("level_of"), arg("up"),
        arg("down"), arg("symbols"), arg("out"), arg("threads") = 0);
  m.def("secded_encode", &encode, arg("words"), arg("check"), arg("threads") = 0);
  m.def("secded_decode", &decode, arg("words"), arg("check"), arg("status"), arg("threads") = 0);
}

}  // namespace memristore::bindings
