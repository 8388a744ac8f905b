// Quasi-cyclic LDPC codes: a base matrix whose entries are z x z cyclic shifts, the last `rows` columns a dual diagonal.
// Bit j of block column c is bit c * z + j of the code word; its data bits come first.
#pragma once
#include <cstddef>
#include <cstdint>

namespace memristore {

// Check i of block row r covers bit (i + shift[e]) mod z of column[e], for e in [row_start[r], row_start[r + 1]). A row
// has a column at most once. Column columns - rows joins three rows, each of the `rows - 1` behind it two neighbours.
struct LdpcCode {
  std::uint32_t z;        // a multiple of kLdpcLanes
  std::uint32_t rows;     // at least 2
  std::uint32_t columns;  // more than rows
  const std::uint32_t* row_start;
  const std::uint16_t* column;
  const std::uint16_t* shift;
};

inline constexpr std::uint32_t kLdpcLanes = 64;    // most lanes that a level works on at once
inline constexpr std::uint32_t kLdpcDegree = 256;  // most columns of a row
inline constexpr std::uint32_t kLdpcZ = 8192;

// A column of log-likelihood ratios lies between copies of its ends, so that a cyclic shift is an unaligned load.
inline constexpr std::size_t kLdpcBefore = kLdpcLanes;
inline constexpr std::size_t kLdpcAfter = 2 * kLdpcLanes;
inline std::size_t ldpc_stride(const LdpcCode& code) { return kLdpcBefore + code.z + kLdpcAfter; }

// One thread's memory.
struct LdpcScratch {
  std::int8_t* sums;      // columns * ldpc_stride(code): channel plus what the checks say, 4 steps per nat
  std::int8_t* messages;  // row_start[rows] * z: what each check last told each of its bits
};

// Bits, low bits of a byte first. data_bits (a multiple of 8) may be less than (columns - rows) * z: the others are zeros.
void ldpc_encode(const LdpcCode& code, const std::uint8_t* data, std::size_t data_bits, std::uint64_t* work,
                 std::uint8_t* check);
// Words of `work` above.
inline std::size_t ldpc_work(const LdpcCode& code) { return code.columns * std::size_t{code.z / 64}; }

// Fills scratch.sums from data_bits + rows * z log-likelihood ratios of the channel, 8 steps per nat. Attempts after the
// first (0) see them disturbed by up to kLdpcDither steps, each in its own way, and mostly weakened: a decoder that is
// caught between two code words, or in sums that are full, then often finds out.
inline constexpr int kLdpcDither = 5;
void ldpc_load(const LdpcCode& code, const std::int8_t* llr, std::size_t data_bits, std::uint32_t attempt,
               const LdpcScratch& scratch);
// Hard decisions on the data bits; returns how many decisions, data and check, are not those of llr.
std::int32_t ldpc_unload(const LdpcCode& code, const std::int8_t* llr, std::size_t data_bits,
                         const LdpcScratch& scratch, std::uint8_t* data);

}  // namespace memristore
