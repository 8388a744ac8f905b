// store_levels on one cell and on pairs of cells, hard and soft, one-shot and verified: for kernel_hashes.cpp.
#pragma once
#include "fixed_inputs.hpp"
#include "memristore/levels.hpp"

namespace {

// Groups of `cells` cells that carry `bits` label bits; targets, decisions and ratios are arbitrary.
struct LevelCase {
  static constexpr std::uint32_t kBins = 100;
  static constexpr std::uint32_t kPairBins = 9;
  LevelTargets targets{};
  Array<std::uint8_t> cell_bin{words<std::uint8_t>(24, kBins)};
  Array<std::uint8_t> label;
  Array<std::int8_t> llr;
  LevelCase(std::uint32_t bits, std::uint32_t cells)
      : label(words<std::uint8_t>(25, indices(cells))), llr(words<std::int8_t>(26, indices(cells) * bits)) {
    targets.bits = bits;
    targets.cells = cells;
    for (std::size_t i = 0; i < (std::size_t{cells} << bits); ++i)
      targets.x[i] = static_cast<float>(mix(i) >> 40) * 0x1p-24F;
    for (std::size_t i = 0; i < cell_bin.size(); ++i) cell_bin[i] = static_cast<std::uint8_t>(cell_bin[i] % kPairBins);
    for (std::size_t i = 0; i < label.size(); ++i) label[i] = static_cast<std::uint8_t>(label[i] & ((1U << bits) - 1U));
  }
  static std::size_t indices(std::uint32_t cells) { return cells == 1 ? kBins : kPairBins * kPairBins; }
};

Hash stored_levels(const KernelTable& k) {
  Hash hash;
  const auto run = [&](const Setting& s, LevelCase& c, std::uint32_t planes, std::size_t word_bits,
                       const Pulse* pulse) {
    constexpr std::size_t superblocks = 3;
    const std::size_t rows = superblocks * c.targets.bits;
    const float scale = s.device.clip_hi - s.device.clip_lo;
    const LevelCells cells = {kKey, 100'001, (std::uint64_t{1} << 33) + 7, planes, word_bits};
    Array<std::uint8_t> in = words<std::uint8_t>(17, rows * ((word_bits + 7) / 8));
    Array<std::uint8_t> hard(in.size());
    Array<std::int8_t> soft(rows * word_bits);
    for (bool ratios : {false, true}) {
      const LevelDecision decision = {s.device.clip_lo,
                                      static_cast<float>(LevelCase::kBins) / scale,
                                      LevelCase::kBins,
                                      LevelCase::kPairBins,
                                      c.targets.cells == 1 ? nullptr : c.cell_bin.data(),
                                      c.label.data(),
                                      ratios ? c.llr.data() : nullptr};
      const std::uint64_t differ =
          store_levels(k, s.device, s.time, cells, {kEvent, pulse}, kRead, c.targets, decision, in.data(), superblocks,
                       ratios ? nullptr : hard.data(), ratios ? soft.data() : nullptr);
      hash.add(&differ, sizeof differ);
    }
    hard.into(hash);
    soft.into(hash);
  };
  for (const Setting& s : kSettings)
    for (std::uint32_t bits = 1; bits <= kMaxLabelBits; ++bits) {
      LevelCase c(bits, bits == 3 || bits == 5 ? 2 : 1);
      const float scale = s.device.clip_hi - s.device.clip_lo;
      const Pulse pulse{s.device.clip_lo, 0.6F, 0.3F, 0.004F * scale, 0.006F * scale, 0.012F * scale, 0.0F, 5};
      for (std::uint32_t planes : {1U, 3U})
        for (std::size_t word_bits : {std::size_t{1}, std::size_t{77}, std::size_t{1024}})
          run(s, c, planes, word_bits, planes == 1 && word_bits == 77 ? &pulse : nullptr);
    }
  return hash;
}

}  // namespace
