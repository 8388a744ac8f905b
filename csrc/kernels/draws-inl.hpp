// Random words and normals of the cells of a group, and the walk over the groups of a cell range.
#pragma once
#include <cstddef>

#include "kernels/math-inl.hpp"
#include "memristore/kernels.hpp"

namespace {

using memristore::Cells;
using memristore::Draw;

constexpr std::size_t kGroup = memristore::kGroup;
constexpr int kParts = 16 / kLanes;  // a group of 64 cells is handled as kParts quads of four vectors

constexpr std::uint32_t kMultiplier0 = 0xD2511F53U;
constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57U;

// Round keys of Philox4x32-10: two words for each of the ten rounds. Made once per kernel call, so that rounds read them
// as broadcast memory operands.
struct Keys {
  std::uint32_t low[10];
  std::uint32_t high[10];
};
inline Keys schedule(std::uint64_t key) {
  Keys keys;
  for (std::uint32_t round = 0; round < 10; ++round) {
    keys.low[round] = static_cast<std::uint32_t>(key) + round * 0x9E3779B9U;
    keys.high[round] = static_cast<std::uint32_t>(key >> 32) + round * 0xBB67AE85U;
  }
  return keys;
}

// Rounds `first` to 9 of Philox on four counter words.
inline void philox_rounds(const Keys& keys, int first, U c[4]) {
#pragma GCC unroll 10
  for (int round = first; round < 10; ++round) {
    U high0;
    U low0;
    U high1;
    U low1;
    mul_wide(c[0], kMultiplier0, high0, low0);
    mul_wide(c[2], kMultiplier1, high1, low1);
    c[0] = xor3(high1, c[1], setu(keys.low[round]));
    c[2] = xor3(high0, c[3], setu(keys.high[round]));
    c[1] = low1;
    c[3] = low0;
  }
}

// Words 0..3 of the blocks whose low counter words are `low`; the other three counter words are the same for all lanes,
// so that half of the first two rounds is scalar work.
inline void philox(const Keys& keys, U low, std::uint32_t high, Draw draw, U out[4]) {
  const std::uint64_t m1 = static_cast<std::uint64_t>(draw.purpose) * kMultiplier1;
  const std::uint32_t s0 = static_cast<std::uint32_t>(m1 >> 32) ^ high ^ keys.low[0];
  const std::uint64_t m0 = static_cast<std::uint64_t>(s0) * kMultiplier0;
  U high0;
  U low0;
  mul_wide(low, kMultiplier0, high0, low0);
  const U c2 = high0 ^ setu(draw.event ^ keys.high[0]);
  U high1;
  mul_wide(c2, kMultiplier1, high1, out[1]);
  out[0] = high1 ^ setu(static_cast<std::uint32_t>(m1) ^ keys.low[1]);
  out[2] = low0 ^ setu(static_cast<std::uint32_t>(m0 >> 32) ^ keys.high[1]);
  out[3] = setu(static_cast<std::uint32_t>(m0));
  philox_rounds(keys, 2, out);
}

// Words of quad `part` of group `group` (counter.hpp): vector w holds cells 64 group + 16 w + kLanes part + lane.
inline void quad_words(const Keys& keys, Draw draw, std::uint64_t group, int part, U out[4]) {
  const std::uint64_t block = group * 16 + static_cast<std::uint64_t>(part * kLanes);
  philox(keys, setu(static_cast<std::uint32_t>(block)) + iota(), static_cast<std::uint32_t>(block >> 32), draw, out);
}

inline void quad_normals(const Keys& keys, Draw draw, std::uint64_t group, int part, F z[4]) {
  U w[4];
  quad_words(keys, draw, group, part, w);
  box_muller(w[0], w[1], z[0], z[1]);
  box_muller(w[2], w[3], z[2], z[3]);
}

inline std::size_t offset(int part, int w) { return static_cast<std::size_t>(16 * w + kLanes * part); }
inline void load4(const float* p, int part, F x[4]) {
  for (int w = 0; w < 4; ++w) x[w] = load(p + offset(part, w));
}
inline void store4(float* p, int part, const F x[4]) {
  for (int w = 0; w < 4; ++w) store(p + offset(part, w), x[w]);
}

// Calls body(group, part, in, out) for every quad of a cell range. A group that the range covers only in part is
// worked on whole in local buffers: draws are named by cell, so the lanes outside the range cost time, not truth.
template <int kIn, int kOut, class Body>
inline void for_quads(Cells cells, const float* const in[], float* const out[], Body body) {
  const std::uint64_t end = cells.first + cells.n;
  for (std::uint64_t group = cells.first / kGroup; group * kGroup < end; ++group) {
    const std::uint64_t start = group * kGroup;
    const float* pin[kIn + 1];
    float* pout[kOut];
    if (start >= cells.first && start + kGroup <= end) {
      for (int i = 0; i < kIn; ++i) pin[i] = in[i] + (start - cells.first);
      for (int i = 0; i < kOut; ++i) pout[i] = out[i] + (start - cells.first);
      for (int part = 0; part < kParts; ++part) body(group, part, pin, pout);
      continue;
    }
    float inputs[kIn + 1][kGroup] = {};
    float outputs[kOut][kGroup];
    const std::uint64_t lo = start < cells.first ? cells.first : start;
    const std::uint64_t hi = start + kGroup < end ? start + kGroup : end;
    for (int i = 0; i < kIn; ++i) {
      for (std::uint64_t c = lo; c < hi; ++c) inputs[i][c - start] = in[i][c - cells.first];
      pin[i] = inputs[i];
    }
    for (int i = 0; i < kOut; ++i) pout[i] = outputs[i];
    for (int part = 0; part < kParts; ++part) body(group, part, pin, pout);
    for (int i = 0; i < kOut; ++i)
      for (std::uint64_t c = lo; c < hi; ++c) out[i][c - cells.first] = outputs[i][c - start];
  }
}

}  // namespace
