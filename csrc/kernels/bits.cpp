// The SECDED code over 64-bit words, and counting bits. Integer work: one build serves every level.
#include <array>
#include <bit>
#include <cstring>

#include "memristore/kernels.hpp"

namespace memristore {
namespace {

// Extended Hamming: data bits sit at the positions 3, 5, 6, 7, 9, ... of a code word that are not powers of two; check
// bit k covers the positions whose bit k is set; bit 7 of the check byte is the parity of all 71 others.
struct Positions {
  std::array<std::uint8_t, 64> of_data{};   // code-word position of data bit j
  std::array<std::uint8_t, 128> data_at{};  // data bit at a position, 64 if none
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
  }
  return p;
}

constexpr Positions kPositions = make_positions();

// Contribution of each value of each byte of a word: Hamming checks in the low seven bits, the byte's own parity in bit 7.
// Eight loads and xors replace 71 parities.
struct ByteChecks {
  std::array<std::array<std::uint8_t, 256>, 8> of{};
};

constexpr ByteChecks make_byte_checks() {
  ByteChecks checks;
  for (unsigned byte = 0; byte < 8; ++byte)
    for (unsigned value = 0; value < 256; ++value)
      for (unsigned bit = 0; bit < 8; ++bit)
        if ((value >> bit) & 1U)
          checks.of[byte][value] =
              static_cast<std::uint8_t>(checks.of[byte][value] ^ 0x80U ^ kPositions.of_data[8 * byte + bit]);
  return checks;
}

constexpr ByteChecks kByteChecks = make_byte_checks();

inline unsigned parity(unsigned x) { return static_cast<unsigned>(__builtin_parity(x)); }

// Hamming checks of a word (bits 0 to 6) and its parity (bit 7).
inline unsigned word_checks(std::uint64_t word) {
  unsigned checks = 0;
  for (unsigned byte = 0; byte < 8; ++byte) checks ^= kByteChecks.of[byte][(word >> (8 * byte)) & 255U];
  return checks;
}

}  // namespace

void secded_encode(const std::uint64_t* words, std::size_t n, std::uint8_t* check) {
  for (std::size_t i = 0; i < n; ++i) {
    const unsigned checks = word_checks(words[i]);
    check[i] = static_cast<std::uint8_t>(checks ^ (parity(checks & 0x7FU) << 7));
  }
}

void secded_decode(std::uint64_t* words, std::uint8_t* check, std::size_t n, std::uint8_t* status) {
  for (std::size_t i = 0; i < n; ++i) {
    const unsigned checks = word_checks(words[i]);
    const unsigned syndrome = (checks ^ check[i]) & 0x7FU;
    const unsigned odd = (checks >> 7) ^ parity(check[i]);
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

std::size_t ones(const std::uint8_t* bits, std::size_t n) {
  std::size_t count = 0;
  std::size_t byte = 0;
  for (; 8 * byte + 64 <= n; byte += 8) {
    std::uint64_t word;
    std::memcpy(&word, bits + byte, sizeof word);
    count += static_cast<std::size_t>(std::popcount(word));
  }
  for (std::size_t i = 8 * byte; i < n; ++i) count += (bits[i / 8] >> (i % 8)) & 1U;
  return count;
}

}  // namespace memristore
