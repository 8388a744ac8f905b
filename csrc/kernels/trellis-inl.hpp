// Viterbi's search through the trellis of a quantiser, one state per lane. Lanes only ever meet in comparisons, so vectors of
// any width give the same bits.
#include <cstring>
#include <utility>

#include "memristore/trellis.hpp"

namespace {

using memristore::kTrellisMaxLevel;
using memristore::TrellisSearch;

template <int W>
struct Lanes {
  typedef float Vector __attribute__((vector_size(4 * W)));
};
template <int W>
using Vector = typename Lanes<W>::Vector;

// Bit i: b[i] < a[i].
template <int W>
inline std::uint32_t less_bits(const Vector<W>& a, const Vector<W>& b) {
#if defined(__AVX512VL__)
  if constexpr (W == 16) return _mm512_cmp_ps_mask(b, a, _CMP_LT_OQ);
  if constexpr (W == 8) return _mm256_cmp_ps_mask(b, a, _CMP_LT_OQ);
  if constexpr (W == 4) return _mm_cmp_ps_mask(b, a, _CMP_LT_OQ);
#elif defined(__AVX__)
  if constexpr (W == 8) return static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(b, a, _CMP_LT_OQ)));
  if constexpr (W == 4) return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_cmp_ps(b, a, _CMP_LT_OQ)));
#else
  std::uint32_t out = 0;
  const auto mask = b < a;
  for (int i = 0; i < W; ++i) out |= static_cast<std::uint32_t>(mask[i] & 1) << i;
  return out;
#endif
}

// Values looked at together before the states are: their candidates, the points below and above in each of the four subsets
// q = r mod 4.
constexpr std::size_t kFew = 64;
struct Candidates {
  float cost[4][2][kFew];
  std::int32_t level[4][2][kFew];
  std::int32_t row[4][2][kFew];  // of the table of costs
};

inline void find_candidates(const TrellisSearch& t, const float* values, std::size_t n, Candidates& c) {
  constexpr float top = static_cast<float>(2 * kTrellisMaxLevel - 8);
  float x[kFew] = {};
  std::memcpy(x, values, n * sizeof(float));
  for (float& u : x) {
    u *= t.inverse_step;
    u = u < top ? u : top;
    u = u > -top ? u : -top;
  }
  const float* s = t.shifts;
  const std::int32_t limit = t.limit;
  for (std::int32_t r = 0; r < 4; ++r) {
    // The points of the subset that are shifted by amounts of their own.
    const std::int32_t where[3] = {r == 3 ? -1 : r, r == 0 ? 4 : r - 4, r == 0 ? -4 : 3};
    const float shift[3] = {r == 0 ? 0.0F : (r == 3 ? -s[0] : s[r - 1]), r == 0 ? s[3] : -s[3 - r],
                            r == 0 ? -s[3] : s[2]};
    for (int side = 0; side < 2; ++side) {
      float* cost = c.cost[r][side];
      std::int32_t* level = c.level[r][side];
      std::int32_t* row = c.row[r][side];
      for (std::size_t i = 0; i < kFew; ++i) {
        const float quarter = (x[i] - static_cast<float>(r)) * 0.25F;
        const auto cut = static_cast<std::int32_t>(quarter);
        const std::int32_t floor = cut - (static_cast<float>(cut) > quarter ? 1 : 0);
        const std::int32_t q = 4 * (floor + side) + r;
        float off = q > 0 ? s[4] : -s[4];
        off = q == where[0] ? shift[0] : off;
        off = q == where[1] ? shift[1] : off;
        off = q == where[2] ? shift[2] : off;
        const float error = x[i] - (static_cast<float>(q) + off);
        const std::int32_t k = (q - (r & 1)) >> 1;
        const std::int32_t clipped = k < limit ? k : limit;
        cost[i] = error * error;
        level[i] = k;
        row[i] = (clipped > -limit ? clipped : -limit) + limit;
      }
    }
  }
}

template <int N>
using Decision = std::conditional_t<
    (N <= 8), std::uint8_t,
    std::conditional_t<N == 16, std::uint16_t, std::conditional_t<N == 32, std::uint32_t, std::uint64_t>>>;

// Lane i of chunk c of the new costs comes from the best ways [m][j]: state t = 2 j + b takes m = b ^ parity of j.
template <int N>
constexpr int source_of(int t) {
  const int j = t / 2;
  const int m = (t & 1) ^ static_cast<int>(memristore::trellis_parity(N, static_cast<std::uint32_t>(j)));
  return m * (N / 2) + j;
}
template <int N, int W, int C, int... i>
inline void advance_chunk(const Vector<W>* best, Vector<W>* path, std::integer_sequence<int, i...>) {
  if constexpr (N == W) {
    path[0] = __builtin_shufflevector(best[0], best[0], source_of<N>(i)...);
  } else {
    constexpr int half = N / 2 / W;  // chunks of one m; chunk C of the states needs chunk C / 2 of each
    path[C] =
        __builtin_shufflevector(best[C / 2], best[half + C / 2],
                                (source_of<N>(C * W + i) % (N / 2) % W + (source_of<N>(C * W + i) / (N / 2)) * W)...);
  }
}
template <int N, int W, int... c>
inline void advance(const Vector<W>* best, Vector<W>* path, std::integer_sequence<int, c...>) {
  (advance_chunk<N, W, c>(best, path, std::make_integer_sequence<int, W>{}), ...);
}
template <int N, int W, int C, int... i>
inline void pick_chunk(const Vector<W>& zero, const Vector<W>& one, Vector<W>& out, std::integer_sequence<int, i...>) {
  out = __builtin_shufflevector(
      zero, one,
      (static_cast<int>(memristore::trellis_quantiser(N, static_cast<std::uint32_t>(C * W + i))) * W + i)...);
}

// Costs of staying on even or odd levels from each state of chunk C: the better of two candidates of the state's quantiser.
template <int N, int W, int C>
inline void branch_costs(const Candidates& c, std::size_t i, const float* costs, Vector<W>& even, Vector<W>& odd) {
  Vector<W> best[4];
  for (int r = 0; r < 4; ++r) {
    Vector<W> low;
    Vector<W> high;
    std::memcpy(&low, costs + static_cast<std::size_t>(c.row[r][0][i]) * N + C * W, sizeof low);
    std::memcpy(&high, costs + static_cast<std::size_t>(c.row[r][1][i]) * N + C * W, sizeof high);
    low += c.cost[r][0][i];
    high += c.cost[r][1][i];
    best[r] = high < low ? high : low;
  }
  constexpr auto lanes = std::make_integer_sequence<int, W>{};
  pick_chunk<N, W, C>(best[0], best[1], even, lanes);
  pick_chunk<N, W, C>(best[2], best[3], odd, lanes);
}
template <int N, int W, int... c>
inline void all_costs(const Candidates& candidates, std::size_t i, const float* costs, const Vector<W>* path,
                      Vector<W>* even, Vector<W>* odd, std::integer_sequence<int, c...>) {
  (branch_costs<N, W, c>(candidates, i, costs, even[c], odd[c]), ...);
  ((even[c] += path[c], odd[c] += path[c]), ...);
}

template <int N, int W, int... i>
inline void swap_halves(const Vector<W>& in, Vector<W>& out, std::integer_sequence<int, i...>) {
  out = __builtin_shufflevector(in, in, ((i + W / 2) % W)...);
}

// One step: adds the branch costs, keeps the better way into each state, returns which: bit m * N / 2 + j is set where state
// j + N / 2 won over state j; m is the parity that state j would have used.
template <int N, int W>
inline std::uint64_t step(const Candidates& candidates, std::size_t i, const float* costs, Vector<W>* path) {
  constexpr int chunks = N / W;
  Vector<W> even[chunks];
  Vector<W> odd[chunks];
  Vector<W> best[chunks];
  constexpr auto all = std::make_integer_sequence<int, chunks>{};
  all_costs<N, W>(candidates, i, costs, path, even, odd, all);
  std::uint64_t bits = 0;
  if constexpr (chunks == 1) {
    // Lower half: even of j against odd of j + N / 2; upper half: even of j + N / 2 against odd of j.
    Vector<W> other;
    swap_halves<N, W>(odd[0], other, std::make_integer_sequence<int, W>{});
    best[0] = other < even[0] ? other : even[0];
    constexpr std::uint32_t upper = ((1U << (N / 2)) - 1U) << (N / 2);
    bits = (less_bits<W>(even[0], other)) ^ upper;
  } else {
    constexpr int half = chunks / 2;
    for (int c = 0; c < half; ++c) {
      best[c] = odd[c + half] < even[c] ? odd[c + half] : even[c];
      best[c + half] = odd[c] < even[c + half] ? odd[c] : even[c + half];
      bits |= static_cast<std::uint64_t>(less_bits<W>(even[c], odd[c + half])) << (c * W);
      const std::uint32_t kept = less_bits<W>(even[c + half], odd[c]) ^ ((1U << W) - 1U);
      bits |= static_cast<std::uint64_t>(kept) << ((c + half) * W);
    }
  }
  advance<N, W>(best, path, all);
  return bits;
}

// Back along the best way: at each value the state it left and the parity, hence the level, by the same comparison as before.
template <int N>
void trace_back(const TrellisSearch& t, const float* x, const std::uint8_t* classes, std::size_t n, std::uint32_t state,
                const std::uint8_t* scratch, std::int32_t* levels) {
  const std::size_t table = (2 * static_cast<std::size_t>(t.limit) + 1) * N;
  Candidates c;
  for (std::size_t end = n; end > 0;) {
    const std::size_t start = (end - 1) / kFew * kFew;
    find_candidates(t, x + start, end - start, c);
    for (std::size_t i = end; i-- > start;) {
      Decision<N> bits;
      std::memcpy(&bits, scratch + i * sizeof bits, sizeof bits);
      const std::uint32_t j = state / 2;
      const std::uint32_t m = (state & 1U) ^ memristore::trellis_parity(N, j);
      const std::uint32_t top = static_cast<std::uint32_t>(bits >> (m * (N / 2) + j)) & 1U;
      const std::uint32_t odd = m ^ top;
      state = j + top * (N / 2);
      const std::uint32_t r = memristore::trellis_quantiser(N, state) + 2 * odd;
      const float* costs = t.costs + (classes == nullptr ? 0 : classes[i] * table);
      const std::size_t k = i - start;
      const float low = costs[static_cast<std::size_t>(c.row[r][0][k]) * N + state] + c.cost[r][0][k];
      const float high = costs[static_cast<std::size_t>(c.row[r][1][k]) * N + state] + c.cost[r][1][k];
      levels[i] = c.level[r][high < low ? 1 : 0][k];
    }
    end = start;
  }
}

template <int N>
void search_block(const TrellisSearch& t, const float* x, const std::uint8_t* classes, std::size_t n,
                  std::uint8_t* scratch, std::int32_t* levels) {
  constexpr int W = N < kLanes ? N : (kLanes < 4 ? 4 : kLanes);
  constexpr int chunks = N / W;
  const std::size_t table = (2 * static_cast<std::size_t>(t.limit) + 1) * N;
  Vector<W> path[chunks];
  float sums[N];
  for (float& sum : sums) sum = 1e30F;
  sums[0] = 0.0F;
  std::memcpy(path, sums, sizeof sums);
  Candidates c;
  for (std::size_t start = 0; start < n; start += kFew) {
    const std::size_t count = n - start < kFew ? n - start : kFew;
    find_candidates(t, x + start, count, c);
    for (std::size_t i = 0; i < count; ++i) {
      const float* costs = t.costs + (classes == nullptr ? 0 : classes[start + i] * table);
      const auto bits = static_cast<Decision<N>>(step<N, W>(c, i, costs, path));
      std::memcpy(scratch + (start + i) * sizeof bits, &bits, sizeof bits);
    }
    // Sums stay small, so that they keep their precision.
    std::memcpy(sums, path, sizeof sums);
    float least = sums[0];
    for (float sum : sums) least = sum < least ? sum : least;
    for (float& sum : sums) sum -= least;
    std::memcpy(path, sums, sizeof sums);
  }
  std::uint32_t state = 0;
  for (std::uint32_t s = 1; s < N; ++s)
    if (sums[s] < sums[state]) state = s;
  trace_back<N>(t, x, classes, n, state, scratch, levels);
}

void k_trellis(const TrellisSearch& t, const float* values, const std::uint8_t* classes, std::size_t n,
               std::uint8_t* scratch, std::int32_t* levels) {
  switch (t.states) {
    case 4:
      return search_block<4>(t, values, classes, n, scratch, levels);
    case 8:
      return search_block<8>(t, values, classes, n, scratch, levels);
    case 16:
      return search_block<16>(t, values, classes, n, scratch, levels);
    case 32:
      return search_block<32>(t, values, classes, n, scratch, levels);
    default:
      return search_block<64>(t, values, classes, n, scratch, levels);
  }
}

}  // namespace
