// Trellis-coded quantisation with entropy-coded levels: the code (Ungerboeck's one-dimensional codes, IEEE Trans. Inf. Theory
// 28(1), 1982, table I), the search for the best levels, and the walk that turns levels back into values.
//
// Two quantisers share the points q * step, q an integer: level k stands for q = 2k in quantiser 0 and q = 2k + 1 in quantiser
// 1. Points near zero may be shifted outwards, by the same amount for q and -q. A state s of the encoder's shift register (bit i - 1: the input i steps ago) picks the
// quantiser, and the parity of the level moves the register on.
#pragma once
#include <cstddef>
#include <cstdint>

namespace memristore {

// Values whose trellis starts at state 0: a damaged block harms no other.
inline constexpr std::size_t kTrellisBlock = 65536;
inline constexpr std::uint32_t kTrellisMaxStates = 64;
// Contexts are numbered in a byte.
inline constexpr std::size_t kTrellisMaxContexts = 256;
// Largest magnitude of a level.
inline constexpr std::int32_t kTrellisMaxLevel = (1 << 20) - 1;
// Amounts by which points are shifted: |q| = 1 to 4, and all beyond.
inline constexpr std::size_t kTrellisShifts = 5;

// Parity-check polynomials by number of states 4 to 64: h1 decides the quantiser, h0 the parity. Bit i is the coefficient of D^i.
struct TrellisCode {
  std::uint32_t h1;
  std::uint32_t h0;
};
constexpr TrellisCode trellis_code(std::uint32_t states) {
  return states == 4    ? TrellisCode{02, 05}
         : states == 8  ? TrellisCode{04, 013}
         : states == 16 ? TrellisCode{04, 023}
         : states == 32 ? TrellisCode{010, 045}
                        : TrellisCode{024, 0103};
}
constexpr std::uint32_t parity_of(std::uint32_t bits) {
  bits ^= bits >> 8;
  bits ^= bits >> 4;
  bits ^= bits >> 2;
  bits ^= bits >> 1;
  return bits & 1U;
}
// Quantiser of a state, and the parity of the level on its branch with input 0.
constexpr std::uint32_t trellis_quantiser(std::uint32_t states, std::uint32_t s) {
  return parity_of(s & (trellis_code(states).h1 >> 1));
}
constexpr std::uint32_t trellis_parity(std::uint32_t states, std::uint32_t s) {
  return parity_of(s & (trellis_code(states).h0 >> 1));
}

// What a search minimises: squared error in steps, plus costs[class][level clipped to +-limit][state].
struct TrellisSearch {
  std::uint32_t states;
  std::int32_t limit;
  float inverse_step;
  const float* costs;            // classes x (2 limit + 1) x states
  float shifts[kTrellisShifts];  // in steps
};

// Bytes of scratch for n values: one bit per state and value.
constexpr std::size_t trellis_scratch(std::uint32_t states, std::size_t n) { return n * ((states + 7) / 8); }

// Classes of values by the points before them: the mean magnitude of q, in 256ths, forgets by 2^-decay at each value and starts
// at zero in each block; the class is the number of bounds that it reaches. Decay 0: one class.
struct TrellisMemory {
  std::uint32_t decay;
  std::uint32_t count;
  const std::uint32_t* bounds;
};

// How the levels of a block fall into queues of symbols, one for each context = group[state] + groups * class. A symbol is the
// level clipped to +-limit, plus limit; at both ends it says that |level| - limit is the next of the escapes.
struct TrellisContexts {
  std::uint32_t states;
  std::int32_t limit;
  const std::uint8_t* group;  // by state
  std::uint32_t groups;
  TrellisMemory memory;
};

// Adds to counts[context][symbol].
void trellis_count(const TrellisContexts& c, const std::int32_t* levels, std::size_t n, std::uint32_t* counts);
// Writes the symbols queue by queue and their number to counts[context]; escapes need room for n. Returns their number.
std::size_t trellis_split(const TrellisContexts& c, const std::int32_t* levels, std::size_t n, std::uint32_t* counts,
                          std::size_t contexts, std::int32_t* symbols, std::int32_t* escapes);
// Undoes the split. A queue at its end gives level 0, missing escapes are 0.
void trellis_join(const TrellisContexts& c, const std::int32_t* symbols, const std::uint32_t* counts,
                  std::size_t contexts, const std::int32_t* escapes, std::size_t escaped, std::size_t n,
                  std::int32_t* levels);
// Classes that values would have after points (in steps) like these.
void trellis_classes(const TrellisMemory& memory, const float* points, std::size_t n, std::uint8_t* classes);
// Values of the levels of a block, or of the rest of a block that begins in `state`; in steps.
void trellis_points(std::uint32_t states, std::uint32_t state, const float* shifts, const std::int32_t* levels,
                    std::size_t n, float* out);

}  // namespace memristore
