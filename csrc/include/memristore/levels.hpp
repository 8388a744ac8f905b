// Coded words on cells with a few levels. A group is one cell or two and carries `bits` label bits, one of each word of a
// superblock: bit i of the label of group g is bit g of word (i + g) mod bits.
#pragma once
#include <cstddef>
#include <cstdint>

#include "memristore/kernels.hpp"

namespace memristore {

inline constexpr std::uint32_t kMaxLevels = 16;
inline constexpr std::uint32_t kMaxLabelBits = 5;

// How labels become targets. x holds, for each label, the target of each cell of its group.
struct LevelTargets {
  std::uint32_t bits;   // label bits of a group, 1 to kMaxLabelBits
  std::uint32_t cells;  // cells of a group, 1 or 2
  float x[2U << kMaxLabelBits];
};

// How reads become decisions. The bin of a read indexes the tables; for pairs of cells the coarse bins of both do, the
// first cell's times `pair_bins` plus the second's.
struct LevelDecision {
  float start;
  float inv_step;
  std::uint32_t bins;
  std::uint32_t pair_bins;
  const std::uint8_t* cell_bin;  // bins entries below pair_bins; null for single cells
  const std::uint8_t* label;     // by index: most likely label
  const std::int8_t* llr;        // by index, `bits` each: ratio of each label bit; null for hard decisions
};

// Where words live: group g of superblock s begins at cell first + (s * word_bits + g) * cells; copies lie `stride` apart.
struct LevelCells {
  std::uint64_t key;
  std::uint64_t first;
  std::uint64_t stride;
  std::uint32_t planes;
  std::size_t word_bits;
};

// How cells are written: once, or by pulses until a verify read is content (pulse not null).
struct LevelWrite {
  std::uint32_t event;
  const Pulse* pulse;
};

// Writes, ages and reads `superblocks` times `bits` words, rows of (word_bits + 7) / 8 bytes. `hard` takes rows of packed
// decisions, or, where it is null, `soft` takes word_bits ratios for each word. Returns the number of wrong hard bits.
std::uint64_t store_levels(const KernelTable& kernels, const Device& device, const ReadTime& time,
                           const LevelCells& cells, const LevelWrite& write, Draw draw, const LevelTargets& targets,
                           const LevelDecision& decision, const std::uint8_t* words, std::size_t superblocks,
                           std::uint8_t* hard, std::int8_t* soft);

}  // namespace memristore
