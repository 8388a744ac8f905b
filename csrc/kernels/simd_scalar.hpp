// One-lane vectors: the portable level, and the reference that the others must equal bit for bit.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kLanes = 1;
struct F {
  float v;
};
struct U {
  std::uint32_t v;
};
struct M {
  bool v;
};

inline F set(float a) { return {a}; }
inline U setu(std::uint32_t a) { return {a}; }
inline F load(const float* p) { return {*p}; }
inline void store(float* p, F a) { *p = a.v; }
inline void storeu(std::uint32_t* p, U a) { *p = a.v; }
inline U iota() { return {0U}; }

inline F operator+(F a, F b) { return {a.v + b.v}; }
inline F operator-(F a, F b) { return {a.v - b.v}; }
inline F operator*(F a, F b) { return {a.v * b.v}; }

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
inline F fma(F a, F b, F c) { return {__builtin_fmaf(a.v, b.v, c.v)}; }
#else
// Fused multiply-add where the baseline has no instruction for it. On such a machine libm changes the rounding mode for
// each, and a normal would take almost forty times as long. In double the product is exact and the sum is rounded once.
// Rounding that again, to float, gives what one rounding gives unless the sum lies midway between two floats, or among
// the subnormal ones, and was not exact: then it is rounded to odd instead, which no later rounding can mistake for a
// midpoint (Boldo and Melquiond, IEEE Trans. Comput. 57, 462, 2008). Left to itself, GCC does not inline this.
__attribute__((always_inline)) inline F fma(F a, F b, F c) {
  const double product = static_cast<double>(a.v) * static_cast<double>(b.v);
  const double addend = static_cast<double>(c.v);
  double sum = product + addend;
  std::uint64_t word;
  std::memcpy(&word, &sum, 8);
  constexpr std::uint64_t kBelowFloat = (std::uint64_t{1} << 29) - 1;  // bits of a double that a float lacks
  constexpr std::uint64_t kSmallest = static_cast<std::uint64_t>(1023 - 126) << 52;  // 2^-126
  const bool midway = (word & kBelowFloat) == (kBelowFloat >> 1) + 1;
  const bool subnormal = (word << 1) < (kSmallest << 1);
  if (__builtin_expect(midway || subnormal, 0)) {
    const double rest = sum - product;
    const double error = (product - (sum - rest)) + (addend - rest);  // exact (Knuth's two-sum)
    if (error != 0.0 && (word & 1U) == 0) {
      word += (error > 0.0) == (sum > 0.0) ? 1 : ~std::uint64_t{0};
      std::memcpy(&sum, &word, 8);
    }
  }
  return {static_cast<float>(sum)};
}
#endif
inline F sqrt(F a) { return {__builtin_sqrtf(a.v)}; }
inline F min(F a, F b) { return {a.v < b.v ? a.v : b.v}; }
inline F max(F a, F b) { return {a.v > b.v ? a.v : b.v}; }

inline U bits(F a) {
  U r;
  std::memcpy(&r.v, &a.v, 4);
  return r;
}
inline F floats(U a) {
  F r;
  std::memcpy(&r.v, &a.v, 4);
  return r;
}
inline U operator+(U a, U b) { return {a.v + b.v}; }
inline U operator-(U a, U b) { return {a.v - b.v}; }
inline U operator^(U a, U b) { return {a.v ^ b.v}; }
inline U operator&(U a, U b) { return {a.v & b.v}; }
inline U xor3(U a, U b, U c) { return {a.v ^ b.v ^ c.v}; }
template <int n>
inline U shl(U a) {
  return {a.v << n};
}
template <int n>
inline U shr(U a) {
  return {a.v >> n};
}
template <int n>
inline U sar(U a) {
  return {static_cast<std::uint32_t>(static_cast<std::int32_t>(a.v) >> n)};
}
inline F from_int(U a) { return {static_cast<float>(static_cast<std::int32_t>(a.v))}; }
inline U to_int(F a) { return {static_cast<std::uint32_t>(static_cast<std::int32_t>(a.v))}; }
inline void mul_wide(U a, std::uint32_t m, U& high, U& low) {
  const std::uint64_t p = static_cast<std::uint64_t>(a.v) * m;
  high = {static_cast<std::uint32_t>(p >> 32)};
  low = {static_cast<std::uint32_t>(p)};
}

inline M less(F a, F b) { return {a.v < b.v}; }
inline M less_equal(F a, F b) { return {a.v <= b.v}; }
inline M less_u(U a, U b) { return {a.v < b.v}; }
inline M nonzero(U a) { return {a.v != 0U}; }
inline M operator&(M a, M b) { return {a.v && b.v}; }
inline M andnot(M a, M b) { return {!a.v && b.v}; }
inline M operator|(M a, M b) { return {a.v || b.v}; }
inline bool any(M a) { return a.v; }
inline F select(M m, F a, F b) { return m.v ? a : b; }
inline U select(M m, U a, U b) { return m.v ? a : b; }
// table[index], lane by lane; and the same for tables of at most 64 knots in a 64-float buffer.
inline F fetch(const float* table, U index) { return {table[index.v]}; }
inline F lookup(const float* table, U index) { return fetch(table, index); }

// Writes the chosen lanes one behind the other and returns how many; up to kLanes elements may be overwritten.
inline std::size_t compress(float* p, M m, F a) {
  *p = a.v;
  return m.v ? 1 : 0;
}
inline std::size_t compress(std::uint32_t* p, M m, U a) {
  *p = a.v;
  return m.v ? 1 : 0;
}
inline U loadu(const std::uint32_t* p) { return {*p}; }
// Lanes as bits and back.
inline std::uint32_t mask_bits(M m) { return m.v ? 1U : 0U; }
inline M bit_mask(std::uint32_t lane_bits) { return {(lane_bits & 1U) != 0}; }
// The next floats of p, one for each chosen lane, in order; up to kLanes floats may be read. Lanes not chosen are unspecified.
inline F expand(const float* p, M) { return {*p}; }
// -x where the lane's bit is set.
inline F negate_if(std::uint32_t lane_bits, F a) { return {(lane_bits & 1U) != 0 ? -a.v : a.v}; }
}  // namespace
