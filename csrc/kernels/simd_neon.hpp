// Four lanes: Advanced SIMD of AArch64, where fused multiply-add is always there.
#pragma once
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace {

constexpr int kLanes = 4;
struct F {
  float32x4_t v;
};
struct U {
  uint32x4_t v;
};
struct M {
  uint32x4_t v;  // all ones or all zeros per lane
};

alignas(16) constexpr std::uint32_t kLaneNumbers[4] = {0, 1, 2, 3};
alignas(16) constexpr std::uint32_t kLaneBits[4] = {1, 2, 4, 8};

inline F set(float a) { return {vdupq_n_f32(a)}; }
inline U setu(std::uint32_t a) { return {vdupq_n_u32(a)}; }
inline F load(const float* p) { return {vld1q_f32(p)}; }
inline void store(float* p, F a) { vst1q_f32(p, a.v); }
inline void storeu(std::uint32_t* p, U a) { vst1q_u32(p, a.v); }
inline U iota() { return {vld1q_u32(kLaneNumbers)}; }

inline F operator+(F a, F b) { return {vaddq_f32(a.v, b.v)}; }
inline F operator-(F a, F b) { return {vsubq_f32(a.v, b.v)}; }
inline F operator*(F a, F b) { return {vmulq_f32(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline F sqrt(F a) { return {vsqrtq_f32(a.v)}; }
// The second operand where either is not a number and where both are zeros, as on x86; fmin and fmax differ in both.
inline F min(F a, F b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
inline F max(F a, F b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }

inline U bits(F a) { return {vreinterpretq_u32_f32(a.v)}; }
inline F floats(U a) { return {vreinterpretq_f32_u32(a.v)}; }
inline U operator+(U a, U b) { return {vaddq_u32(a.v, b.v)}; }
inline U operator-(U a, U b) { return {vsubq_u32(a.v, b.v)}; }
inline U operator^(U a, U b) { return {veorq_u32(a.v, b.v)}; }
inline U operator&(U a, U b) { return {vandq_u32(a.v, b.v)}; }
inline U xor3(U a, U b, U c) { return a ^ b ^ c; }
template <int n>
inline U shl(U a) {
  return {vshlq_n_u32(a.v, n)};
}
template <int n>
inline U shr(U a) {
  return {vshrq_n_u32(a.v, n)};
}
template <int n>
inline U sar(U a) {
  return {vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a.v), n))};
}
inline F from_int(U a) { return {vcvtq_f32_s32(vreinterpretq_s32_u32(a.v))}; }
inline U to_int(F a) { return {vreinterpretq_u32_s32(vcvtq_s32_f32(a.v))}; }
// Products of the lower and of the upper two lanes, then their high and low words gathered.
inline void mul_wide(U a, std::uint32_t m, U& high, U& low) {
  const uint32x4_t k = vdupq_n_u32(m);
  const uint32x4_t lower = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a.v), vget_low_u32(k)));
  const uint32x4_t upper = vreinterpretq_u32_u64(vmull_high_u32(a.v, k));
  high.v = vuzp2q_u32(lower, upper);
  low.v = vuzp1q_u32(lower, upper);
}

inline M less(F a, F b) { return {vcltq_f32(a.v, b.v)}; }
inline M less_equal(F a, F b) { return {vcleq_f32(a.v, b.v)}; }
inline M less_u(U a, U b) { return {vcltq_u32(a.v, b.v)}; }
inline M nonzero(U a) { return {vtstq_u32(a.v, a.v)}; }
inline M operator&(M a, M b) { return {vandq_u32(a.v, b.v)}; }
inline M andnot(M a, M b) { return {vbicq_u32(b.v, a.v)}; }
inline M operator|(M a, M b) { return {vorrq_u32(a.v, b.v)}; }
inline bool any(M a) { return vmaxvq_u32(a.v) != 0; }
inline F select(M m, F a, F b) { return {vbslq_f32(m.v, a.v, b.v)}; }
inline U select(M m, U a, U b) { return {vbslq_u32(m.v, a.v, b.v)}; }
// Four scalar loads: there is no gather.
inline F fetch(const float* table, U index) {
  alignas(16) const float lanes[4] = {table[vgetq_lane_u32(index.v, 0)], table[vgetq_lane_u32(index.v, 1)],
                                      table[vgetq_lane_u32(index.v, 2)], table[vgetq_lane_u32(index.v, 3)]};
  return {vld1q_f32(lanes)};
}
inline F lookup(const float* table, U index) { return fetch(table, index); }

// Lanes as bits and back; bits above the fourth are ignored.
inline std::uint32_t mask_bits(M m) { return vaddvq_u32(vandq_u32(m.v, vld1q_u32(kLaneBits))); }
inline M bit_mask(std::uint32_t lane_bits) { return {vtstq_u32(vdupq_n_u32(lane_bits), vld1q_u32(kLaneBits))}; }

// For each of the 16 lane masks, the bytes of the chosen lanes in order.
struct CompressTable {
  alignas(16) std::uint8_t bytes[16][16];
};
constexpr CompressTable make_compress_table() {
  CompressTable table{};
  for (unsigned mask = 0; mask < 16; ++mask) {
    unsigned n = 0;
    for (unsigned byte = 0; byte < 16; ++byte)
      if ((mask >> (byte / 4)) & 1U) table.bytes[mask][n++] = static_cast<std::uint8_t>(byte);
  }
  return table;
}
constexpr CompressTable kCompress = make_compress_table();

// Writes the chosen lanes one behind the other and returns how many; up to kLanes elements may be overwritten.
inline std::size_t compress(std::uint32_t* p, M m, U a) {
  const std::uint32_t mask = mask_bits(m);
  const uint8x16_t order = vld1q_u8(kCompress.bytes[mask]);
  vst1q_u32(p, vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(a.v), order)));
  return static_cast<std::size_t>(__builtin_popcount(mask));
}
inline std::size_t compress(float* p, M m, F a) {
  const std::uint32_t mask = mask_bits(m);
  const uint8x16_t order = vld1q_u8(kCompress.bytes[mask]);
  vst1q_f32(p, vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(a.v), order)));
  return static_cast<std::size_t>(__builtin_popcount(mask));
}
inline U loadu(const std::uint32_t* p) { return {vld1q_u32(p)}; }
constexpr CompressTable make_expand_table() {
  CompressTable table{};
  for (unsigned mask = 0; mask < 16; ++mask) {
    unsigned n = 0;
    for (unsigned lane = 0; lane < 4; ++lane) {
      for (unsigned byte = 0; byte < 4; ++byte)
        table.bytes[mask][4 * lane + byte] = static_cast<std::uint8_t>(4 * (n & 3U) + byte);
      n += (mask >> lane) & 1U;
    }
  }
  return table;
}
constexpr CompressTable kExpand = make_expand_table();

// The next floats of p, one for each chosen lane, in order; up to kLanes floats may be read. Lanes not chosen are
// unspecified.
inline F expand(const float* p, M m) {
  const uint8x16_t order = vld1q_u8(kExpand.bytes[mask_bits(m)]);
  return {vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(vld1q_f32(p)), order))};
}
// -x where the lane's bit is set.
inline F negate_if(std::uint32_t lane_bits, F a) {
  const uint32x4_t top = vandq_u32(bit_mask(lane_bits).v, vdupq_n_u32(0x80000000U));
  return {vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a.v), top))};
}

}  // namespace
