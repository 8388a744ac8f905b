// LDPC encoder, and the ways in and out of the decoder. Integer work without long loops: one build serves every level.
#include "memristore/ldpc.hpp"

#include <cstring>

namespace memristore {
namespace {

// The decoder's steps are twice the channel's: 4 per nat, halves away from zero.
inline std::int8_t coarse(int llr) {
  const int size = llr < 0 ? -llr : llr;
  const int half = (size + 1) >> 1;
  const int kept = half < 63 ? half : 63;
  return static_cast<std::int8_t>(llr < 0 ? -kept : kept);
}

// A number in [-kLdpcDither, kLdpcDither] for each bit of each attempt: a multiplicative hash, finished as in MurmurHash3.
inline int dither(std::uint32_t bit, std::uint32_t attempt) {
  std::uint32_t x = bit * 0x9E3779B9U + attempt * 0x85EBCA6BU;
  x = (x ^ (x >> 16)) * 0x85EBCA6BU;
  x = (x ^ (x >> 13)) * 0xC2B2AE35U;
  x ^= x >> 16;
  return static_cast<int>(((x >> 16) * (2U * kLdpcDither + 1U)) >> 16) - kLdpcDither;
}

// to ^= from, cyclically shifted: bit i of `to` takes bit (i + shift) mod z of `from`.
void add_shifted(std::uint64_t* to, const std::uint64_t* from, std::uint32_t shift, std::uint32_t words) {
  const std::uint32_t bits = shift % 64;
  std::uint32_t w = shift / 64;
  if (bits == 0) {
    for (std::uint32_t i = 0; i < words; ++i) {
      to[i] ^= from[w];
      w = w + 1 == words ? 0 : w + 1;
    }
    return;
  }
  for (std::uint32_t i = 0; i < words; ++i) {
    const std::uint32_t next = w + 1 == words ? 0 : w + 1;
    to[i] ^= (from[w] >> bits) | (from[next] << (64 - bits));
    w = next;
  }
}

inline std::uint64_t little_endian(std::uint64_t word) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  return __builtin_bswap64(word);
#else
  return word;
#endif
}

}  // namespace

void ldpc_encode(const LdpcCode& code, const std::uint8_t* data, std::size_t data_bits, std::uint64_t* work,
                 std::uint8_t* check) {
  const std::uint32_t words = code.z / 64;
  const std::uint32_t first = code.columns - code.rows;  // of the check columns
  std::memset(work, 0, sizeof(std::uint64_t) * ldpc_work(code));
  std::memcpy(work, data, data_bits / 8);
  for (std::size_t w = 0; w < std::size_t{first} * words; ++w) work[w] = little_endian(work[w]);
  // Row r's sum over the data columns goes where check column first + r will be. The sum over all rows is that of the
  // three entries of column `first`, two of which cancel; the third has no shift.
  std::uint64_t* const sums = work + std::size_t{first} * words;
  std::uint32_t shift_of[3] = {0, 0, 0};
  std::uint32_t row_of[3] = {0, 0, 0};
  std::uint32_t found = 0;
  for (std::uint32_t r = 0; r < code.rows; ++r)
    for (std::uint32_t e = code.row_start[r]; e < code.row_start[r + 1]; ++e) {
      if (code.column[e] < first)
        add_shifted(sums + r * words, work + std::size_t{code.column[e]} * words, code.shift[e], words);
      if (code.column[e] != first || found == 3) continue;
      row_of[found] = r;
      shift_of[found++] = code.shift[e];
    }
  std::uint64_t head[kLdpcZ / 64];
  std::memset(head, 0, sizeof(std::uint64_t) * words);
  for (std::uint32_t r = 0; r < code.rows; ++r)
    for (std::uint32_t w = 0; w < words; ++w) head[w] ^= sums[r * words + w];
  for (std::uint32_t k = 0; k < found; ++k) add_shifted(sums + row_of[k] * words, head, shift_of[k], words);
  // Now column first + r + 1 is the sum of rows 0 to r: each adds the one before it.
  for (std::uint32_t r = 1; r + 1 < code.rows; ++r)
    for (std::uint32_t w = 0; w < words; ++w) sums[r * words + w] ^= sums[(r - 1) * words + w];
  const auto write = [&](std::uint32_t column, std::uint64_t* from) {
    for (std::uint32_t w = 0; w < words; ++w) from[w] = little_endian(from[w]);
    std::memcpy(check + std::size_t{column} * (code.z / 8), from, code.z / 8);
  };
  write(0, head);
  for (std::uint32_t r = 0; r + 1 < code.rows; ++r) write(r + 1, sums + r * words);
}

void ldpc_load(const LdpcCode& code, const std::int8_t* llr, std::size_t data_bits, std::uint32_t attempt,
               const LdpcScratch& scratch) {
  const std::size_t z = code.z;
  const std::size_t first = code.columns - code.rows;
  for (std::size_t c = 0; c < code.columns; ++c) {
    std::int8_t* const to = scratch.sums + c * ldpc_stride(code) + kLdpcBefore;
    const std::int8_t* from = llr + data_bits + (c - first) * z;
    std::size_t n = z;
    if (c < first) {
      from = llr + c * z;
      n = data_bits > c * z ? data_bits - c * z : 0;
      n = n < z ? n : z;
    }
    // Weaker ratios leave the sums more room. Every third attempt hears them in full again.
    for (std::size_t i = 0; i < n; ++i) {
      if (attempt == 0) {
        to[i] = coarse(from[i]);
        continue;
      }
      const int heard = attempt % 3 == 0 ? from[i] : 3 * from[i] / 4;
      to[i] = coarse(heard + dither(static_cast<std::uint32_t>(c * z + i), attempt));
    }
    std::memset(to + n, 127, z - n);  // shortened: known zeros
    std::memcpy(to + z, to, kLdpcLanes);
  }
}

std::int32_t ldpc_unload(const LdpcCode& code, const std::int8_t* llr, std::size_t data_bits,
                         const LdpcScratch& scratch, std::uint8_t* data) {
  const std::size_t z = code.z;
  const std::size_t first = code.columns - code.rows;
  std::int32_t changed = 0;
  for (std::size_t c = 0; c < code.columns; ++c) {
    const std::int8_t* const sums = scratch.sums + c * ldpc_stride(code) + kLdpcBefore;
    const std::size_t begin = c < first ? c * z : data_bits + (c - first) * z;
    const std::size_t left = c < first ? (data_bits > begin ? data_bits - begin : 0) : z;
    const std::size_t n = left < z ? left : z;
    for (std::size_t i = 0; i < n; ++i)
      changed += static_cast<std::int32_t>(static_cast<std::uint8_t>(sums[i] ^ llr[begin + i]) >> 7);
    if (c >= first) continue;
    for (std::size_t i = 0; i < n; i += 8) {
      unsigned byte = 0;
      for (unsigned j = 0; j < 8; ++j) byte |= static_cast<unsigned>(static_cast<std::uint8_t>(sums[i + j]) >> 7) << j;
      data[(begin + i) / 8] = static_cast<std::uint8_t>(byte);
    }
  }
  return changed;
}

}  // namespace memristore
