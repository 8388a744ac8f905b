// The LDPC decoder, compiled once per instruction set: include exactly one bytes_*.hpp first. All of it is integer
// arithmetic on separate lanes, so every level gives the same bits.
//
// Layered: each row of checks works on sums that the rows before it have already improved. A check tells each of its bits
// the box-plus of what the others say. Here that is A-min* (Jones, Valles, Smith and Villasenor, MILCOM 2003): the least
// reliable bit hears the others, the others hear all together. With box-plus in steps of a quarter nat,
//   a [+] b = min(a, b) + f(a + b) - f(|a - b|),  f(x) = round(4 ln(1 + exp(-x / 4))),
// this decodes as well as floating-point belief propagation; normalised min-sum needs about 0.1 dB more at rate 1/2.
#include "memristore/ldpc.hpp"

namespace {

using memristore::LdpcCode;
using memristore::LdpcScratch;

// Sums saturate at 127, so messages are limited: a column with many of them would forget what the channel said. A run of
// wrong bits of the accumulator is held down from its two ends only, and needs all that these can say.
constexpr std::uint8_t kLdpcLoudest = 31;
constexpr std::uint8_t kLdpcLoudestOfTwo = 63;

// Magnitudes, 0 to 128. The three terms are found side by side: a row is a chain of these.
inline B box_plus(B a, B b) { return min(a, b) + soft_step(a + b) - soft_step(max(a, b) - min(a, b)); }

inline std::size_t ldpc_place(const LdpcCode& code, std::uint32_t edge, std::uint32_t i) {
  const std::uint32_t p = i + code.shift[edge];
  return p < code.z ? p : p - code.z;
}

// Checks [i, i + kGroups * kByteLanes) of a row; two groups at a time hide each other's latency.
template <int kGroups>
void ldpc_checks(const LdpcCode& code, const LdpcScratch& scratch, std::uint32_t row, std::uint32_t i) {
  constexpr std::uint32_t kLanes = kByteLanes;
  const std::uint32_t first = code.row_start[row];
  const std::uint32_t degree = code.row_start[row + 1] - first;
  const std::size_t stride = memristore::ldpc_stride(code);
  std::int8_t* const sums = scratch.sums + memristore::kLdpcBefore;
  B heard[memristore::kLdpcDegree][kGroups];
  B least[kGroups];
  B rest[kGroups];
  B sign[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    least[g] = rest[g] = bytes(127);
    sign[g] = bytes(0);
  }
  for (std::uint32_t k = 0; k < degree; ++k) {
    const std::uint32_t e = first + k;
    const std::int8_t* const column = sums + code.column[e] * stride;
    const std::int8_t* const said = scratch.messages + std::size_t{e} * code.z + i;
    for (int g = 0; g < kGroups; ++g) {
      const B sum = load(column + ldpc_place(code, e, i + g * kLanes));
      const B value = subtract_saturated(sum, load(said + g * kLanes));
      heard[k][g] = value;
      sign[g] = sign[g] ^ value;
      const B size = magnitude(value);
      rest[g] = box_plus(rest[g], max(least[g], size));
      least[g] = min(least[g], size);
    }
  }
  B all[kGroups];
  for (int g = 0; g < kGroups; ++g) all[g] = box_plus(rest[g], least[g]);
  // Backwards, so that the columns of highest degree are stored long before the next row wants them.
  for (std::uint32_t k = degree; k-- > 0;) {
    const std::uint32_t e = first + k;
    std::int8_t* const column = sums + code.column[e] * stride;
    std::int8_t* const said = scratch.messages + std::size_t{e} * code.z + i;
    const B most = bytes(code.column[e] > code.columns - code.rows ? kLdpcLoudestOfTwo : kLdpcLoudest);
    for (int g = 0; g < kGroups; ++g) {
      const B value = heard[k][g];
      const B size = min(select_equal(magnitude(value), least[g], rest[g], all[g]), most);
      const B message = negate_if(sign[g] ^ value, size);
      const B sum = add_saturated(value, message);
      store(said + g * kLanes, message);
      const std::size_t p = ldpc_place(code, e, i + g * kLanes);
      store(column + p, sum);
      if (p < kLanes) store(column + p + code.z, sum);
      if (p + kLanes > code.z) store(column + p - code.z, sum);
    }
  }
}

inline bool ldpc_row_holds(const LdpcCode& code, const LdpcScratch& scratch, std::uint32_t row) {
  const std::size_t stride = memristore::ldpc_stride(code);
  const std::int8_t* const sums = scratch.sums + memristore::kLdpcBefore;
  for (std::uint32_t i = 0; i < code.z; i += kByteLanes) {
    B sign = bytes(0);
    for (std::uint32_t e = code.row_start[row]; e < code.row_start[row + 1]; ++e)
      sign = sign ^ load(sums + code.column[e] * stride + ldpc_place(code, e, i));
    if (any_negative(sign)) return false;
  }
  return true;
}

// `suspect` is the row that failed last: it most often fails again.
inline bool ldpc_holds(const LdpcCode& code, const LdpcScratch& scratch, std::uint32_t* suspect) {
  for (std::uint32_t k = 0; k < code.rows; ++k) {
    const std::uint32_t row = *suspect + k < code.rows ? *suspect + k : *suspect + k - code.rows;
    if (ldpc_row_holds(code, scratch, row)) continue;
    *suspect = row;
    return false;
  }
  return true;
}

std::int32_t k_ldpc_decode(const LdpcCode& code, const LdpcScratch& scratch, std::uint32_t iterations) {
  std::uint32_t suspect = 0;
  const std::size_t messages = std::size_t{code.row_start[code.rows]} * code.z;
  for (std::size_t i = 0; i < messages; i += kByteLanes) store(scratch.messages + i, bytes(0));
  for (std::uint32_t done = 0;; ++done) {
    if (ldpc_holds(code, scratch, &suspect)) return static_cast<std::int32_t>(done);
    if (done == iterations) return -1;
    for (std::uint32_t row = 0; row < code.rows; ++row) {
      std::uint32_t i = 0;
      for (; i + 2 * kByteLanes <= code.z; i += 2 * kByteLanes) ldpc_checks<2>(code, scratch, row, i);
      if (i < code.z) ldpc_checks<1>(code, scratch, row, i);
    }
  }
}

}  // namespace
