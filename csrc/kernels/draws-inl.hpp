// Random words and normals of the cells of a group, and the walk over the groups of a cell range.
#pragma once
#include <cstddef>

#include "kernels/math-inl.hpp"
#include "memristore/kernels.hpp"

namespace {

using memristore::Cells;
using memristore::Draw;

constexpr std::size_t kGroup = memristore::kGroup;
constexpr int kParts = 16 / kLanes;         // a group of 64 cells is handled as kParts quads of four vectors
constexpr int kSide = kLanes == 1 ? 1 : 4;  // quads whose words are made side by side; measured (docs/kernels.md)

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

// Rounds `first` to 9 of Philox on the four counter words of N vectors side by side: each round's multiplications wait for
// the round before, so that one vector alone leaves the multipliers idle most of the time.
template <int N>
inline void philox_rounds(const Keys& keys, int first, U c[][4]) {
#pragma GCC unroll 10
  for (int round = first; round < 10; ++round) {
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      U high0;
      U low0;
      U high1;
      U low1;
      mul_wide(c[i][0], kMultiplier0, high0, low0);
      mul_wide(c[i][2], kMultiplier1, high1, low1);
      c[i][0] = xor3(high1, c[i][1], setu(keys.low[round]));
      c[i][2] = xor3(high0, c[i][3], setu(keys.high[round]));
      c[i][1] = low1;
      c[i][3] = low0;
    }
  }
}

// Words 0..3 of the blocks whose low counter words are low[0] .. low[N - 1]; the other three counter words are the same
// for all, so that half of the first two rounds is scalar work.
template <int N>
inline void philox(const Keys& keys, const U low[], std::uint32_t high, Draw draw, U out[][4]) {
  const std::uint64_t m1 = static_cast<std::uint64_t>(draw.purpose) * kMultiplier1;
  const std::uint32_t s0 = static_cast<std::uint32_t>(m1 >> 32) ^ high ^ keys.low[0];
  const std::uint64_t m0 = static_cast<std::uint64_t>(s0) * kMultiplier0;
  U c[N][4];
#pragma GCC unroll 4
  for (int i = 0; i < N; ++i) {
    U high0;
    U low0;
    mul_wide(low[i], kMultiplier0, high0, low0);
    const U c2 = high0 ^ setu(draw.event ^ keys.high[0]);
    U high1;
    mul_wide(c2, kMultiplier1, high1, c[i][1]);
    c[i][0] = high1 ^ setu(static_cast<std::uint32_t>(m1) ^ keys.low[1]);
    c[i][2] = low0 ^ setu(static_cast<std::uint32_t>(m0 >> 32) ^ keys.high[1]);
    c[i][3] = setu(static_cast<std::uint32_t>(m0));
  }
  philox_rounds<N>(keys, 2, c);
#pragma GCC unroll 4
  for (int i = 0; i < N; ++i)
    for (int k = 0; k < 4; ++k) out[i][k] = c[i][k];
}

// Words of the N quads from quad `first` (a multiple of N) of all cells; quad q is part q % kParts of group q / kParts
// (counter.hpp): its vector w holds cells 64 group + 16 w + kLanes part + lane. N divides 2^32, so `high` is common.
template <int N>
inline void quad_words(const Keys& keys, Draw draw, std::uint64_t first, U out[][4]) {
  const std::uint64_t block = first * kLanes;
  U low[N];
  for (int i = 0; i < N; ++i)
    low[i] = setu(static_cast<std::uint32_t>(block) + static_cast<std::uint32_t>(i * kLanes)) + iota();
  philox<N>(keys, low, static_cast<std::uint32_t>(block >> 32), draw, out);
}

inline void normals_of(const U w[4], F z[4]) {
  box_muller(w[0], w[1], z[0], z[1]);
  box_muller(w[2], w[3], z[2], z[3]);
}

// Cells are walked in tiles of whole groups, which start at multiples of their size.
constexpr int kTileQuads = kSide > kParts ? kSide : kParts;
constexpr std::uint64_t kTileGroups = kTileQuads / kParts;

// Words of one draw for all quads of a tile.
inline void tile_words(const Keys& keys, Draw draw, std::uint64_t tile, U out[kTileQuads][4]) {
  for (int q = 0; q < kTileQuads; q += kSide)
    quad_words<kSide>(keys, draw, tile * kTileQuads + static_cast<std::uint64_t>(q), out + q);
}

// The draws that a kernel call needs, found out once; the words of all of them are made before a tile's physics.
enum Kind { kCell, kWrite, kDrift, kRelax, kRead, kFault, kKinds };
struct Draws {
  Keys keys;
  bool needed[kKinds] = {};
  Draw draw[kKinds] = {};
  explicit Draws(std::uint64_t key) : keys(schedule(key)) {}
  void add(bool wanted, Kind kind, Draw d) {
    if (!wanted) return;
    needed[kind] = true;
    draw[kind] = d;
  }
};

// One quad of a tile: where it lies in its group, and its words.
struct Quad {
  int part;
  const U (*words)[kTileQuads][4];
  int index;
  const U* operator[](Kind kind) const { return words[kind][index]; }
};

inline std::size_t offset(int part, int w) { return static_cast<std::size_t>(16 * w + kLanes * part); }
inline void load4(const float* p, int part, F x[4]) {
  for (int w = 0; w < 4; ++w) x[w] = load(p + offset(part, w));
}
inline void store4(float* p, int part, const F x[4]) {
  for (int w = 0; w < 4; ++w) store(p + offset(part, w), x[w]);
}

// Calls body(quad, in, out) for every quad of one group. Where the range covers a group only in part, the group is worked
// on whole in local buffers: draws are named by cell, so the lanes outside the range cost time, not truth.
template <int kIn, int kOut, class Body>
inline void group_quads(Cells cells, std::uint64_t group, Quad quad, const float* const in[], float* const out[],
                        const Body& body) {
  const std::uint64_t end = cells.first + cells.n;
  const std::uint64_t start = group * kGroup;
  const std::uint64_t lo = start < cells.first ? cells.first : start;
  const std::uint64_t hi = start + kGroup < end ? start + kGroup : end;
  const bool whole = hi - lo == kGroup;
  const float* pin[kIn + 1];
  float* pout[kOut];
  float inputs[kIn + 1][kGroup];
  float outputs[kOut][kGroup];
  for (int i = 0; i < kIn; ++i) {
    pin[i] = whole ? in[i] + (start - cells.first) : inputs[i];
    if (whole) continue;
    for (std::uint64_t c = 0; c < kGroup; ++c) inputs[i][c] = 0.0F;
    for (std::uint64_t c = lo; c < hi; ++c) inputs[i][c - start] = in[i][c - cells.first];
  }
  for (int i = 0; i < kOut; ++i) pout[i] = whole ? out[i] + (start - cells.first) : outputs[i];
  for (quad.part = 0; quad.part < kParts; ++quad.part, ++quad.index) body(quad, pin, pout);
  if (whole) return;
  for (int i = 0; i < kOut; ++i)
    for (std::uint64_t c = lo; c < hi; ++c) out[i][c - cells.first] = outputs[i][c - start];
}

// Calls body(quad, in, out) for every quad of a cell range, tile by tile.
template <int kIn, int kOut, class Body>
inline void for_quads(const Draws& draws, Cells cells, const float* const in[], float* const out[], const Body& body) {
  const std::uint64_t end = cells.first + cells.n;
  U words[kKinds][kTileQuads][4];
  for (std::uint64_t group = cells.first / kGroup; group * kGroup < end;) {
    const std::uint64_t tile = group / kTileGroups;
    for (int kind = 0; kind < kKinds; ++kind)
      if (draws.needed[kind]) tile_words(draws.keys, draws.draw[kind], tile, words[kind]);
    for (; group / kTileGroups == tile && group * kGroup < end; ++group) {
      const int index = static_cast<int>(group % kTileGroups) * kParts;
      group_quads<kIn, kOut>(cells, group, {0, words, index}, in, out, body);
    }
  }
}

}  // namespace
