// Coded words on cells with a few levels. Integer work around the cell kernels: one build serves every level.
#include <array>
#include <bit>

#include "memristore/levels.hpp"

namespace memristore {
namespace {

constexpr std::size_t kTile = 2048;  // groups worked on at once
constexpr std::uint64_t kOnes = 0x0101010101010101ULL;

// Byte j of entry v is bit j of v.
constexpr std::array<std::uint64_t, 256> make_spread() {
  std::array<std::uint64_t, 256> spread{};
  for (unsigned v = 0; v < 256; ++v)
    for (unsigned j = 0; j < 8; ++j) spread[v] |= static_cast<std::uint64_t>((v >> j) & 1U) << (8 * j);
  return spread;
}
constexpr std::array<std::uint64_t, 256> kSpread = make_spread();

// Low bits of eight bytes, byte j to bit j. No two partial products meet.
inline unsigned gather(std::uint64_t bytes) {
  return static_cast<unsigned>(((bytes & kOnes) * 0x0102040810204080ULL) >> 56);
}

inline std::uint64_t load_bytes(const std::uint8_t* p) {
  std::uint64_t v = 0;
  for (unsigned j = 0; j < 8; ++j) v |= static_cast<std::uint64_t>(p[j]) << (8 * j);
  return v;
}
inline void store_bytes(std::uint8_t* p, std::uint64_t v) {
  for (unsigned j = 0; j < 8; ++j) p[j] = static_cast<std::uint8_t>(v >> (8 * j));
}

// Groups [begin, begin + n) of one superblock; begin is a multiple of 8.
struct Piece {
  std::size_t superblock;
  std::size_t begin;
  std::size_t n;
};

// The work of one call: what does not change from tile to tile.
struct Work {
  const LevelCells& cells;
  const LevelTargets& targets;
  const LevelDecision& decision;
  const std::uint8_t* words;
  std::uint8_t* hard;
  std::int8_t* soft;
  std::size_t row_bytes;
};

// Bit j of entry [k][p]: whether group 8 k + j has phase p, which is its number modulo bits; 64 groups to an entry.
template <unsigned bits>
using Phases = std::array<std::uint64_t, bits>;
template <unsigned bits>
constexpr std::array<Phases<bits>, bits> make_phases() {
  std::array<Phases<bits>, bits> out{};
  for (unsigned k = 0; k < bits; ++k)
    for (unsigned j = 0; j < 64; ++j) out[k][(8 * k + j) % bits] |= std::uint64_t{1} << j;
  return out;
}

// Bits of 64 groups, word by word, to label bits: bit i of a label of phase p is of word i + p.
template <unsigned bits>
inline void turn(const Phases<bits>& phase, const std::uint64_t* in, std::uint64_t* out) {
  for (unsigned i = 0; i < bits; ++i) {
    out[i] = 0;
    for (unsigned p = 0; p < bits; ++p) out[i] |= in[(i + p) % bits] & phase[p];
  }
}
template <unsigned bits>
inline void turn_back(const Phases<bits>& phase, const std::uint64_t* in, std::uint64_t* out) {
  for (unsigned r = 0; r < bits; ++r) {
    out[r] = 0;
    for (unsigned p = 0; p < bits; ++p) out[r] |= in[(r + bits - p) % bits] & phase[p];
  }
}

// Up to eight bytes, the first in the low bits.
inline std::uint64_t load_some(const std::uint8_t* p, std::size_t count) {
  if (count >= 8) return load_bytes(p);
  std::uint64_t v = 0;
  for (std::size_t j = 0; j < count; ++j) v |= static_cast<std::uint64_t>(p[j]) << (8 * j);
  return v;
}
inline void store_some(std::uint8_t* p, std::size_t count, std::uint64_t v) {
  if (count >= 8) return store_bytes(p, v);
  for (std::size_t j = 0; j < count; ++j) p[j] = static_cast<std::uint8_t>(v >> (8 * j));
}

// Labels of the groups of a piece, 64 at a time; a whole byte of each word is taken at its end.
template <unsigned bits>
void labels_of(const Work& work, const Piece& piece, std::uint8_t* labels) {
  static constexpr auto phases = make_phases<bits>();
  const std::uint8_t* const row = work.words + piece.superblock * bits * work.row_bytes + piece.begin / 8;
  const std::size_t bytes = (piece.n + 7) / 8;
  for (std::size_t byte = 0; byte < bytes; byte += 8) {
    std::uint64_t rows[bits];
    std::uint64_t turned[bits];
    for (unsigned r = 0; r < bits; ++r) rows[r] = load_some(row + r * work.row_bytes + byte, bytes - byte);
    turn<bits>(phases[(piece.begin / 8 + byte) % bits], rows, turned);
    for (std::size_t b = byte; b < bytes && b < byte + 8; ++b) {
      std::uint64_t eight = 0;
      for (unsigned i = 0; i < bits; ++i) eight |= kSpread[(turned[i] >> (8 * (b - byte))) & 255U] << i;
      store_bytes(labels + 8 * b, eight);
    }
  }
}

template <unsigned bits>
void pack_rows(const Work& work, const Piece& piece, const std::uint8_t* decided) {
  static constexpr auto phases = make_phases<bits>();
  std::uint8_t* const row = work.hard + piece.superblock * bits * work.row_bytes + piece.begin / 8;
  const std::size_t bytes = (piece.n + 7) / 8;
  for (std::size_t byte = 0; byte < bytes; byte += 8) {
    std::uint64_t turned[bits] = {};
    std::uint64_t rows[bits];
    for (std::size_t b = byte; b < bytes && b < byte + 8; ++b) {
      const std::uint64_t eight = load_bytes(decided + 8 * b);
      for (unsigned i = 0; i < bits; ++i)
        turned[i] |= static_cast<std::uint64_t>(gather(eight >> i)) << (8 * (b - byte));
    }
    turn_back<bits>(phases[(piece.begin / 8 + byte) % bits], turned, rows);
    for (unsigned r = 0; r < bits; ++r) store_some(row + r * work.row_bytes + byte, bytes - byte, rows[r]);
  }
}

void targets_of(const LevelTargets& targets, const std::uint8_t* labels, std::size_t n, float* x) {
  if (targets.cells == 1) {
    for (std::size_t g = 0; g < n; ++g) x[g] = targets.x[labels[g]];
    return;
  }
  for (std::size_t g = 0; g < n; ++g) {
    x[2 * g] = targets.x[2U * labels[g]];
    x[2 * g + 1] = targets.x[2U * labels[g] + 1U];
  }
}

// Means of reads to indices of the decision tables; n groups.
void indices_of(const LevelDecision& decision, const float* reads, float share, std::size_t n, std::uint16_t* index) {
  const float last = static_cast<float>(decision.bins - 1);
  const std::size_t cells = decision.cell_bin == nullptr ? n : 2 * n;
  std::int32_t bin[2 * kTile];
  for (std::size_t i = 0; i < cells; ++i) {
    const float t = (reads[i] * share - decision.start) * decision.inv_step;
    const float above = t > 0.0F ? t : 0.0F;
    bin[i] = static_cast<std::int32_t>(above < last ? above : last);
  }
  if (decision.cell_bin == nullptr) {
    for (std::size_t g = 0; g < n; ++g) index[g] = static_cast<std::uint16_t>(bin[g]);
    return;
  }
  for (std::size_t g = 0; g < n; ++g)
    index[g] = static_cast<std::uint16_t>(decision.cell_bin[bin[2 * g]] * decision.pair_bins +
                                          decision.cell_bin[bin[2 * g + 1]]);
}

// Decided labels of n groups; counts the bits that differ from what was written.
std::uint64_t decide(const std::uint8_t* label, const std::uint16_t* index, std::size_t n, std::uint8_t* labels,
                     std::uint8_t* decided) {
  for (std::size_t g = 0; g < n; ++g) decided[g] = label[index[g]];
  // Groups beyond the end of a word are empty.
  for (std::size_t g = n; g % 8 != 0; ++g) decided[g] = labels[g] = 0;
  std::uint64_t errors = 0;
  for (std::size_t g = 0; g < n; g += 8) {
    const std::uint64_t wrong = load_bytes(labels + g) ^ load_bytes(decided + g);
    if (wrong != 0) errors += static_cast<std::uint64_t>(std::popcount(wrong));
  }
  return errors;
}

// The ratio of word r at group g is that of label bit (r - g) mod bits.
template <unsigned bits>
void ratio_rows(const Work& work, const Piece& piece, const std::uint16_t* index) {
  std::int8_t* row = work.soft + piece.superblock * bits * work.cells.word_bits + piece.begin;
  const std::int8_t* const llr = work.decision.llr;
  std::size_t g = 0;
  // Groups up to a phase of 0, then whole rounds of phases: which bit goes where is then known to the compiler.
  for (; g < piece.n && (piece.begin + g) % bits != 0; ++g)
    for (unsigned i = 0; i < bits; ++i)
      row[((i + piece.begin + g) % bits) * work.cells.word_bits + g] = llr[index[g] * bits + i];
  for (; g + bits <= piece.n; g += bits)
    for (unsigned r = 0; r < bits; ++r)
      for (unsigned p = 0; p < bits; ++p)
        row[r * work.cells.word_bits + g + p] = llr[index[g + p] * bits + (r + bits - p) % bits];
  for (; g < piece.n; ++g)
    for (unsigned i = 0; i < bits; ++i)
      row[((i + piece.begin + g) % bits) * work.cells.word_bits + g] = llr[index[g] * bits + i];
}

// What depends on the bits of a label, compiled for each number of them.
struct Layout {
  void (*labels_of)(const Work& work, const Piece& piece, std::uint8_t* labels);
  void (*pack_rows)(const Work& work, const Piece& piece, const std::uint8_t* decided);
  void (*ratio_rows)(const Work& work, const Piece& piece, const std::uint16_t* index);
};
template <unsigned bits>
constexpr Layout layout_of = {labels_of<bits>, pack_rows<bits>, ratio_rows<bits>};
constexpr Layout kLayouts[kMaxLabelBits] = {layout_of<1>, layout_of<2>, layout_of<3>, layout_of<4>, layout_of<5>};

void read_once(const KernelTable& kernels, const Device& device, const ReadTime& time, const LevelWrite& write,
               Draw draw, Cells cells, const float* x, float* out) {
  if (write.pulse == nullptr) {
    kernels.program_age_read(device, time, cells, write.event, draw, x, out);
    return;
  }
  float programmed[2 * kTile];
  std::uint16_t pulses[2 * kTile];
  std::uint8_t failed[2 * kTile];
  kernels.program_and_verify(device, *write.pulse, cells, write.event, x, programmed, pulses, failed);
  kernels.age_and_read(device, time, cells, draw, programmed, out);
}

// The next pieces, at most kTile groups (a piece that ends a word takes a whole byte of them); returns how many.
std::size_t next_pieces(std::size_t word_bits, std::size_t superblocks, std::size_t& superblock, std::size_t& group,
                        Piece* pieces, std::size_t capacity) {
  std::size_t count = 0;
  std::size_t room = kTile;
  while (superblock < superblocks && room >= 8 && count < capacity) {
    const std::size_t left = word_bits - group;
    const std::size_t n = left < room ? left : room / 8 * 8;
    pieces[count++] = {superblock, group, n};
    room -= (n + 7) / 8 * 8;
    group += n;
    if (group == word_bits) {
      group = 0;
      ++superblock;
    }
    if (room < 8) break;
  }
  return count;
}

}  // namespace

std::uint64_t store_levels(const KernelTable& kernels, const Device& device, const ReadTime& time,
                           const LevelCells& cells, const LevelWrite& write, Draw draw, const LevelTargets& targets,
                           const LevelDecision& decision, const std::uint8_t* words, std::size_t superblocks,
                           std::uint8_t* hard, std::int8_t* soft) {
  constexpr std::size_t kPieces = kTile / 8;
  const Work work = {cells, targets, decision, words, hard, soft, (cells.word_bits + 7) / 8};
  const Layout& layout = kLayouts[targets.bits - 1];
  const float share = 1.0F / static_cast<float>(cells.planes);
  std::uint64_t errors = 0;
  std::size_t superblock = 0;
  std::size_t group = 0;
  while (superblock < superblocks) {
    Piece pieces[kPieces];
    std::uint8_t labels[kTile];
    std::uint8_t decided[kTile];
    std::uint16_t index[kTile];
    float x[2 * kTile];
    float sum[2 * kTile];
    float read[2 * kTile];
    const std::uint64_t start = cells.first + (superblock * cells.word_bits + group) * targets.cells;
    const std::size_t count = next_pieces(cells.word_bits, superblocks, superblock, group, pieces, kPieces);
    std::size_t groups = 0;
    std::size_t bytes = 0;
    for (std::size_t p = 0; p < count; ++p) {
      layout.labels_of(work, pieces[p], labels + bytes);
      targets_of(targets, labels + bytes, pieces[p].n, x + groups * targets.cells);
      groups += pieces[p].n;
      bytes += (pieces[p].n + 7) / 8 * 8;
    }
    const std::size_t n = groups * targets.cells;
    for (std::uint32_t plane = 0; plane < cells.planes; ++plane) {
      const Cells here = {cells.key, start + plane * cells.stride, n};
      read_once(kernels, device, time, write, draw, here, x, plane == 0 ? sum : read);
      if (plane == 0) continue;
      for (std::size_t i = 0; i < n; ++i) sum[i] += read[i];
    }
    indices_of(decision, sum, share, groups, index);
    groups = 0;
    bytes = 0;
    for (std::size_t p = 0; p < count; ++p) {
      errors += decide(decision.label, index + groups, pieces[p].n, labels + bytes, decided);
      if (hard != nullptr)
        layout.pack_rows(work, pieces[p], decided);
      else
        layout.ratio_rows(work, pieces[p], index + groups);
      groups += pieces[p].n;
      bytes += (pieces[p].n + 7) / 8 * 8;
    }
  }
  return errors;
}

}  // namespace memristore
