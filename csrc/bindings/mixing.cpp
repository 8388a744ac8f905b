// Levels coded by mixed predictions.
#include "memristore/mixing.hpp"

#include "bindings/buffers.hpp"
#include "memristore/trellis.hpp"

namespace memristore::bindings {
namespace {

MixPlan plan_of(std::size_t n, std::size_t columns, std::size_t taps, std::size_t width, std::uint32_t states,
                std::size_t mask, std::uint64_t first, std::uint32_t state) {
  if (columns == 0 || taps == 0 || taps > kMixMaxTaps || width == 0 || width > taps)
    throw py::value_error("columns, taps, width: must be at least 1, with width <= taps <= " +
                          std::to_string(kMixMaxTaps));
  if (n % taps != 0 || n / taps % columns != 0)
    throw py::value_error("levels: must be rows x columns x taps, not " + std::to_string(n));
  if (states != 1 && states != 4 && states != 8 && states != 16 && states != 32 && states != 64)
    throw py::value_error("states: must be 1, 4, 8, 16, 32 or 64, not " + std::to_string(states));
  if (state >= states) throw py::value_error("state: must be below the number of states");
  if (mask != 0) same_length(n, mask, "mask");
  check_range(first, n, 1);
  return {n / taps / columns, columns, taps, width, states, mask != 0, first};
}

py::tuple encode(const py::buffer& levels, const py::buffer& mask, std::size_t columns, std::size_t taps,
                 std::size_t width, std::uint32_t states, std::uint64_t first, std::uint32_t state) {
  const auto in = input<std::int32_t>(levels, "levels");
  const auto kept = input<std::uint8_t>(mask, "mask");
  const MixPlan plan = plan_of(in.n, columns, taps, width, states, kept.n, first, state);
  for (std::size_t i = 0; i < in.n; ++i) {
    if (in.data[i] > kTrellisMaxLevel || in.data[i] < -kTrellisMaxLevel)
      throw py::value_error("levels: must be within +-" + std::to_string(kTrellisMaxLevel));
    if (kept.n != 0 && kept.data[i] == 0 && in.data[i] != 0)
      throw py::value_error("levels: must be 0 where the mask is");
  }
  std::vector<std::uint8_t> bytes;
  {
    const Unlocked unlocked;
    bytes = mix_encode(plan, in.data, kept.n == 0 ? nullptr : kept.data, state);
  }
  return py::make_tuple(py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size()), state);
}

std::uint32_t decode(const py::buffer& data, const py::buffer& levels, const py::buffer& mask, std::size_t columns,
                     std::size_t taps, std::size_t width, std::uint32_t states, std::uint64_t first,
                     std::uint32_t state) {
  const auto in = input<std::uint8_t>(data, "data");
  const auto out = output<std::int32_t>(levels, "levels");
  const auto kept = output<std::uint8_t>(mask, "mask");
  const MixPlan plan = plan_of(out.n, columns, taps, width, states, kept.n, first, state);
  const Unlocked unlocked;
  mix_decode(plan, in.data, in.n, out.data, kept.n == 0 ? nullptr : kept.data, state);
  return state;
}

}  // namespace

void register_mixing(py::module_& m) {
  using py::arg;
  m.attr("MIX_MAX_TAPS") = kMixMaxTaps;
  m.def("mix_encode", &encode, arg("levels"), arg("mask"), arg("columns"), arg("taps"), arg("width"), arg("states"),
        arg("first") = 0, arg("state") = 0);
  m.def("mix_decode", &decode, arg("data"), arg("levels"), arg("mask"), arg("columns"), arg("taps"), arg("width"),
        arg("states"), arg("first") = 0, arg("state") = 0);
}

}  // namespace memristore::bindings
