// The BCH kernels, compiled once per instruction set. Everything here has internal linkage, so no copy compiled for one
// level can be linked into another.
#ifndef MEMRISTORE_BCH
#error "define MEMRISTORE_BCH (the name of the accessor) before including bch-inl.hpp"
#endif
#include "kernels/bch_field-inl.hpp"
#include "kernels/bch_roots-inl.hpp"

namespace {

using Words = std::uint64_t[kBchMaxWords + 2];
using Vector = std::uint16_t[kBchMaxT + 4 * kRoom];

inline std::size_t check_bytes(const Bch& code) { return (code.shape.check_bits + 7) / 8; }

// Check bits of the data, lowest first.
inline void remainder_of(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, std::uint64_t* out) {
  const std::size_t words = code.shape.words;
  shifted_remainder(code, data_bytes, data, out);
  out[words] = out[words + 1] = 0;
  const std::uint32_t down = static_cast<std::uint32_t>(64 * words) - code.shape.check_bits;
  const std::size_t skip = down / 64;
  const unsigned by = down % 64;
  for (std::size_t w = 0; w + skip < words; ++w)
    out[w] = by == 0 ? out[w + skip] : (out[w + skip] >> by) | (out[w + skip + 1] << (64 - by));
}

// What the check bits differ by from those of the data; returns whether they do.
inline bool difference(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, const std::uint8_t* check,
                       std::uint64_t* out) {
  remainder_of(code, data_bytes, data, out);
  const std::size_t bits = code.shape.check_bits;
  std::uint64_t any = 0;
  for (std::size_t w = 0; 64 * w < bits; ++w) {
    out[w] ^= load_word(check + 8 * w, check_bytes(code) - 8 * w);
    if (bits - 64 * w < 64) out[w] &= (std::uint64_t{1} << (bits - 64 * w)) - 1;
    any |= out[w];
  }
  return any != 0;
}

// The rows of the bits that are set, added up: kCount registers of them from `row` on.
template <std::size_t kCount>
inline void add_rows(const Bch& code, const std::uint64_t* rest, const std::uint16_t* row, std::uint16_t* out) {
  Wide sum[kCount] = {};
  for (std::size_t w = 0; 64 * w < code.shape.check_bits; ++w, row += 64 * std::size_t{code.shape.stride})
    for (std::uint64_t left = rest[w]; left != 0; left &= left - 1) {
      const std::size_t p = static_cast<std::size_t>(__builtin_ctzll(left));
      const Wide* own = reinterpret_cast<const Wide*>(row + p * code.shape.stride);
      for (std::size_t k = 0; k < kCount; ++k) sum[k] ^= own[k];
    }
  std::memcpy(out, sum, sizeof sum);
}

inline void odd_syndromes(const Bch& code, const std::uint64_t* rest, std::uint16_t* out) {
  constexpr std::size_t kParts = 2 * kBchLanes / kWide;
  const std::size_t stride = code.shape.stride;
  std::size_t first = 0;
  for (; first + 4 * kBchLanes <= stride && kParts < 4; first += 4 * kBchLanes)
    add_rows<4 * kParts>(code, rest, code.powers + first, out + first);
  for (; first + 2 * kBchLanes <= stride; first += 2 * kBchLanes)
    add_rows<2 * kParts>(code, rest, code.powers + first, out + first);
  if (first < stride) add_rows<kParts>(code, rest, code.powers + first, out + first);
}

inline std::uint16_t square(const Bch& code, std::uint16_t x) {
  if (x == 0) return 0;
  const std::uint32_t twice = 2U * code.log[x];
  return code.exp[twice];
}

// Berlekamp-Massey for binary codes. Besides the locator it carries the locator times the syndromes, `next`, so that
// discrepancies are read off it instead of being sums of products, and every step is "add a multiple of a vector".
// Odd discrepancies of binary codes are zero, so only coefficients 2k of that product are kept; at the start the
// auxiliary polynomial is 1 and takes the even syndromes along, S_2k = S_k^2.
struct Massey {
  Vector locators[3];
  Vector products[3];
};

// Degree of the locator, or t + 1 where there are more than t errors for sure. `syndromes` has kRoom more.
inline std::size_t find_locator(const Bch& code, const std::uint16_t* syndromes, Massey& work,
                                std::uint16_t*& locator) {
  const std::size_t t = code.shape.t;
  const std::uint32_t order = code.shape.order;
  for (auto& part : work.locators) std::memset(part, 0, (t + 2 + 2 * kRoom) * sizeof *part);
  std::uint16_t *current = work.locators[0], *old = work.locators[1], *spare = work.locators[2];
  std::uint16_t *next = work.products[0], *next_old = work.products[1], *next_spare = work.products[2];
  std::memcpy(next, syndromes, (t + kRoom) * sizeof *next);
  current[0] = old[0] = next_old[0] = 1;
  for (std::size_t k = 1; k < t; ++k) next_old[k] = square(code, k % 2 == 1 ? next[k / 2] : next_old[k / 2]);
  std::memset(next_old + t, 0, kRoom * sizeof *next_old);
  std::size_t degree = 0, old_degree = 0, shift = 1, old_at = 0;
  std::uint32_t old_log = 0;  // of the discrepancy that the auxiliary polynomial had, at step old_at
  for (std::size_t k = 0; k < t; ++k, shift += 2) {
    if (next[k] == 0) continue;
    const std::uint32_t own = code.log[next[k]];
    const std::uint32_t factor = own >= old_log ? own - old_log : own + order - old_log;
    const bool longer = degree <= k;
    if (longer) {
      if (2 * k + 1 - degree > t) return t + 1;
      std::memcpy(spare, current, (t + 2) * sizeof *spare);
      std::memcpy(next_spare, next, (t + kRoom) * sizeof *next_spare);
    }
    std::uint16_t* new_current = longer ? spare : current;
    std::uint16_t* new_next = longer ? next_spare : next;
    add_multiple(code, factor, old, old_degree + 1, new_current + shift);
    add_multiple(code, factor, next_old + old_at + 1, t - k - 1, new_next + k + 1);
    if (!longer) continue;
    std::uint16_t* const freed = old;
    std::uint16_t* const next_freed = next_old;
    old = current, current = spare, spare = freed;
    next_old = next, next = next_spare, next_spare = next_freed;
    old_degree = degree, old_log = own, old_at = k;
    degree = 2 * k + 1 - degree;
    shift = 0;
  }
  locator = current;
  return degree;
}

inline void flip(std::uint8_t* bytes, std::size_t bit) {
  bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] ^ (1U << (bit % 8)));
}

inline std::int32_t decode_block(const Bch& code, std::size_t data_bytes, std::uint8_t* data, std::uint8_t* check) {
  alignas(64) Words rest;
  if (!difference(code, data_bytes, data, check, rest)) return 0;
  alignas(64) Vector syndromes;
  odd_syndromes(code, rest, syndromes);
  std::memset(syndromes + code.shape.stride, 0, kRoom * sizeof *syndromes);
  Massey work;
  std::uint16_t* locator = nullptr;
  const std::size_t degree = find_locator(code, syndromes, work, locator);
  if (degree > code.shape.t || locator[degree] == 0) return -1;
  const std::size_t bits = code.shape.check_bits;
  const std::size_t n = bits + 8 * data_bytes;
  std::uint32_t found[kBchMaxT];
  std::size_t roots = 1;
  if (degree == 1) {
    found[0] = code.log[locator[1]];
    if (found[0] >= n) return -1;
  } else {
    roots = find_roots(code, locator, degree, n, found);
  }
  if (roots != degree) return -1;
  for (std::size_t i = 0; i < roots; ++i) {
    if (found[i] < bits)
      flip(check, found[i]);
    else
      flip(data, found[i] - bits);
  }
  return static_cast<std::int32_t>(roots);
}

void encode(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, std::size_t blocks,
            std::uint8_t* check) {
  alignas(64) Words rest;
  for (std::size_t i = 0; i < blocks; ++i) {
    remainder_of(code, data_bytes, data + i * data_bytes, rest);
    std::memcpy(check + i * check_bytes(code), rest, check_bytes(code));
  }
}

void syndromes(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, const std::uint8_t* check,
               std::size_t blocks, std::uint16_t* out) {
  alignas(64) Words rest;
  alignas(64) Vector row;
  for (std::size_t i = 0; i < blocks; ++i) {
    difference(code, data_bytes, data + i * data_bytes, check + i * check_bytes(code), rest);
    odd_syndromes(code, rest, row);
    std::memcpy(out + i * code.shape.t, row, code.shape.t * sizeof *out);
  }
}

void decode(const Bch& code, std::size_t data_bytes, std::uint8_t* data, std::uint8_t* check, std::size_t blocks,
            std::int32_t* status) {
  for (std::size_t i = 0; i < blocks; ++i)
    status[i] = decode_block(code, data_bytes, data + i * data_bytes, check + i * check_bytes(code));
}

constexpr memristore::BchKernels kKernels = {encode, syndromes, decode};

}  // namespace

namespace memristore {

const BchKernels& MEMRISTORE_BCH();
const BchKernels& MEMRISTORE_BCH() { return kKernels; }

}  // namespace memristore
