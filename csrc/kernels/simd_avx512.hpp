// Sixteen lanes: AVX-512 (F, BW, DQ, VL).
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kLanes = 16;
struct F {
  __m512 v;
};
struct U {
  __m512i v;
};
struct M {
  __mmask16 v;
};

inline F set(float a) { return {_mm512_set1_ps(a)}; }
inline U setu(std::uint32_t a) { return {_mm512_set1_epi32(static_cast<int>(a))}; }
inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
inline void storeu(std::uint32_t* p, U a) { _mm512_storeu_si512(p, a.v); }
inline U iota() { return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }

inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
inline F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }

inline U bits(F a) { return {_mm512_castps_si512(a.v)}; }
inline F floats(U a) { return {_mm512_castsi512_ps(a.v)}; }
inline U operator+(U a, U b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline U operator-(U a, U b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline U operator^(U a, U b) { return {_mm512_xor_si512(a.v, b.v)}; }
inline U operator&(U a, U b) { return {_mm512_and_si512(a.v, b.v)}; }
inline U xor3(U a, U b, U c) { return {_mm512_ternarylogic_epi32(a.v, b.v, c.v, 0x96)}; }
template <int n>
inline U shl(U a) {
  return {_mm512_slli_epi32(a.v, n)};
}
template <int n>
inline U shr(U a) {
  return {_mm512_srli_epi32(a.v, n)};
}
template <int n>
inline U sar(U a) {
  return {_mm512_srai_epi32(a.v, n)};
}
inline F from_int(U a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline U to_int(F a) { return {_mm512_cvttps_epi32(a.v)}; }
inline void mul_wide(U a, std::uint32_t m, U& high, U& low) {
  const __m512i k = _mm512_set1_epi32(static_cast<int>(m));
  const __m512i even = _mm512_mul_epu32(a.v, k);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), k);
  high.v = _mm512_mask_shuffle_epi32(odd, 0x5555, even, static_cast<_MM_PERM_ENUM>(0xF5));
  low.v = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, static_cast<_MM_PERM_ENUM>(0xA0));
}

inline M less(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline M less_equal(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
inline M less_u(U a, U b) { return {_mm512_cmplt_epu32_mask(a.v, b.v)}; }
inline M nonzero(U a) { return {_mm512_test_epi32_mask(a.v, a.v)}; }
inline M operator&(M a, M b) { return {static_cast<__mmask16>(a.v & b.v)}; }
inline M andnot(M a, M b) { return {static_cast<__mmask16>(~a.v & b.v)}; }
inline M operator|(M a, M b) { return {static_cast<__mmask16>(a.v | b.v)}; }
inline bool any(M a) { return a.v != 0; }
inline F select(M m, F a, F b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
inline U select(M m, U a, U b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }
// Sixteen scalar loads: gathers are slow on many processors (docs/kernels.md).
inline F fetch(const float* table, U index) {
  alignas(64) std::uint32_t i[16];
  _mm512_store_si512(i, index.v);
  return {_mm512_setr_ps(table[i[0]], table[i[1]], table[i[2]], table[i[3]], table[i[4]], table[i[5]], table[i[6]],
                         table[i[7]], table[i[8]], table[i[9]], table[i[10]], table[i[11]], table[i[12]], table[i[13]],
                         table[i[14]], table[i[15]])};
}
// kFewKnots knots fit four registers: two two-source permutes and a blend on index bit 5.
inline F lookup(const float* table, U index) {
  const __m512 low = _mm512_permutex2var_ps(_mm512_loadu_ps(table), index.v, _mm512_loadu_ps(table + 16));
  const __m512 high = _mm512_permutex2var_ps(_mm512_loadu_ps(table + 32), index.v, _mm512_loadu_ps(table + 48));
  const __mmask16 upper = _mm512_test_epi32_mask(index.v, _mm512_set1_epi32(32));
  return {_mm512_mask_blend_ps(upper, low, high)};
}

// Writes the chosen lanes one behind the other and returns how many; up to kLanes elements may be overwritten: compress
// to a register and a full store, since the memory form of vcompressps is slow on some processors.
inline std::size_t compress(float* p, M m, F a) {
  _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m.v, a.v));
  return static_cast<std::size_t>(__builtin_popcount(m.v));
}
inline std::size_t compress(std::uint32_t* p, M m, U a) {
  _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(m.v, a.v));
  return static_cast<std::size_t>(__builtin_popcount(m.v));
}
inline U loadu(const std::uint32_t* p) { return {_mm512_loadu_si512(p)}; }
// Lanes as bits and back.
inline std::uint32_t mask_bits(M m) { return m.v; }
inline M bit_mask(std::uint32_t lane_bits) { return {static_cast<__mmask16>(lane_bits)}; }
// The next floats of p, one for each chosen lane, in order; up to kLanes floats may be read. Lanes not chosen are unspecified.
inline F expand(const float* p, M m) { return {_mm512_maskz_expand_ps(m.v, _mm512_loadu_ps(p))}; }
// -x where the lane's bit is set.
inline F negate_if(std::uint32_t lane_bits, F a) {
  const __m512i top = _mm512_set1_epi32(static_cast<int>(0x80000000U));
  return floats(U{_mm512_mask_xor_epi32(bits(a).v, static_cast<__mmask16>(lane_bits), bits(a).v, top)});
}
}  // namespace
