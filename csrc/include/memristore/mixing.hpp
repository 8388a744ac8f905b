// Levels of a quantiser as bits, each coded with the probability that several predictions together give it. Predictions are
// counts in contexts of what was coded before: values of the same kernel, of the same row (output channel), of the same
// column (input channel), and at the same place in the rows above. After M. Mahoney, "Adaptive weighing of context models for
// lossless data compression", Florida Tech CS-2005-16, 2005. All of it is integer arithmetic: the same bytes on any machine.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace memristore {

// A tensor of weights, row by row: `taps` values, `width` to a line, for each of the `columns` of a row.
struct MixPlan {
  std::size_t rows;
  std::size_t columns;
  std::size_t taps;
  std::size_t width;
  std::uint32_t states;  // of the trellis; 1: a uniform quantiser
  bool masked;           // whether some values have no level
  std::size_t first;     // values of the tensor before these: its trellis starts anew at every block
};

inline constexpr std::size_t kMixMaxTaps = 4096;

// Bytes of rows x columns x taps levels. `mask`, where the plan says so, is 0 for those without a level, which must be 0.
// `state` of the trellis goes on.
std::vector<std::uint8_t> mix_encode(const MixPlan& plan, const std::int32_t* levels, const std::uint8_t* mask,
                                     std::uint32_t& state);

// Undoes it; past their end bytes are taken as zeros, and any bytes give some levels up to kTrellisMaxLevel.
void mix_decode(const MixPlan& plan, const std::uint8_t* data, std::size_t size, std::int32_t* levels,
                std::uint8_t* mask, std::uint32_t& state);

}  // namespace memristore
