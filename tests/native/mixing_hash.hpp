// Levels coded by mixed predictions, and what other bytes decode to: for kernel_hashes.cpp. One build serves
// every level of kernels, but its tables are computed by the compiler, which another machine has another of.
#pragma once
#include "fixed_inputs.hpp"
#include "memristore/mixing.hpp"

namespace {

Hash mixing(const KernelTable&) {
  Hash hash;
  for (std::uint32_t states : {1U, 8U, 64U})
    for (bool masked : {false, true}) {
      const MixPlan plan = {40, 7, 15, 3, states, masked, 65'000};
      const std::size_t n = plan.rows * plan.columns * plan.taps;
      Array<std::uint64_t> w = words<std::uint64_t>(27, n);
      Array<std::uint8_t> mask = words<std::uint8_t>(28, n);
      Array<std::int32_t> levels(n);
      for (std::size_t i = 0; i < n; ++i) {
        mask[i] = static_cast<std::uint8_t>(mask[i] % 3 != 0 || !masked);
        // Now and then a large one.
        const auto most = static_cast<std::int64_t>(w[i] % 97 == 0 ? std::uint64_t{1} << (w[i] >> 59) % 20 : i % 7);
        levels[i] =
            mask[i] == 0 ? 0 : static_cast<std::int32_t>(static_cast<std::int64_t>(w[i] >> 40) % (2 * most + 1) - most);
      }
      std::uint32_t state = states / 2;
      const std::vector<std::uint8_t> bytes = mix_encode(plan, levels.data(), mask.data(), state);
      hash.add(bytes.data(), bytes.size());
      Array<std::uint8_t> other = words<std::uint8_t>(29, 700);
      mix_decode(plan, other.data(), other.size(), levels.data(), masked ? mask.data() : nullptr, state);
      levels.into(hash);
      mask.into(hash);
      hash.add(&state, sizeof state);
    }
  return hash;
}

}  // namespace
