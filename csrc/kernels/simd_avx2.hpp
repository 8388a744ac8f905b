// Eight lanes: AVX2 with FMA.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int kLanes = 8;
struct F {
  __m256 v;
};
struct U {
  __m256i v;
};
struct M {
  __m256 v;
};

inline F set(float a) { return {_mm256_set1_ps(a)}; }
inline U setu(std::uint32_t a) { return {_mm256_set1_epi32(static_cast<int>(a))}; }
inline F load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline void store(float* p, F a) { _mm256_storeu_ps(p, a.v); }
inline void storeu(std::uint32_t* p, U a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
inline U iota() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)}; }

inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F sqrt(F a) { return {_mm256_sqrt_ps(a.v)}; }
inline F min(F a, F b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }

inline U bits(F a) { return {_mm256_castps_si256(a.v)}; }
inline F floats(U a) { return {_mm256_castsi256_ps(a.v)}; }
inline U operator+(U a, U b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline U operator-(U a, U b) { return {_mm256_sub_epi32(a.v, b.v)}; }
inline U operator^(U a, U b) { return {_mm256_xor_si256(a.v, b.v)}; }
inline U operator&(U a, U b) { return {_mm256_and_si256(a.v, b.v)}; }
inline U xor3(U a, U b, U c) { return a ^ b ^ c; }
template <int n>
inline U shl(U a) {
  return {_mm256_slli_epi32(a.v, n)};
}
template <int n>
inline U shr(U a) {
  return {_mm256_srli_epi32(a.v, n)};
}
template <int n>
inline U sar(U a) {
  return {_mm256_srai_epi32(a.v, n)};
}
inline F from_int(U a) { return {_mm256_cvtepi32_ps(a.v)}; }
inline U to_int(F a) { return {_mm256_cvttps_epi32(a.v)}; }
// Widening multiply of even and odd lanes, then both halves brought back to lane order.
inline void mul_wide(U a, std::uint32_t m, U& high, U& low) {
  const __m256i k = _mm256_set1_epi32(static_cast<int>(m));
  const __m256i even = _mm256_mul_epu32(a.v, k);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a.v, 32), k);
  high.v = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
  low.v = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}

inline M less(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline M less_equal(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
inline M less_u(U a, U b) {
  const __m256i top = _mm256_set1_epi32(static_cast<int>(0x80000000U));
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_xor_si256(b.v, top), _mm256_xor_si256(a.v, top)))};
}
inline M nonzero(U a) {
  const __m256i zero = _mm256_cmpeq_epi32(a.v, _mm256_setzero_si256());
  return {_mm256_castsi256_ps(_mm256_xor_si256(zero, _mm256_set1_epi32(-1)))};
}
inline M operator&(M a, M b) { return {_mm256_and_ps(a.v, b.v)}; }
inline M andnot(M a, M b) { return {_mm256_andnot_ps(a.v, b.v)}; }
inline M operator|(M a, M b) { return {_mm256_or_ps(a.v, b.v)}; }
inline bool any(M a) { return _mm256_movemask_ps(a.v) != 0; }
inline F select(M m, F a, F b) { return {_mm256_blendv_ps(b.v, a.v, m.v)}; }
inline U select(M m, U a, U b) { return bits(select(m, floats(a), floats(b))); }
// Eight scalar loads: gathers are slow on many processors (docs/kernels.md).
inline F fetch(const float* table, U index) {
  alignas(32) std::uint32_t i[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(i), index.v);
  return {_mm256_setr_ps(table[i[0]], table[i[1]], table[i[2]], table[i[3]], table[i[4]], table[i[5]], table[i[6]],
                         table[i[7]])};
}

inline F lookup(const float* table, U index) { return fetch(table, index); }

// For each of the 256 lane masks, the chosen lanes in order.
struct CompressTable {
  alignas(32) std::uint32_t lanes[256][8];
};
constexpr CompressTable make_compress_table() {
  CompressTable table{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    unsigned n = 0;
    for (unsigned lane = 0; lane < 8; ++lane)
      if ((mask >> lane) & 1U) table.lanes[mask][n++] = lane;
  }
  return table;
}
constexpr CompressTable kCompress = make_compress_table();

// Writes the chosen lanes one behind the other and returns how many; up to kLanes elements may be overwritten.
inline std::size_t compress(float* p, M m, F a) {
  const auto mask = static_cast<unsigned>(_mm256_movemask_ps(m.v));
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCompress.lanes[mask]));
  _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(a.v, order));
  return static_cast<std::size_t>(__builtin_popcount(mask));
}
inline std::size_t compress(std::uint32_t* p, M m, U a) { return compress(reinterpret_cast<float*>(p), m, floats(a)); }
inline U loadu(const std::uint32_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
// Lanes as bits and back.
inline std::uint32_t mask_bits(M m) { return static_cast<std::uint32_t>(_mm256_movemask_ps(m.v)); }
inline M bit_mask(std::uint32_t lane_bits) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lane_bits)), lane);
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, lane))};
}
// For each of the 256 lane masks and each lane, the number of chosen lanes before it.
constexpr CompressTable make_expand_table() {
  CompressTable table{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    unsigned n = 0;
    for (unsigned lane = 0; lane < 8; ++lane) {
      table.lanes[mask][lane] = n & 7U;
      n += (mask >> lane) & 1U;
    }
  }
  return table;
}
constexpr CompressTable kExpand = make_expand_table();

// The next floats of p, one for each chosen lane, in order; up to kLanes floats may be read. Lanes not chosen are unspecified.
inline F expand(const float* p, M m) {
  const auto mask = static_cast<unsigned>(_mm256_movemask_ps(m.v));
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(kExpand.lanes[mask]));
  return {_mm256_permutevar8x32_ps(_mm256_loadu_ps(p), order)};
}
// -x where the lane's bit is set.
inline F negate_if(std::uint32_t lane_bits, F a) {
  const __m256 top = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0x80000000U)));
  return {_mm256_xor_ps(a.v, _mm256_and_ps(bit_mask(lane_bits).v, top))};
}

}  // namespace
