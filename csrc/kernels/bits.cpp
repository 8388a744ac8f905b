// Bits on single-level cells, and the SECDED code over 64-bit words. Integer work: one build serves every level.
#include <array>
#include <bit>

#include "memristore/kernels.hpp"

namespace memristore {
namespace {

// Extended Hamming: data bits sit at the positions 3, 5, 6, 7, 9, ... of a code word that are not powers of two; check
// bit k covers the positions whose bit k is set; bit 7 of the check byte is the parity of all 71 others.
struct Positions {
  std::array<std::uint8_t, 64> of_data{};   // code-word position of data bit j
  std::array<std::uint8_t, 128> data_at{};  // data bit at a position, 64 if none
  std::array<std::uint64_t, 7> masks{};     // data bits covered by check bit k
};

constexpr Positions make_positions() {
  Positions p;
  p.data_at.fill(64);
  unsigned position = 1;
  for (unsigned j = 0; j < 64; ++j) {
    do {
      ++position;
    } while ((position & (position - 1)) == 0);
    p.of_data[j] = static_cast<std::uint8_t>(position);
    p.data_at[position] = static_cast<std::uint8_t>(j);
    for (unsigned k = 0; k < 7; ++k)
      if ((position >> k) & 1U) p.masks[k] |= std::uint64_t{1} << j;
  }
  return p;
}

constexpr Positions kPositions = make_positions();

inline unsigned parity(std::uint64_t x) { return static_cast<unsigned>(__builtin_parityll(x)); }

inline unsigned hamming(std::uint64_t word) {
  unsigned check = 0;
  for (unsigned k = 0; k < 7; ++k) check |= parity(word & kPositions.masks[k]) << k;
  return check;
}

}  // namespace

void secded_encode(const std::uint64_t* words, std::size_t n, std::uint8_t* check) {
  for (std::size_t i = 0; i < n; ++i) {
    const unsigned h = hamming(words[i]);
    check[i] = static_cast<std::uint8_t>(h | ((parity(words[i]) ^ parity(h)) << 7));
  }
}

void secded_decode(std::uint64_t* words, std::uint8_t* check, std::size_t n, std::uint8_t* status) {
  for (std::size_t i = 0; i < n; ++i) {
    const unsigned syndrome = hamming(words[i]) ^ (check[i] & 0x7FU);
    const unsigned odd = parity(words[i]) ^ parity(check[i]);
    status[i] = 0;
    if (syndrome == 0 && odd == 0) continue;
    const bool power = (syndrome & (syndrome - 1)) == 0;  // zero or a power of two: a check bit
    const unsigned data = kPositions.data_at[syndrome];
    if (odd == 0 || (!power && data == 64)) {
      status[i] = 2;
      continue;
    }
    status[i] = 1;
    if (syndrome == 0)
      check[i] = static_cast<std::uint8_t>(check[i] ^ 0x80U);
    else if (power)
      check[i] = static_cast<std::uint8_t>(check[i] ^ syndrome);
    else
      words[i] ^= std::uint64_t{1} << data;
  }
}

std::uint64_t store_bits(const KernelTable& kernels, const Device& device, const ReadTime& time, const BitCells& cells,
                         std::uint32_t write_event, Draw draw, const std::uint64_t* words, std::size_t n,
                         std::uint64_t* out) {
  std::uint64_t errors = 0;
  const float share = 1.0F / static_cast<float>(cells.planes);
  for (std::size_t w = 0; w < n; ++w) {
    float targets[64];
    float sum[64] = {};
    for (unsigned j = 0; j < 64; ++j) targets[j] = ((words[w] >> j) & 1U) != 0 ? cells.x_one : cells.x_zero;
    for (std::uint32_t plane = 0; plane < cells.planes; ++plane) {
      float soft[64];
      const Cells here = {cells.key, cells.first + plane * cells.stride + 64 * w, 64};
      kernels.program_age_read(device, time, here, write_event, draw, targets, soft);
      for (unsigned j = 0; j < 64; ++j) sum[j] += soft[j];
    }
    std::uint64_t word = 0;
    for (unsigned j = 0; j < 64; ++j)
      word |= static_cast<std::uint64_t>(sum[j] * share >= cells.threshold ? 1U : 0U) << j;
    out[w] = word;
    errors += static_cast<std::uint64_t>(std::popcount(word ^ words[w]));
  }
  return errors;
}

}  // namespace memristore
