// The scalar level's fused multiply-add against libm's, which is exact: random operands, and operands chosen so that
// rounding twice would go wrong. Prints how many were tried; the exit status is 1 at the first that differs.
//   fma_emulation [random operands]
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>

#include "kernels/simd_scalar.hpp"

namespace {

struct Random {
  std::uint64_t state;
  std::uint64_t next() {  // splitmix64
    std::uint64_t z = (state += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
};

std::uint64_t tried = 0;

void check(float a, float b, float c) {
  ++tried;
  const float got = fma(F{a}, F{b}, F{c}).v;
  const float want = __builtin_fmaf(a, b, c);
  if (std::bit_cast<std::uint32_t>(got) == std::bit_cast<std::uint32_t>(want)) return;
  if (got != got && want != want) return;  // which not-a-number is left open
  std::printf("fma(%a, %a, %a) = %a, not %a\n", static_cast<double>(a), static_cast<double>(b), static_cast<double>(c),
              static_cast<double>(got), static_cast<double>(want));
  std::exit(1);
}

void check_signs(float a, float b, float c) {
  for (int signs = 0; signs < 8; ++signs)
    check((signs & 1) != 0 ? -a : a, (signs & 2) != 0 ? -b : b, (signs & 4) != 0 ? -c : c);
}

float bits_to_float(std::uint64_t word) { return std::bit_cast<float>(static_cast<std::uint32_t>(word)); }
// A float of random sign and mantissa; exponent field random in [low, high].
float in_range(Random& random, std::uint32_t low, std::uint32_t high) {
  const std::uint64_t w = random.next();
  const auto exponent = static_cast<std::uint32_t>(low + (w >> 32) % (high - low + 1));
  return bits_to_float((w & 0x807FFFFFU) | exponent << 23);
}

// Zeros, subnormals, ends of the range, infinities, not-a-numbers, and floats around small integers: all triples.
void special() {
  float values[96];
  int n = 0;
  for (std::uint32_t word : {0x00000000U, 0x00000001U, 0x00000002U, 0x00000003U, 0x00400000U, 0x007FFFFFU, 0x00800000U,
                             0x00800001U, 0x00FFFFFFU, 0x01000000U, 0x7F7FFFFFU, 0x7F7FFFFEU, 0x7F000000U, 0x7F800000U,
                             0x7FC00000U, 0x33800000U, 0x33800001U, 0x33FFFFFFU, 0x34000000U, 0x20000000U, 0x5F000000U})
    values[n++] = bits_to_float(word);
  for (std::uint32_t word : {0x3F000000U, 0x3F800000U, 0x40000000U, 0x40400000U, 0x4B000000U, 0x4B800000U})
    for (std::uint32_t step : {~0U, 0U, 1U, 2U}) values[n++] = bits_to_float(word + step);
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j)
      for (int k = 0; k < n; ++k) check_signs(values[i], values[j], values[k]);
}

// a b is a float plus half an ulp of it, or close by, and c nudges it either way: c far below, or c the float and a b
// the half ulp and a little.
void midpoints(Random& random, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t w = random.next();
    // Odd 25-bit product of two factors of at most 13 bits: midway between two floats by itself.
    const auto p = static_cast<float>((w & 0xFFFU) | 0x1001U);
    const auto q = static_cast<float>(((w >> 12) & 0xFFFU) | 0x1001U);
    const int down = static_cast<int>((w >> 24) % 60) + 25;
    const float nudge = __builtin_ldexpf(in_range(random, 127, 127), -down);
    check_signs(p, q, nudge);
    check_signs(p, q, 0.0F);
    // c one of 24 bits, a b near half its ulp: exactly half, and half plus or minus what only fma sees.
    const float c = in_range(random, 100, 150);
    const int exponent = static_cast<int>((std::bit_cast<std::uint32_t>(c) >> 23) & 0xFFU) - 127;
    const float half = __builtin_ldexpf(1.0F, exponent - 24);
    const float near = bits_to_float(0x3F800000U + (w >> 32) % 3 - 1);
    check_signs(half, near, c);
    check_signs(half * near, bits_to_float(0x3F800000U + (w >> 40) % 3 - 1), c);
    // Cancellation: c is the rounded product, the result what rounding lost.
    const float a = in_range(random, 90, 160);
    const float b = in_range(random, 90, 160);
    check_signs(a, b, a * b);
    check_signs(a, b, bits_to_float(std::bit_cast<std::uint32_t>(a * b) + (w >> 48) % 5 - 2));
    // Results among the subnormal floats, midpoints of which lie higher up in a double.
    check_signs(in_range(random, 1, 80), in_range(random, 1, 60), in_range(random, 0, 4));
    check_signs(in_range(random, 40, 70), in_range(random, 30, 60), bits_to_float(w & 0x00FFFFFFU));
    check_signs(__builtin_ldexpf(1.0F, -75), __builtin_ldexpf(near, -75), bits_to_float(w & 0x007FFFFFU));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10'000'000;
  Random random{2024};
  special();
  midpoints(random, count / 64);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t w = random.next();
    // Any three bit patterns; then exponents close enough that product and addend overlap.
    check(bits_to_float(w), bits_to_float(w >> 32), bits_to_float(random.next()));
    const float a = in_range(random, 64, 190);
    const float b = in_range(random, 64, 190);
    const std::uint32_t middle = (std::bit_cast<std::uint32_t>(a * b) >> 23) & 0xFFU;
    if (middle < 1 || middle > 253) continue;
    check(a, b, in_range(random, middle > 30 ? middle - 30 : 1, middle < 224 ? middle + 30 : 254));
  }
  std::printf("%llu\n", static_cast<unsigned long long>(tried));
  return 0;
}
