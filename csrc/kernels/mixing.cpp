// The walk through a tensor's levels: contexts and bits of each. It serves both directions, so that what the decoder predicts
// is what the encoder predicted.
#include "memristore/mixing.hpp"

#include <algorithm>
#include <array>

#include "kernels/predictor-inl.hpp"
#include "memristore/trellis.hpp"

namespace memristore {
namespace {

constexpr std::uint32_t kShares = 16;  // classes of a mean magnitude
constexpr std::uint32_t kSums = 16;    // classes of a sum of small magnitudes
constexpr std::uint32_t kTaps = 64;
constexpr std::uint32_t kUnary = 15;  // magnitudes up to here are counted up to; beyond, bits of their logarithm
constexpr std::uint32_t kMasks = 2;
constexpr std::uint32_t kRows = 1024;

inline std::uint32_t most(std::int32_t value, std::uint32_t limit) {
  return std::min(static_cast<std::uint32_t>(value < 0 ? -value : value), limit);
}
inline std::uint32_t sign(std::int32_t value) { return value > 0 ? 2U : value < 0 ? 0U : 1U; }

// Class of a mean magnitude against that of all values so far, both drawn towards the latter; three classes to the octave.
std::uint32_t share(std::uint64_t sum, std::uint64_t count, std::uint64_t mean) {
  // 256 * 2**((i - 7) / 3)
  constexpr std::uint64_t bounds[] = {51, 64, 81, 102, 128, 161, 203, 256, 323, 406, 512, 645, 813, 1024, 1290};
  const std::uint64_t ratio = ((sum << 16) + 2 * mean) * 256 / ((count + 2) * mean);
  return static_cast<std::uint32_t>(std::upper_bound(std::begin(bounds), std::end(bounds), ratio) - std::begin(bounds));
}

template <class Coder>
class Walk {
 public:
  Walk(const MixPlan& plan, Coder& coder)
      : plan_(plan),
        coder_(coder),
        cap_(plan.states == 1 ? 2 : 3),
        points_(plan.rows * plan.columns * plan.taps),
        columns_(plan.columns),
        places_(plan.columns * plan.taps),
        mask_(zero_sizes(cap_), kMasks),
        zero_(zero_sizes(cap_), kMasks),
        size_({kSizes, kSizes * 25, kSizes * kShares * kShares, kSizes * kSums, kSizes * kShares, kSizes * kTaps},
              kUnary + 1),
        sign_({1, kTaps * 9, 7, 9, kRows}, 1) {
    for (std::uint32_t s = 0; s < plan.states; ++s) {
      quantiser_[s] = plan.states == 1 ? 0 : trellis_quantiser(plan.states, s);
      for (std::uint32_t p = 0; p < 2; ++p)
        next_[s][p] = plan.states == 1 ? 0 : ((s << 1) | (p ^ trellis_parity(plan.states, s))) & (plan.states - 1);
    }
  }

  void run(const std::int32_t* from, const std::uint8_t* from_mask, std::int32_t* to, std::uint8_t* to_mask,
           std::uint32_t& state) {
    for (std::size_t row = 0; row < plan_.rows; ++row) {
      start_row(row);
      for (std::size_t column = 0; column < plan_.columns; ++column) {
        start_kernel(column);
        for (std::size_t tap = 0; tap < plan_.taps; ++tap, ++at_) {
          if ((plan_.first + at_) % kTrellisBlock == 0) state = 0;
          look(tap);
          const std::int32_t level = Coder::kReads ? 0 : from[at_];
          const bool kept = !plan_.masked || mask_.code(coder_, near_, tap_ > 0 ? 1 : 0, from_mask && from_mask[at_]);
          std::int32_t point = 0;
          std::int32_t coded = 0;
          if (kept) {
            coded = value(level, quantiser_[state]);
            point = 2 * coded + static_cast<std::int32_t>(quantiser_[state]);
            state = next_[state][coded & 1];
          }
          if (Coder::kReads) {
            to[at_] = coded;
            if (to_mask != nullptr) to_mask[at_] = kept ? 1 : 0;
          }
          note(tap, plan_.states == 1 ? coded : point);
        }
      }
      end_row(row);
    }
  }

 private:
  static constexpr std::uint32_t kSizes = 2 * (kUnary + 1);
  using Near = std::array<std::uint32_t, 7>;

  static Near zero_sizes(std::uint32_t cap) {
    const std::uint32_t b = cap + 1;
    return {1,
            25,
            kShares * kShares,
            std::max(kSums * kTaps, 16 * kShares),
            b * b * b * b,
            kSums * kSums * kShares,
            b * b * kShares};
  }
  // Point of an earlier value; 0 outside the tensor.
  std::int32_t point(std::size_t row, std::size_t column, std::size_t tap) const {
    return points_[(row * plan_.columns + column) * plan_.taps + tap];
  }

  void start_row(std::size_t row) {
    row_ = row;
    row_sum_ = row_seen_ = 0;
  }
  void start_kernel(std::size_t column) {
    column_ = column;
    mean_ = ((all_ << 16) + 6554) / (at_ + 1);
    mean_ = mean_ == 0 ? 1 : mean_;
    of_column_ = share(columns_[column], row_ * plan_.taps, mean_);
    of_row_ = share(row_sum_, row_seen_, mean_);
    kernel_ = signed_ = 0;
    std::uint32_t before = 0;
    if (column > 0)
      for (std::size_t t = 0; t < plan_.taps; ++t) before += most(point(row_, column - 1, t), cap_);
    before_ = std::min(before / halves(), kSums - 1);
  }
  std::uint32_t halves() const { return plan_.states == 1 ? 1 : 2; }

  // Contexts of the next value.
  void look(std::size_t tap) {
    tap_ = static_cast<std::uint32_t>(std::min<std::size_t>(tap, kTaps - 1));
    const std::uint32_t b = cap_ + 1;
    const std::size_t inside = column_ * plan_.taps + tap;  // values of this row before it
    const std::uint32_t p1 = inside >= 1 ? most(points_[at_ - 1], 4) : 0;
    const std::uint32_t p2 = inside >= 2 ? most(points_[at_ - 2], 4) : 0;
    const std::size_t line = plan_.columns * plan_.taps;
    left_ = tap % plan_.width > 0 ? points_[at_ - 1] : 0;
    up_ = tap >= plan_.width ? points_[at_ - plan_.width] : 0;
    beside_ = column_ > 0 ? points_[at_ - plan_.taps] : 0;
    above_ = row_ > 0 ? points_[at_ - line] : 0;
    const std::uint32_t above = most(above_, cap_);
    const std::uint32_t higher = row_ > 1 ? most(points_[at_ - 2 * line], cap_) : 0;
    of_place_ = share(places_[inside], row_, mean_);
    sum_ = std::min(kernel_ / halves(), kSums - 1);
    near_ = {0,
             p1 * 5 + p2,
             of_column_ * kShares + of_row_,
             plan_.taps == 1 ? (std::min(p1, 3U) * 4 + std::min(p2, 3U)) * kShares + of_column_ : sum_ * kTaps + tap_,
             ((most(beside_, cap_) * b + above) * b + most(left_, cap_)) * b + most(up_, cap_),
             (sum_ * kSums + before_) * kShares + of_row_,
             (above * b + higher) * kShares + of_place_};
  }

  std::int32_t value(std::int32_t level, std::uint32_t quantiser) {
    const auto q = static_cast<std::int32_t>(quantiser);
    const bool below = level < 0;
    const auto size = static_cast<std::uint32_t>(below ? -level : level + q);
    if (q == 0 && !zero_.code(coder_, near_, tap_ > 0 ? 1 : 0, size > 0)) return 0;
    const bool negative = sign_.code(
        coder_,
        {0, tap_ * 9 + sign(left_) * 3 + sign(up_), static_cast<std::uint32_t>(std::clamp(signed_, -3, 3) + 3),
         sign(above_) * 3 + sign(beside_), static_cast<std::uint32_t>(row_ % kRows)},
        0, below);
    const auto found = static_cast<std::int32_t>(magnitude(size, quantiser));
    return negative ? -std::min(found, kTrellisMaxLevel) : std::min(found - q, kTrellisMaxLevel);
  }

  // Numbers from 1 on.
  std::uint32_t magnitude(std::uint32_t size, std::uint32_t quantiser) {
    for (std::uint32_t k = 1; k <= kUnary; ++k) {
      const std::uint32_t of = 2 * k + quantiser;
      const bool more = size_.code(coder_,
                                   {of, of * 25 + near_[1], (of * kShares + of_column_) * kShares + of_row_,
                                    of * kSums + sum_, of * kShares + of_place_, of * kTaps + tap_},
                                   k, size > k);
      if (!more) return k;
    }
    // As many bits as the rest has, one more than it so that it has some.
    const std::uint32_t rest = size - kUnary;
    std::uint32_t width = 0;
    while (width < kMostBits) {
      const bool more = coder_.code(wide_[width].state >> 16 < 32 ? 32 : std::min(wide_[width].state >> 16, 65504U),
                                    rest >> (width + 1) != 0);
      wide_[width].update(more);
      if (!more) break;
      ++width;
    }
    std::uint32_t found = 1;
    for (std::uint32_t i = width; i-- > 0;) found = found << 1 | (coder_.code(kUnit / 2, rest >> i & 1U) ? 1U : 0U);
    return found + kUnary;
  }

  void note(std::size_t tap, std::int32_t value) {
    const std::int32_t kept = std::clamp(value, -kMostPoint, kMostPoint);
    points_[at_] = static_cast<std::int16_t>(kept);
    const auto size = static_cast<std::uint64_t>(kept < 0 ? -kept : kept);
    row_sum_ += size;
    ++row_seen_;
    all_ += size;
    kernel_ += most(kept, cap_);
    signed_ += kept;
    places_[column_ * plan_.taps + tap] += static_cast<std::uint32_t>(size);
  }
  void end_row(std::size_t row) {
    for (std::size_t c = 0; c < plan_.columns; ++c)
      for (std::size_t t = 0; t < plan_.taps; ++t) columns_[c] += most(point(row, c, t), kMostPoint);
  }

  static constexpr std::uint32_t kMostBits = 20;
  static constexpr std::int32_t kMostPoint = 1023;

  const MixPlan& plan_;
  Coder& coder_;
  std::uint32_t cap_;
  std::vector<std::int16_t> points_;
  std::vector<std::uint64_t> columns_;  // sums of magnitudes of rows that are done
  std::vector<std::uint64_t> places_;   // sums by column and tap
  Predictor<7> mask_;
  Predictor<7> zero_;
  Predictor<6> size_;
  Predictor<5> sign_;
  std::array<Counter, kMostBits> wide_ = {};
  std::uint32_t quantiser_[kTrellisMaxStates] = {};
  std::uint32_t next_[kTrellisMaxStates][2] = {};

  std::size_t at_ = 0, row_ = 0, column_ = 0;
  std::uint64_t all_ = 0, row_sum_ = 0, row_seen_ = 0, mean_ = 0;
  std::uint32_t of_column_ = 0, of_row_ = 0, of_place_ = 0, before_ = 0, kernel_ = 0, sum_ = 0, tap_ = 0;
  std::int32_t signed_ = 0, left_ = 0, up_ = 0, above_ = 0, beside_ = 0;
  Near near_ = {};
};

}  // namespace

std::vector<std::uint8_t> mix_encode(const MixPlan& plan, const std::int32_t* levels, const std::uint8_t* mask,
                                     std::uint32_t& state) {
  if (plan.rows == 0) return {};
  Encoder coder;
  Walk<Encoder>(plan, coder).run(levels, mask, nullptr, nullptr, state);
  return coder.finish();
}

void mix_decode(const MixPlan& plan, const std::uint8_t* data, std::size_t size, std::int32_t* levels,
                std::uint8_t* mask, std::uint32_t& state) {
  if (plan.rows == 0) return;
  Decoder coder(data, size);
  Walk<Decoder>(plan, coder).run(nullptr, nullptr, levels, mask, state);
}

}  // namespace memristore
