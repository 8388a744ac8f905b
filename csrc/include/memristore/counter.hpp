// The counter layout: which random word is for what. This file is a file format. Values are never reused.
//
// Generator: Philox4x32-10 (Salmon et al., SC'11). Key = the 64-bit array key (low word first).
//
// Shared-block purposes (all but `pulse`): cell i uses block b(i) = (i / 64) * 16 + i % 16 and, of the four
// values that the block yields, number w(i) = (i / 16) % 4. So 16 consecutive blocks serve 64 consecutive
// cells, and vectors of up to 16 lanes need no transposition. One cell is recomputed from one block.
//   counter word 0, 1 = low, high 32 bits of b(i);   word 2 = purpose;   word 3 = event
// Per-cell purposes (`pulse`; `level more`, with j as said there): cell i at program-and-verify steps 2j and 2j+1 uses block i.
//   counter word 0, 1 = low, high 32 bits of i;      word 2 = purpose;   word 3 = event * 256 + j
//
// Normals from one block (w0, w1, w2, w3), always consuming all four words (Box-Muller):
//   (z0, z1) from (w0, w1) and (z2, z3) from (w2, w3), z_even = r cos, z_odd = r sin with
//   u = (w_even >> 1) * 2^-31 + 2^-32,  r = sqrt(-2 ln u),  angle = 2 pi * w_odd / 2^32.
#pragma once
#include <cstdint>

namespace memristore {

enum Purpose : std::uint32_t {
  kPurposeWrite = 1,       // one-shot write noise; event = programming event
  kPurposeCell = 2,        // cell-to-cell offset; event 0: a cell keeps it for life
  kPurposeDrift = 3,       // drift exponent; event 0
  kPurposeRelax = 4,       // relaxation; event 0
  kPurposeRead = 5,        // read noise; event = read event
  kPurposeFault = 6,       // stuck cells: the raw word w(i) of the block, compared with a threshold; event 0
  kPurposeVerifyRead = 7,  // read-back of a programmed plane; event = programming event
  kPurposePulse = 8,       // program-and-verify: z0/z2 verify noise, z1/z3 pulse noise of steps 2j/2j+1
  kPurposeUser = 9,        // normals drawn for a user's own purposes
  kPurposeLevel = 10,      // level errors: the raw word w(i) of weight i decides whether and where its first error is
  kPurposeLevelMore = 11,  // cell c of weight i: block i, j = c / 2; words 2 (c % 2) and the next: error, direction
};

inline constexpr std::uint64_t kGroup = 64;       // cells served by one group of blocks
inline constexpr std::uint32_t kMaxPulses = 512;  // 256 values of j, two steps each

}  // namespace memristore
