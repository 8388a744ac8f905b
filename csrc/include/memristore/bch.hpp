// Binary BCH codes over GF(2^m): narrow-sense, primitive, shortened, systematic. Bit i of the check bits is the
// coefficient of x^i of a code word and bit i of the data that of x^(check_bits + i), so that bytes and 64-bit words
// (lowest bit first) are polynomials as they lie, and a shorter block is one whose highest coefficients are zero.
// Primitive polynomials: Lin and Costello, Error Control Coding, 2nd edition (2004), table 2.7.
#pragma once
#include <cstddef>
#include <cstdint>

namespace memristore {

inline constexpr unsigned kBchMinM = 5;
inline constexpr unsigned kBchMaxM = 14;
inline constexpr unsigned kBchMaxT = 1024;
inline constexpr std::size_t kBchGroup = 64;                        // positions that a root search looks at together
inline constexpr std::size_t kBchLanes = 32;                        // rows of syndromes are padded to this
inline constexpr std::size_t kBchMaxWords = (1U << kBchMaxM) / 64;  // 64-bit words of the longest code word

// Lengths of a code's tables, in elements.
struct BchShape {
  std::uint32_t m;
  std::uint32_t t;
  std::uint32_t order;       // 2^m - 1
  std::uint32_t check_bits;  // degree of the generator; cosets may be shorter than m or fall together
  std::uint32_t words;       // 64-bit words of a remainder, an even number
  std::uint32_t stride;      // odd syndromes, padded
  std::size_t exp;           // uint16
  std::size_t log;           // uint16
  std::size_t powers;        // uint16
  std::size_t rows;          // uint16
  std::size_t slices;        // uint64
  std::size_t generator;     // uint64
};

// A code: its shape and tables in memory that somebody else owns, each at a multiple of 64 bytes.
struct Bch {
  BchShape shape;
  std::uint64_t quotient;    // floor(x^(64 words + 64) / generator) without its leading term
  std::uint16_t* exp;        // exp[i] = a^i for i < 2 order, then zeros: log[0] is 2 order
  std::uint16_t* log;        //
  std::uint16_t* powers;     // [check_bits][stride]: a^((2j + 1) p)
  std::uint16_t* rows;       // [t][m][64]: a^(bit - (i + 1) b)
  std::uint64_t* slices;     // [16][16][words]: v x^(4 i) x^(64 words) mod the generator
  std::uint64_t* generator;  // times x^(64 words - check_bits), without its leading term
};

// m in [kBchMinM, kBchMaxM], t in [1, kBchMaxT] and below 2^(m - 1).
BchShape bch_shape(unsigned m, unsigned t);
// Fills the tables that `code` points to; code.shape and the pointers are set.
void bch_fill(Bch& code);

// Plain functions; blocks lie one behind the other, data in data_bytes each, check bits in ceil(check_bits / 8) bytes.
struct BchKernels {
  void (*encode)(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, std::size_t blocks,
                 std::uint8_t* check);
  // The t odd syndromes S1, S3, ... of each block.
  void (*syndromes)(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, const std::uint8_t* check,
                    std::size_t blocks, std::uint16_t* out);
  // Corrects in place; status: bits corrected, or -1 (block left as read). Unused bits of check are not looked at.
  void (*decode)(const Bch& code, std::size_t data_bytes, std::uint8_t* data, std::uint8_t* check, std::size_t blocks,
                 std::int32_t* status);
};

// The fastest that the selected instruction set allows; all give the same bits.
const BchKernels& bch_kernels();

}  // namespace memristore
