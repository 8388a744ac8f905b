// Thirty-two bytes: AVX2.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

constexpr std::size_t kByteLanes = 32;
struct B {
  __m256i v;
};

inline B load(const std::int8_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
inline void store(std::int8_t* p, B a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
inline B bytes(std::uint8_t a) { return {_mm256_set1_epi8(static_cast<char>(a))}; }
inline B operator+(B a, B b) { return {_mm256_add_epi8(a.v, b.v)}; }
inline B operator-(B a, B b) { return {_mm256_sub_epi8(a.v, b.v)}; }
inline B operator^(B a, B b) { return {_mm256_xor_si256(a.v, b.v)}; }
// Signed.
inline B add_saturated(B a, B b) { return {_mm256_adds_epi8(a.v, b.v)}; }
inline B subtract_saturated(B a, B b) { return {_mm256_subs_epi8(a.v, b.v)}; }
inline B magnitude(B a) { return {_mm256_abs_epi8(a.v)}; }
// Unsigned.
inline B min(B a, B b) { return {_mm256_min_epu8(a.v, b.v)}; }
inline B max(B a, B b) { return {_mm256_max_epu8(a.v, b.v)}; }
// round(4 ln(1 + exp(-x / 4))): 3 at 0, 2 up to 3, 1 up to 8.
inline B soft_step(B x) {
  const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(3, 2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0));
  return {_mm256_shuffle_epi8(table, _mm256_min_epu8(x.v, _mm256_set1_epi8(15)))};
}
inline B negate_if(B sign, B a) {
  const __m256i flip = _mm256_cmpgt_epi8(_mm256_setzero_si256(), sign.v);
  return {_mm256_sub_epi8(_mm256_xor_si256(a.v, flip), flip)};
}
inline B select_equal(B a, B b, B same, B other) {
  return {_mm256_blendv_epi8(other.v, same.v, _mm256_cmpeq_epi8(a.v, b.v))};
}
inline bool any_negative(B a) { return _mm256_movemask_epi8(a.v) != 0; }

}  // namespace
