// Tables of BCH codes, and the choice among the builds of their kernels.
#include "memristore/bch.hpp"

#include <cstring>

#include "memristore/kernels.hpp"

namespace memristore {

const BchKernels& bch_scalar();
#if defined(__x86_64__)
const BchKernels& bch_avx2();
const BchKernels& bch_avx512();
#endif

namespace {

constexpr std::uint32_t kPrimitive[] = {0x25, 0x43, 0x89, 0x11D, 0x211, 0x409, 0x805, 0x1053, 0x201B, 0x4443};

// Members of the cyclotomic coset of j, or 0 if a smaller number leads it.
std::uint32_t coset_size(std::uint32_t j, std::uint32_t order) {
  std::uint32_t size = 0;
  std::uint32_t member = j;
  do {
    if (member < j) return 0;
    ++size;
    member = (2 * member) % order;
  } while (member != j);
  return size;
}

void fill_field(Bch& code) {
  const std::uint32_t order = code.shape.order;
  std::memset(code.exp, 0, code.shape.exp * sizeof *code.exp);
  std::uint32_t value = 1;
  for (std::uint32_t i = 0; i < order; ++i) {
    code.exp[i] = code.exp[i + order] = static_cast<std::uint16_t>(value);
    code.log[value] = static_cast<std::uint16_t>(i);
    value <<= 1;
    if (value > order) value ^= kPrimitive[code.shape.m - kBchMinM];
  }
  code.log[0] = static_cast<std::uint16_t>(2 * order);
}

// Minimal polynomial of a^j, lowest coefficient in bit 0.
std::uint32_t minimal_polynomial(const Bch& code, std::uint32_t j) {
  std::uint16_t p[kBchMaxM + 1] = {1};
  std::uint32_t member = j;
  std::uint32_t degree = 0;
  do {  // p *= x + a^member
    ++degree;
    for (std::uint32_t i = degree; i > 0; --i)
      p[i] = static_cast<std::uint16_t>(p[i - 1] ^ code.exp[code.log[p[i]] + member]);
    p[0] = code.exp[code.log[p[0]] + member];
    member = (2 * member) % code.shape.order;
  } while (member != j);
  std::uint32_t bits = 0;
  for (std::uint32_t i = 0; i <= degree; ++i) bits |= static_cast<std::uint32_t>(p[i]) << i;
  return bits;
}

// words *= x; returns the coefficient that leaves at the top.
bool shift_up(std::uint64_t* words, std::size_t n) {
  const bool top = words[n - 1] >> 63 != 0;
  for (std::size_t w = n; w-- > 1;) words[w] = (words[w] << 1) | (words[w - 1] >> 63);
  words[0] <<= 1;
  return top;
}

void fill_generator(Bch& code) {
  const BchShape& s = code.shape;
  std::uint64_t product[kBchMaxWords + 2] = {1};
  const std::size_t n = s.words + 1;
  for (std::uint32_t j = 1; j < 2 * s.t; j += 2) {
    if (coset_size(j, s.order) == 0) continue;
    const std::uint32_t factor = minimal_polynomial(code, j);
    std::uint64_t sum[kBchMaxWords + 2] = {};
    for (unsigned bit = 0; factor >> bit != 0; ++bit) {
      if ((factor >> bit) & 1U)
        for (std::size_t w = 0; w < n; ++w) sum[w] ^= product[w];
      shift_up(product, n);
    }
    std::memcpy(product, sum, sizeof sum);
  }
  product[s.check_bits / 64] ^= std::uint64_t{1} << (s.check_bits % 64);
  const std::uint32_t up = 64 * s.words - s.check_bits;
  for (std::size_t w = s.words; w-- > 0;) {
    const std::size_t from = w - up / 64;
    std::uint64_t value = w < up / 64 ? 0 : product[from] << (up % 64);
    if (up % 64 != 0 && w > up / 64) value |= product[from - 1] >> (64 - up % 64);
    code.generator[w] = value;
  }
}

// x^(64 words + b) mod the generator for b = 0..63, in all sums of four; and the quotient's bits on the way.
void fill_slices(Bch& code) {
  const std::size_t words = code.shape.words;
  std::uint64_t power[kBchMaxWords + 2];
  std::memcpy(power, code.generator, words * sizeof *power);
  std::memset(code.slices, 0, code.shape.slices * sizeof *code.slices);
  code.quotient = 0;
  for (unsigned b = 0; b < 64; ++b) {
    std::uint64_t* table = code.slices + (b / 4) * 16 * words;
    const std::size_t bit = std::size_t{1} << (b % 4);
    for (std::size_t v = 0; v < bit; ++v)
      for (std::size_t w = 0; w < words; ++w) table[(bit + v) * words + w] = table[v * words + w] ^ power[w];
    if (!shift_up(power, words)) continue;
    code.quotient |= std::uint64_t{1} << (63 - b);
    for (std::size_t w = 0; w < words; ++w) power[w] ^= code.generator[w];
  }
}

}  // namespace

BchShape bch_shape(unsigned m, unsigned t) {
  BchShape s = {};
  s.m = m;
  s.t = t;
  s.order = (1U << m) - 1;
  for (std::uint32_t j = 1; j < 2 * t; j += 2) s.check_bits += coset_size(j, s.order);
  s.words = 2 * ((s.check_bits + 127) / 128);
  s.stride = static_cast<std::uint32_t>((t + kBchLanes - 1) / kBchLanes * kBchLanes);
  s.exp = 3 * std::size_t{s.order} + kBchLanes;
  s.log = std::size_t{s.order} + 1;
  s.powers = std::size_t{s.check_bits} * s.stride;
  s.rows = std::size_t{t} * m * kBchGroup;
  s.slices = std::size_t{256} * s.words;
  s.generator = s.words;
  return s;
}

void bch_fill(Bch& code) {
  const BchShape& s = code.shape;
  fill_field(code);
  fill_generator(code);
  fill_slices(code);
  for (std::uint32_t p = 0; p < s.check_bits; ++p) {
    std::uint16_t* row = code.powers + std::size_t{p} * s.stride;
    for (std::uint32_t j = 0; j < s.stride; ++j) row[j] = j < s.t ? code.exp[(2 * j + 1) * p % s.order] : 0;
  }
  std::uint16_t* row = code.rows;
  for (std::uint32_t i = 1; i <= s.t; ++i)
    for (std::uint32_t bit = 0; bit < s.m; ++bit, row += kBchGroup)
      for (std::uint32_t b = 0; b < kBchGroup; ++b) row[b] = code.exp[s.order - i * b % s.order + bit];
}

const BchKernels& bch_kernels() {
#if defined(__x86_64__)
  const char* level = active().name;
  if (std::strcmp(level, "avx512") == 0 && __builtin_cpu_supports("gfni") && __builtin_cpu_supports("pclmul"))
    return bch_avx512();
  if (std::strcmp(level, "scalar") != 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("pclmul"))
    return bch_avx2();
#endif
  return bch_scalar();
}

}  // namespace memristore
