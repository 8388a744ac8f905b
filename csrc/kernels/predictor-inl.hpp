// Bits predicted from counts in several contexts, and the arithmetic coder that the predictions drive.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace memristore {

// Logits are in 256ths, within +-kReach; probabilities in 65536ths.
constexpr std::int32_t kReach = 2304;
constexpr std::int32_t kUnit = 65536;
// Counts after which a counter forgets: its memory.
constexpr std::uint32_t kMemory = 400;
// Weights are in 65536ths. What all start with in sum, and how fast they learn: kRate, and kFast more at the start, half
// of which is left after kSettling bits.
constexpr std::int32_t kStart = 66000;
constexpr std::int32_t kRate = 131;
constexpr std::int32_t kFast = 1311;
constexpr std::int64_t kSettling = 200;
// The input that is always there.
constexpr std::int32_t kBias = 77;

// e**x for -10 < x < 10. Rounded to 65536ths, no sigmoid in the table below is nearer than 3e-4 to the middle of two, and
// this one is within 2e-8 of the true one: extended precision or contraction in a compiler would change no entry.
constexpr double exponential(double x) {
  double power = 1.0 + x / 1024.0 * (1.0 + x / 2048.0 * (1.0 + x / 3072.0 * (1.0 + x / 4096.0)));
  for (int i = 0; i < 10; ++i) power *= power;
  return power;
}

struct Tables {
  std::array<std::uint16_t, 2 * kReach + 1> squash;   // probability of a logit
  std::array<std::int16_t, 4096> stretch;             // logit of a probability in 4096ths
  std::array<std::uint16_t, kMemory + 1> rate;        // 1 / (count + 1.6)
  std::array<std::uint16_t, kMemory + 1> confidence;  // (count + 0.5) / (count + 1.5); 0 for nothing seen
};

constexpr Tables make_tables() {
  Tables t = {};
  for (std::int32_t d = -kReach; d <= kReach; ++d)
    t.squash[static_cast<std::size_t>(d + kReach)] = static_cast<std::uint16_t>(
        std::clamp(static_cast<std::int32_t>(kUnit / (1.0 + exponential(-d / 256.0)) + 0.5), 8, kUnit - 8));
  std::int32_t d = -kReach;
  for (std::int32_t i = 0; i < 4096; ++i) {
    while (d < kReach && t.squash[static_cast<std::size_t>(d + kReach)] < 16 * i + 8) ++d;
    t.stretch[static_cast<std::size_t>(i)] = static_cast<std::int16_t>(d);
  }
  for (std::uint32_t n = 0; n <= kMemory; ++n) {
    t.rate[n] = static_cast<std::uint16_t>(kUnit * 10 / (10 * n + 16));
    t.confidence[n] = static_cast<std::uint16_t>(n == 0 ? 0 : kUnit * (2 * n + 1) / (2 * n + 3));
  }
  return t;
}
constexpr Tables kTables = make_tables();

// How often a bit was 1: a probability in the upper 22 bits, a count in the lower 10.
struct Counter {
  std::uint32_t state = 1U << 31;
  std::uint32_t count() const { return state & 1023U; }
  std::int32_t logit() const { return kTables.stretch[state >> 20]; }
  void update(bool bit) {
    const std::uint32_t n = count();
    const std::int64_t off = (bit ? (1 << 22) - 1 : 0) - static_cast<std::int64_t>(state >> 10);
    const std::int64_t p = static_cast<std::int64_t>(state >> 10) + off * kTables.rate[n] / kUnit;
    state = static_cast<std::uint32_t>(p) << 10 | (n < kMemory ? n + 1 : n);
  }
};

// Arithmetic coding with 32-bit bounds.
class Encoder {
 public:
  static constexpr bool kReads = false;
  bool code(std::uint32_t p, bool bit) {
    const std::uint32_t middle =
        low_ + static_cast<std::uint32_t>((static_cast<std::uint64_t>(high_ - low_) * p) >> 16);
    (bit ? high_ : low_) = bit ? middle : middle + 1;
    for (; ((low_ ^ high_) >> 24) == 0; low_ <<= 8, high_ = high_ << 8 | 255U)
      bytes_.push_back(static_cast<std::uint8_t>(high_ >> 24));
    return bit;
  }
  // The shortest bytes within the bounds, zeros after them.
  std::vector<std::uint8_t> finish() {
    for (unsigned length = 0; length <= 4; ++length) {
      const std::uint64_t unit = std::uint64_t{1} << (32 - 8 * length);
      const std::uint64_t value = (low_ + unit - 1) / unit * unit;
      if (value > high_) continue;
      for (unsigned i = 0; i < length; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (24 - 8 * i)));
      break;
    }
    while (!bytes_.empty() && bytes_.back() == 0) bytes_.pop_back();
    return std::move(bytes_);
  }

 private:
  std::uint32_t low_ = 0;
  std::uint32_t high_ = 0xffffffffU;
  std::vector<std::uint8_t> bytes_;
};

class Decoder {
 public:
  static constexpr bool kReads = true;
  Decoder(const std::uint8_t* data, std::size_t size) : data_(data), end_(data + size) {
    for (int i = 0; i < 4; ++i) value_ = value_ << 8 | next();
  }
  bool code(std::uint32_t p, bool) {
    const std::uint32_t middle =
        low_ + static_cast<std::uint32_t>((static_cast<std::uint64_t>(high_ - low_) * p) >> 16);
    const bool bit = value_ <= middle;
    (bit ? high_ : low_) = bit ? middle : middle + 1;
    for (; ((low_ ^ high_) >> 24) == 0; low_ <<= 8, high_ = high_ << 8 | 255U) value_ = value_ << 8 | next();
    return bit;
  }

 private:
  std::uint32_t next() { return data_ < end_ ? *data_++ : 0U; }
  const std::uint8_t* data_;
  const std::uint8_t* end_;
  std::uint32_t low_ = 0;
  std::uint32_t high_ = 0xffffffffU;
  std::uint32_t value_ = 0;
};

// Predicts one kind of bit from as many contexts as `sizes` says. The first is the one that others start from.
template <std::size_t Contexts>
class Predictor {
 public:
  using Places = std::array<std::uint32_t, Contexts>;

  Predictor(const Places& sizes, std::size_t sets)
      : weights_(sets * (Contexts + 1), kStart / static_cast<std::int32_t>(Contexts)) {
    std::uint32_t total = 0;
    for (std::size_t i = 0; i < Contexts; total += sizes[i++]) first_[i] = total;
    counters_.resize(total);
  }

  template <class Coder>
  bool code(Coder& coder, const Places& places, std::size_t set, bool bit = false) {
    std::array<Counter*, Contexts> counters;
    std::array<std::int32_t, Contexts + 1> inputs;
    std::int32_t* const weights = weights_.data() + set * (Contexts + 1);
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < Contexts; ++i) {
      counters[i] = &counters_[first_[i] + places[i]];
      const std::uint32_t seen = counters[i]->count();
      if (seen == 0) counters[i]->state = counters[0]->state & ~1023U;
      inputs[i] = counters[i]->logit() * kTables.confidence[seen] / kUnit;
      sum += static_cast<std::int64_t>(weights[i]) * inputs[i];
    }
    inputs[Contexts] = kBias;
    sum += static_cast<std::int64_t>(weights[Contexts]) * kBias;
    const auto logit = static_cast<std::int32_t>(std::clamp<std::int64_t>(sum / kUnit, -kReach, kReach));
    const std::int32_t p = kTables.squash[static_cast<std::size_t>(logit + kReach)];
    bit = coder.code(static_cast<std::uint32_t>(p), bit);
    const std::int64_t step = ((bit ? kUnit : 0) - p) * (kRate + kFast * kSettling / (kSettling + coded_));
    for (std::size_t i = 0; i <= Contexts; ++i)
      weights[i] = static_cast<std::int32_t>(
          std::clamp<std::int64_t>(weights[i] + step * inputs[i] / (256 * kUnit), -kMostWeight, kMostWeight));
    for (Counter* counter : counters) counter->update(bit);
    if (coded_ < kMostCoded) ++coded_;
    return bit;
  }

 private:
  static constexpr std::int64_t kMostWeight = 1 << 22;
  static constexpr std::int64_t kMostCoded = std::int64_t{1} << 40;
  std::array<std::uint32_t, Contexts> first_ = {};
  std::vector<Counter> counters_;
  std::vector<std::int32_t> weights_;
  std::int64_t coded_ = 0;
};

}  // namespace memristore
