// Sixteen bytes: NEON.
#pragma once
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace {

constexpr std::size_t kByteLanes = 16;
struct B {
  uint8x16_t v;
};

inline B load(const std::int8_t* p) { return {vld1q_u8(reinterpret_cast<const std::uint8_t*>(p))}; }
inline void store(std::int8_t* p, B a) { vst1q_u8(reinterpret_cast<std::uint8_t*>(p), a.v); }
inline B bytes(std::uint8_t a) { return {vdupq_n_u8(a)}; }
inline B operator+(B a, B b) { return {vaddq_u8(a.v, b.v)}; }
inline B operator-(B a, B b) { return {vsubq_u8(a.v, b.v)}; }
inline B operator^(B a, B b) { return {veorq_u8(a.v, b.v)}; }
// Signed.
inline B add_saturated(B a, B b) {
  return {vreinterpretq_u8_s8(vqaddq_s8(vreinterpretq_s8_u8(a.v), vreinterpretq_s8_u8(b.v)))};
}
inline B subtract_saturated(B a, B b) {
  return {vreinterpretq_u8_s8(vqsubq_s8(vreinterpretq_s8_u8(a.v), vreinterpretq_s8_u8(b.v)))};
}
inline B magnitude(B a) { return {vreinterpretq_u8_s8(vabsq_s8(vreinterpretq_s8_u8(a.v)))}; }
// Unsigned.
inline B min(B a, B b) { return {vminq_u8(a.v, b.v)}; }
inline B max(B a, B b) { return {vmaxq_u8(a.v, b.v)}; }
// round(4 ln(1 + exp(-x / 4))): 3 at 0, 2 up to 3, 1 up to 8. Lookups beyond the table give 0.
inline B soft_step(B x) {
  static constexpr std::uint8_t table[16] = {3, 2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0};
  return {vqtbl1q_u8(vld1q_u8(table), x.v)};
}
inline B negate_if(B sign, B a) {
  const uint8x16_t flip = vreinterpretq_u8_s8(vshrq_n_s8(vreinterpretq_s8_u8(sign.v), 7));
  return {vsubq_u8(veorq_u8(a.v, flip), flip)};
}
inline B select_equal(B a, B b, B same, B other) { return {vbslq_u8(vceqq_u8(a.v, b.v), same.v, other.v)}; }
inline bool any_negative(B a) { return vmaxvq_u8(a.v) >= 128; }

}  // namespace
