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

// Words 0..3 of the Philox blocks whose low counter words are `c0`, ten rounds.
inline void philox(U c0, U c1, U c2, U c3, std::uint64_t key, U out[4]) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    U high0;
    U low0;
    U high1;
    U low1;
    mul_wide(c0, 0xD2511F53U, high0, low0);
    mul_wide(c2, 0xCD9E8D57U, high1, low1);
    c0 = high1 ^ c1 ^ setu(k0);
    c2 = high0 ^ c3 ^ setu(k1);
    c1 = low1;
    c3 = low0;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// Words of quad `part` of group `group` (counter.hpp): vector w holds cells 64 group + 16 w + kLanes part + lane.
inline void quad_words(std::uint64_t key, Draw draw, std::uint64_t group, int part, U out[4]) {
  const std::uint64_t block = group * 16 + static_cast<std::uint64_t>(part * kLanes);
  philox(setu(static_cast<std::uint32_t>(block)) + iota(), setu(static_cast<std::uint32_t>(block >> 32)),
         setu(draw.purpose), setu(draw.event), key, out);
}

inline void quad_normals(std::uint64_t key, Draw draw, std::uint64_t group, int part, F z[4]) {
  U w[4];
  quad_words(key, draw, group, part, w);
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
