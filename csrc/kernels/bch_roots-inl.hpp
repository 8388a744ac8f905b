// Chien's search: which of the n positions p of a block have locator(a^-p) = 0. Included by bch-inl.hpp only.
// A term of the locator at 64 consecutive positions is a factor times a fixed vector; from one group of positions to the
// next the factor of term i changes by a^(-64 i). Only positions that a shortened block has are looked at.

namespace {

constexpr std::size_t kMaxGroups = (std::size_t{1} << memristore::kBchMaxM) / kBchGroup;

// a^(-64 i), as an exponent.
inline std::uint32_t group_step(const Bch& code, std::size_t i) {
  const std::uint32_t order = code.shape.order;
  const std::uint32_t step = static_cast<std::uint32_t>(i * kBchGroup % order);
  return step == 0 ? 0 : order - step;
}

#if defined(__GFNI__) && defined(__AVX512BW__)
// Four terms at a time, each 64 positions in two registers (lower and upper bytes).
struct Term {
  __m512i low;
  __m512i high;
  Matrix step;
};

inline Term make_term(const Bch& code, const std::uint16_t* locator, std::size_t i, std::size_t degree) {
  const std::size_t row = (i <= degree ? i : 1) - 1;
  const std::uint16_t* fixed = code.rows + row * code.shape.m * kBchGroup;
  const Matrix factor = make_matrix(code, code.log[i <= degree ? locator[i] : 0]);
  const __m512i a = _mm512_loadu_si512(fixed);
  const __m512i b = _mm512_loadu_si512(fixed + 32);
  const __m512i low = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(a)), _mm512_cvtepi16_epi8(b), 1);
  const __m512i high = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(_mm512_srli_epi16(a, 8))),
                                          _mm512_cvtepi16_epi8(_mm512_srli_epi16(b, 8)), 1);
  return {times(factor, 0, low, high), times(factor, 1, low, high), make_matrix(code, group_step(code, i))};
}

inline void advance(Term& term) {
  const __m512i low = times(term.step, 0, term.low, term.high);
  term.high = times(term.step, 1, term.low, term.high);
  term.low = low;
}

inline std::size_t find_roots(const Bch& code, const std::uint16_t* locator, std::size_t degree, std::size_t n,
                              std::uint32_t* found) {
  const std::size_t groups = (n + kBchGroup - 1) / kBchGroup;
  alignas(64) std::uint8_t sums[kMaxGroups][2][kBchGroup];
  for (std::size_t i = 1; i <= degree; i += 4) {
    Term a = make_term(code, locator, i, degree);
    Term b = make_term(code, locator, i + 1, degree);
    Term c = make_term(code, locator, i + 2, degree);
    Term d = make_term(code, locator, i + 3, degree);
    for (std::size_t g = 0; g < groups; ++g) {
      __m512i low = i == 1 ? _mm512_set1_epi8(static_cast<char>(locator[0])) : _mm512_load_si512(sums[g][0]);
      __m512i high = i == 1 ? _mm512_setzero_si512() : _mm512_load_si512(sums[g][1]);
      low = _mm512_ternarylogic_epi64(_mm512_xor_si512(low, a.low), b.low, _mm512_xor_si512(c.low, d.low), 0x96);
      high = _mm512_ternarylogic_epi64(_mm512_xor_si512(high, a.high), b.high, _mm512_xor_si512(c.high, d.high), 0x96);
      _mm512_store_si512(sums[g][0], low);
      _mm512_store_si512(sums[g][1], high);
      advance(a);
      advance(b);
      advance(c);
      advance(d);
    }
  }
  std::size_t count = 0;
  for (std::size_t g = 0; g < groups; ++g) {
    const __m512i either = _mm512_or_si512(_mm512_load_si512(sums[g][0]), _mm512_load_si512(sums[g][1]));
    for (std::uint64_t zero = _mm512_testn_epi8_mask(either, either); zero != 0; zero &= zero - 1) {
      const std::size_t p = kBchGroup * g + static_cast<std::size_t>(__builtin_ctzll(zero));
      if (p < n && count < degree) found[count++] = static_cast<std::uint32_t>(p);
    }
  }
  return count;
}
#else
constexpr std::size_t kRowParts = kBchGroup * sizeof(std::uint16_t) / kWide;

// The fixed vector of a term times every value of five bits of a factor, three times.
struct Products {
  alignas(64) Wide of[3][32][kRowParts];
};

inline void make_products(const Bch& code, std::size_t i, Products& products) {
  const Wide* row = reinterpret_cast<const Wide*>(code.rows + (i - 1) * code.shape.m * kBchGroup);
  for (auto& table : products.of) std::memset(table[0], 0, sizeof table[0]);
  for (std::uint32_t bit = 0; bit < code.shape.m; ++bit, row += kRowParts) {
    Wide(*table)[kRowParts] = products.of[bit / 5];
    const std::size_t own = std::size_t{1} << (bit % 5);
    for (std::size_t v = 0; v < own; ++v)
      for (std::size_t k = 0; k < kRowParts; ++k) table[own + v][k] = table[v][k] ^ row[k];
  }
}

// Adds term i of the locator at all positions.
inline void add_term(const Bch& code, const std::uint16_t* locator, std::size_t i, std::size_t groups,
                     Products& products, std::uint16_t* sums) {
  make_products(code, i, products);
  const std::uint32_t order = code.shape.order;
  const std::uint32_t step = group_step(code, i);
  std::uint32_t factor = code.log[locator[i]];
  for (std::size_t g = 0; g < groups; ++g) {
    const std::uint32_t c = code.exp[factor];
    const Wide* low = products.of[0][c & 31U];
    const Wide* middle = products.of[1][(c >> 5) & 31U];
    const Wide* high = products.of[2][c >> 10];
    Wide* sum = reinterpret_cast<Wide*>(sums + g * kBchGroup);
    for (std::size_t k = 0; k < kRowParts; ++k) sum[k] ^= low[k] ^ (middle[k] ^ high[k]);
    factor += step;
    factor = factor >= order ? factor - order : factor;
  }
}

inline std::size_t zeros_of(const std::uint16_t* sums, std::size_t first, std::size_t n, std::size_t count,
                            std::size_t most, std::uint32_t* found) {
  unsigned any = 0;
  for (std::size_t b = 0; b < kBchGroup; ++b) any |= sums[b] == 0 ? 1U : 0U;
  if (any == 0) return count;
  for (std::size_t b = 0; b < kBchGroup && first + b < n; ++b)
    if (sums[b] == 0 && count < most) found[count++] = static_cast<std::uint32_t>(first + b);
  return count;
}

inline std::size_t find_roots(const Bch& code, const std::uint16_t* locator, std::size_t degree, std::size_t n,
                              std::uint32_t* found) {
  const std::size_t groups = (n + kBchGroup - 1) / kBchGroup;
  alignas(64) std::uint16_t sums[kMaxGroups * kBchGroup];
  Products products;
  for (std::size_t p = 0; p < groups * kBchGroup; ++p) sums[p] = locator[0];
  for (std::size_t i = 1; i <= degree; ++i)
    if (locator[i] != 0) add_term(code, locator, i, groups, products, sums);
  std::size_t count = 0;
  for (std::size_t g = 0; g < groups; ++g)
    count = zeros_of(sums + g * kBchGroup, g * kBchGroup, n, count, degree, found);
  return count;
}
#endif

}  // namespace
