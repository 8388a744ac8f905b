// What the BCH kernels do with instructions of their own: remainders, multiples of vectors over GF(2^m), root search.
// Included by bch-inl.hpp only. Integer arithmetic: every build gives the same bits.
#include <cstring>

#include "memristore/bch.hpp"
#if defined(__PCLMUL__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

using memristore::Bch;
using memristore::kBchGroup;
using memristore::kBchLanes;
using memristore::kBchMaxT;
using memristore::kBchMaxWords;

// Vectors that add_multiple works on have this many elements more than are used: it works in whole lanes.
constexpr std::size_t kRoom = kBchLanes;

// 64-bit words as wide as the build's registers.
#if defined(__AVX512F__)
constexpr std::size_t kWide = 64;
#elif defined(__AVX2__)
constexpr std::size_t kWide = 32;
#else
constexpr std::size_t kWide = 16;
#endif
typedef std::uint64_t Wide __attribute__((vector_size(kWide), may_alias));

inline std::uint64_t load_word(const std::uint8_t* bytes, std::size_t n) {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes, n < 8 ? n : 8);
  return word;
}

// data x^(64 words) mod the generator (times x^(64 words - check_bits)): a 64-bit word at a time, highest first. What a
// word adds is linear in it.
#if defined(__PCLMUL__)
// With `top` the word that leaves, the multiple of the generator that it takes along is top + (top * quotient >> 64).
// Products with the even words of the generator lie where they belong, those with the odd ones one word higher.
template <std::size_t kPairs>
inline void remainder_pairs(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, std::uint64_t* out) {
  const std::size_t pairs = kPairs != 0 ? kPairs : code.shape.words / 2;
  alignas(64) __m128i state[kPairs != 0 ? kPairs : kBchMaxWords / 2];
  const __m128i* generator = reinterpret_cast<const __m128i*>(code.generator);
  const __m128i quotient = _mm_cvtsi64_si128(static_cast<long long>(code.quotient));
  for (std::size_t k = 0; k < pairs; ++k) state[k] = _mm_setzero_si128();
  for (std::size_t w = (data_bytes + 7) / 8; w-- > 0;) {
    const std::uint64_t word = load_word(data + 8 * w, data_bytes - 8 * w);
    const __m128i top =
        _mm_xor_si128(_mm_srli_si128(state[pairs - 1], 8), _mm_cvtsi64_si128(static_cast<long long>(word)));
    const __m128i q = _mm_xor_si128(top, _mm_srli_si128(_mm_clmulepi64_si128(top, quotient, 0x00), 8));
    __m128i below = _mm_setzero_si128();
    for (std::size_t k = 0; k < pairs; ++k) {
      const __m128i odd = _mm_xor_si128(state[k], _mm_clmulepi64_si128(generator[k], q, 0x01));
      state[k] = _mm_xor_si128(_mm_alignr_epi8(odd, below, 8), _mm_clmulepi64_si128(generator[k], q, 0x00));
      below = odd;
    }
  }
  for (std::size_t k = 0; k < pairs; ++k) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * k), state[k]);
}

inline void shifted_remainder(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, std::uint64_t* out) {
  switch (code.shape.words / 2) {
    case 1:
      return remainder_pairs<1>(code, data_bytes, data, out);
    case 2:
      return remainder_pairs<2>(code, data_bytes, data, out);
    case 3:
      return remainder_pairs<3>(code, data_bytes, data, out);
    default:
      return remainder_pairs<0>(code, data_bytes, data, out);
  }
}
#else
typedef std::uint64_t Pair __attribute__((vector_size(16), may_alias, aligned(8)));

inline void shifted_remainder(const Bch& code, std::size_t data_bytes, const std::uint8_t* data, std::uint64_t* out) {
  const std::size_t words = code.shape.words;
  // A window that moves down through room for all of the data: nothing is shifted.
  std::uint64_t room[2 * kBchMaxWords] = {};
  const std::size_t count = (data_bytes + 7) / 8;
  std::uint64_t* state = room + count;
  for (std::size_t w = count; w-- > 0;) {
    const std::uint64_t top = state[words - 1] ^ load_word(data + 8 * w, data_bytes - 8 * w);
    --state;
    const std::uint64_t* row[16];
    for (std::size_t i = 0; i < 16; ++i) row[i] = code.slices + (16 * i + ((top >> (4 * i)) & 15U)) * words;
    for (std::size_t k = 0; k < words; k += 2) {
      Pair sum = *reinterpret_cast<const Pair*>(state + k);
      for (std::size_t i = 0; i < 16; ++i) sum ^= *reinterpret_cast<const Pair*>(row[i] + k);
      *reinterpret_cast<Pair*>(state + k) = sum;
    }
  }
  std::memcpy(out, state, words * sizeof *out);
}
#endif

// y += c x, c not zero; n elements, or up to kRoom - 1 more.
#if defined(__GFNI__) && defined(__AVX512BW__)
// The 16 x 16 bit matrix of a factor in four parts of 8 x 8, by (output byte, input byte).
struct Matrix {
  __m512i part[2][2];
};

// Column j of the matrix is c a^j, as the powers lie in memory from c on; the affine instruction wants rows.
inline Matrix make_matrix(const Bch& code, std::uint32_t log_c) {
  const __m256i columns = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(code.exp + log_c));
  // I C^T, by the same instruction, transposes C; it counts rows from the last byte.
  const __m256i reversed = _mm256_shuffle_epi8(
      columns, _mm256_broadcastsi128_si256(_mm_setr_epi8(14, 12, 10, 8, 6, 4, 2, 0, 15, 13, 11, 9, 7, 5, 3, 1)));
  const __m256i rows = _mm256_gf2p8affine_epi64_epi8(_mm256_set1_epi64x(0x0102040810204080LL), reversed, 0);
  const __m512i all = _mm512_castsi256_si512(rows);
  return {{{_mm512_permutexvar_epi64(_mm512_set1_epi64(0), all), _mm512_permutexvar_epi64(_mm512_set1_epi64(2), all)},
           {_mm512_permutexvar_epi64(_mm512_set1_epi64(1), all), _mm512_permutexvar_epi64(_mm512_set1_epi64(3), all)}}};
}

inline __m512i times(const Matrix& c, int part, __m512i low, __m512i high) {
  return _mm512_xor_si512(_mm512_gf2p8affine_epi64_epi8(low, c.part[part][0], 0),
                          _mm512_gf2p8affine_epi64_epi8(high, c.part[part][1], 0));
}

inline void add_multiple(const Bch& code, std::uint32_t log_c, const std::uint16_t* x, std::size_t n,
                         std::uint16_t* y) {
  const Matrix c = make_matrix(code, log_c);
  for (std::size_t i = 0; i < n; i += kBchLanes) {
    const __m512i v = _mm512_loadu_si512(x + i);
    const __m512i low = _mm512_and_si512(v, _mm512_set1_epi16(0xFF));
    const __m512i high = _mm512_srli_epi16(v, 8);
    const __m512i product = _mm512_or_si512(times(c, 0, low, high), _mm512_slli_epi16(times(c, 1, low, high), 8));
    _mm512_storeu_si512(y + i, _mm512_xor_si512(_mm512_loadu_si512(y + i), product));
  }
}
#elif defined(__AVX2__)
// Products of all values of nibble k of a 16-bit element, lower or upper byte.
struct NibbleTables {
  __m256i of[4][2];
};

inline NibbleTables make_tables(const Bch& code, std::uint32_t log_c) {
  NibbleTables tables;
  const __m256i value = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int k = 0; k < 4; ++k) {
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < 4; ++j) {
      const __m256i bit = _mm256_set1_epi16(static_cast<short>(1 << j));
      const __m256i chosen = _mm256_cmpeq_epi16(_mm256_and_si256(value, bit), bit);
      const short column = static_cast<short>(code.exp[log_c + static_cast<std::uint32_t>(4 * k + j)]);
      sum = _mm256_xor_si256(sum, _mm256_and_si256(chosen, _mm256_set1_epi16(column)));
    }
    const __m256i low = _mm256_and_si256(sum, _mm256_set1_epi16(0xFF));
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, _mm256_srli_epi16(sum, 8)), 0xD8);
    tables.of[k][0] = _mm256_permute2x128_si256(bytes, bytes, 0x00);
    tables.of[k][1] = _mm256_permute2x128_si256(bytes, bytes, 0x11);
  }
  return tables;
}

inline void add_multiple(const Bch& code, std::uint32_t log_c, const std::uint16_t* x, std::size_t n,
                         std::uint16_t* y) {
  const NibbleTables tables = make_tables(code, log_c);
  const __m256i byte = _mm256_set1_epi16(0xFF);
  const __m256i nibble = _mm256_set1_epi8(15);
  for (std::size_t i = 0; i < n; i += kBchLanes) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + 16));
    const __m256i low = _mm256_packus_epi16(_mm256_and_si256(a, byte), _mm256_and_si256(b, byte));
    const __m256i high = _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8));
    const __m256i index[4] = {_mm256_and_si256(low, nibble), _mm256_and_si256(_mm256_srli_epi16(low, 4), nibble),
                              _mm256_and_si256(high, nibble), _mm256_and_si256(_mm256_srli_epi16(high, 4), nibble)};
    __m256i sum[2];
    for (int part = 0; part < 2; ++part) {
      sum[part] = _mm256_shuffle_epi8(tables.of[0][part], index[0]);
      for (int k = 1; k < 4; ++k)
        sum[part] = _mm256_xor_si256(sum[part], _mm256_shuffle_epi8(tables.of[k][part], index[k]));
    }
    __m256i* out = reinterpret_cast<__m256i*>(y + i);
    _mm256_storeu_si256(out, _mm256_xor_si256(_mm256_loadu_si256(out), _mm256_unpacklo_epi8(sum[0], sum[1])));
    _mm256_storeu_si256(out + 1, _mm256_xor_si256(_mm256_loadu_si256(out + 1), _mm256_unpackhi_epi8(sum[0], sum[1])));
  }
}
#else
inline void add_multiple(const Bch& code, std::uint32_t log_c, const std::uint16_t* x, std::size_t n,
                         std::uint16_t* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] = static_cast<std::uint16_t>(y[i] ^ code.exp[log_c + code.log[x[i]]]);
}
#endif

}  // namespace
