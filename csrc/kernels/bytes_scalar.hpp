// Sixteen bytes in the compiler's own vectors, whatever the platform has for them: the portable level.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr std::size_t kByteLanes = 16;
using Bytes = std::uint8_t __attribute__((vector_size(16)));
struct B {
  Bytes v;
};

inline B load(const std::int8_t* p) {
  B a;
  std::memcpy(&a.v, p, sizeof a.v);
  return a;
}
inline void store(std::int8_t* p, B a) { std::memcpy(p, &a.v, sizeof a.v); }
inline B bytes(std::uint8_t a) { return {Bytes{} + a}; }
inline B operator+(B a, B b) { return {a.v + b.v}; }
inline B operator-(B a, B b) { return {a.v - b.v}; }
inline B operator^(B a, B b) { return {a.v ^ b.v}; }
// All ones where a byte's top bit is set.
inline Bytes negative(Bytes a) {
  using Signed = std::int8_t __attribute__((vector_size(16)));
  return reinterpret_cast<Bytes>(reinterpret_cast<Signed>(a) < 0);
}
inline Bytes choose(Bytes mask, Bytes a, Bytes b) { return (mask & a) | (~mask & b); }
// Signed.
inline B add_saturated(B a, B b) {
  const Bytes sum = a.v + b.v;
  return {choose(negative(~(a.v ^ b.v) & (a.v ^ sum)), 127 - negative(a.v), sum)};  // 127 - 255 is -128
}
inline B subtract_saturated(B a, B b) {
  const Bytes rest = a.v - b.v;
  return {choose(negative((a.v ^ b.v) & (a.v ^ rest)), 127 - negative(a.v), rest)};
}
inline B negate_if(B sign, B a) {
  const Bytes flip = negative(sign.v);
  return {(a.v ^ flip) - flip};
}
inline B magnitude(B a) { return negate_if(a, a); }
// Unsigned.
inline B min(B a, B b) { return {a.v < b.v ? a.v : b.v}; }
inline B max(B a, B b) { return {a.v > b.v ? a.v : b.v}; }
// round(4 ln(1 + exp(-x / 4))): 3 at 0, 2 up to 3, 1 up to 8. A true comparison is all ones, that is -1.
inline B soft_step(B x) {
  return {Bytes{} - reinterpret_cast<Bytes>(x.v == 0) - reinterpret_cast<Bytes>(x.v < 4) -
          reinterpret_cast<Bytes>(x.v < 9)};
}
inline B select_equal(B a, B b, B same, B other) {
  return {choose(reinterpret_cast<Bytes>(a.v == b.v), same.v, other.v)};
}
inline bool any_negative(B a) {
  std::uint64_t half[2];
  std::memcpy(half, &a.v, sizeof half);
  return ((half[0] | half[1]) & 0x8080808080808080ULL) != 0;
}

}  // namespace
