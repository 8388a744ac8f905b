// Sixty-four bytes: AVX-512 (BW).
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace {

constexpr std::size_t kByteLanes = 64;
struct B {
  __m512i v;
};

inline B load(const std::int8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store(std::int8_t* p, B a) { _mm512_storeu_si512(p, a.v); }
inline B bytes(std::uint8_t a) { return {_mm512_set1_epi8(static_cast<char>(a))}; }
inline B operator+(B a, B b) { return {_mm512_add_epi8(a.v, b.v)}; }
inline B operator-(B a, B b) { return {_mm512_sub_epi8(a.v, b.v)}; }
inline B operator^(B a, B b) { return {_mm512_xor_si512(a.v, b.v)}; }
// Signed.
inline B add_saturated(B a, B b) { return {_mm512_adds_epi8(a.v, b.v)}; }
inline B subtract_saturated(B a, B b) { return {_mm512_subs_epi8(a.v, b.v)}; }
inline B magnitude(B a) { return {_mm512_abs_epi8(a.v)}; }
// Unsigned.
inline B min(B a, B b) { return {_mm512_min_epu8(a.v, b.v)}; }
inline B max(B a, B b) { return {_mm512_max_epu8(a.v, b.v)}; }
// round(4 ln(1 + exp(-x / 4))): 3 at 0, 2 up to 3, 1 up to 8.
inline B soft_step(B x) {
  const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0));
  return {_mm512_shuffle_epi8(table, _mm512_min_epu8(x.v, _mm512_set1_epi8(15)))};
}
inline B negate_if(B sign, B a) {
  return {_mm512_mask_sub_epi8(a.v, _mm512_movepi8_mask(sign.v), _mm512_setzero_si512(), a.v)};
}
inline B select_equal(B a, B b, B same, B other) {
  return {_mm512_mask_blend_epi8(_mm512_cmpeq_epi8_mask(a.v, b.v), other.v, same.v)};
}
inline bool any_negative(B a) { return _mm512_movepi8_mask(a.v) != 0; }

}  // namespace
