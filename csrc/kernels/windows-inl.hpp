// Search for the window of a stream's values. Doubles in plain loops that the compiler vectorises; sums in a fixed order
// and no multiply-add, so that every level decides alike.
namespace {

using memristore::Extremes;
using memristore::kMaxPositions;
using memristore::kMaxSeenKnots;
using memristore::Seen;
using memristore::Window;
using memristore::WindowRule;

constexpr std::size_t kEnds = 32;     // values kept one by one at each end of a sample
constexpr std::size_t kGroups = 256;  // at least as many groups of the others
constexpr std::size_t kMost = 2 * (kEnds + kGroups);
constexpr std::size_t kReaches = 25;  // windows of a family, from narrow to wide
constexpr std::size_t kStride = 3;    // looked at first; then the neighbours of the best
constexpr double kUnit = 0.68;        // share of the values within the narrowest reach
constexpr double kNearZero = 0.02;    // values of one sign that come this near to zero have their inner edge there

struct Edges {
  double lo;
  double hi;
};

// Few values and weights that stand for a sample: its extremes one by one, its middle in groups.
struct Condensed {
  std::size_t n = 0;
  double values[kMost];
  double weights[kMost];
  double centre = 0.0;  // median, which an outlier does not move

  Condensed(const float* sample, std::size_t size) {
    const bool grouped = size > 4 * kEnds;
    const std::size_t first = grouped ? kEnds : size;
    const std::size_t last = grouped ? size - kEnds : size;
    const std::size_t group = (last - first) / kGroups > 1 ? (last - first) / kGroups : 1;
    for (std::size_t i = 0; i < first; ++i) add(sample[i], 1.0);
    for (std::size_t i = first; i < last; i += group) {
      const std::size_t stop = i + group < last ? i + group : last;
      // Four sums, so that an addition need not wait for the one before.
      double sums[4] = {0.0, 0.0, 0.0, 0.0};
      std::size_t j = i;
      for (; j + 4 <= stop; j += 4)
        for (std::size_t k = 0; k < 4; ++k) sums[k] += sample[j + k];
      for (; j < stop; ++j) sums[0] += sample[j];
      const auto count = static_cast<double>(stop - i);
      add(((sums[0] + sums[1]) + (sums[2] + sums[3])) / count, count);
    }
    for (std::size_t i = last; i < size; ++i) add(sample[i], 1.0);
    for (std::size_t i = 0; i < n; ++i) weights[i] /= static_cast<double>(size);
    centre = median();
  }

  void add(double value, double weight) {
    values[n] = value;
    weights[n++] = weight;
  }

  double median() const {
    double below = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      below += weights[i];
      if (below >= 0.5) return values[i];
    }
    return values[n - 1];
  }

  // Distance from `origin` within which the narrowest window's share of the values lies.
  double unit(double origin) const {
    std::size_t right = 0;
    while (right < n && values[right] < origin) ++right;
    std::size_t left = right;
    double within = 0.0;
    double distance = 0.0;
    while (left > 0 || right < n) {
      const bool from_left = left > 0 && (right == n || origin - values[left - 1] <= values[right] - origin);
      const std::size_t k = from_left ? --left : right++;
      distance = from_left ? origin - values[k] : values[k] - origin;
      within += weights[k];
      if (within >= kUnit) break;
    }
    return distance;
  }

  double spread(double about) const {
    double sum = 0.0;
    for (std::size_t i = 0; i < n; ++i) sum += weights[i] * ((values[i] - about) * (values[i] - about));
    return std::sqrt(sum);
  }

  double mean() const {
    double sum = 0.0;
    for (std::size_t i = 0; i < n; ++i) sum += weights[i] * values[i];
    return sum;
  }
};

double least(double a, double b) { return b < a ? b : a; }
double most(double a, double b) { return b > a ? b : a; }

Edges about(const WindowRule& rule, double centre, double reach) {
  return {most(rule.low, centre - reach), least(rule.high, centre + reach)};
}

// Edges that keep what lies within `reach`. Values of one sign keep their inner edge, which is zero where they are near.
Edges edges(const WindowRule& rule, double centre, double reach) {
  if (rule.symmetric) {
    const double edge = least(reach, most(-rule.low, rule.high));
    return {-edge, edge};
  }
  if (rule.low >= 0.0) {
    const double inner = rule.low < kNearZero * rule.high ? 0.0 : rule.low;
    return {inner, least(rule.high, inner + reach)};
  }
  if (rule.high <= 0.0) {
    const double inner = rule.high > kNearZero * rule.low ? 0.0 : rule.high;
    return {most(rule.low, inner - reach), inner};
  }
  return about(rule, centre, reach);
}

// The 24th root of a number in [1, 1e7].
double root24(double x) {
  const double y = std::sqrt(std::sqrt(std::sqrt(x)));
  double root = 1.0 + (y - 1.0) / 3.0;
  for (int i = 0; i < 8; ++i) root -= (root - y / (root * root)) / 3.0;
  return root;
}

// Squared error of values in one window, in squared widths: noise of the inverted mean, and clipping.
double inverted(const Seen& seen, const Condensed& sample, double clip_cost, double lo, double span) {
  const auto last = static_cast<double>(seen.positions - 1);
  double error = 0.0;
  for (std::size_t i = 0; i < sample.n; ++i) {
    const double true_position = (sample.values[i] - lo) / span;
    const double position = least(most(true_position, 0.0), 1.0);
    const double t = position * last;
    const auto k = static_cast<std::size_t>(least(static_cast<double>(static_cast<std::size_t>(t)), last - 1.0));
    const double noise = seen.inverse_variance[k] +
                         (t - static_cast<double>(k)) * (seen.inverse_variance[k + 1] - seen.inverse_variance[k]);
    const double clipped = true_position - position;
    error += (noise + clip_cost * (clipped * clipped)) * sample.weights[i];
  }
  return error;
}

// The same for the posterior mean under the values' own distribution.
double posterior(const Seen& seen, const Condensed& sample, double lo, double span) {
  double mass[kMaxPositions] = {};
  double first[kMaxPositions] = {};
  double square = 0.0;
  const auto last = static_cast<double>(seen.positions - 1);
  for (std::size_t i = 0; i < sample.n; ++i) {
    const double true_position = (sample.values[i] - lo) / span;
    const double t = least(most(true_position, 0.0), 1.0) * last;
    const auto k = static_cast<std::size_t>(least(static_cast<double>(static_cast<std::size_t>(t)), last - 1.0));
    const double f = t - static_cast<double>(k);
    const double weight = sample.weights[i];
    const double moment = weight * true_position;
    mass[k] += weight * (1.0 - f);
    mass[k + 1] += weight * f;
    first[k] += moment * (1.0 - f);
    first[k + 1] += moment * f;
    square += true_position * true_position * weight;
  }
  double total[kMaxSeenKnots] = {};
  double mean[kMaxSeenKnots] = {};
  for (std::size_t p = 0; p < seen.positions; ++p) {
    if (mass[p] == 0.0) continue;
    const double* density = seen.density + p * seen.knots;
    for (std::size_t k = 0; k < seen.knots; ++k) {
      total[k] += mass[p] * density[k];
      mean[k] += first[p] * density[k];
    }
  }
  double explained = 0.0;
  for (std::size_t k = 0; k < seen.knots; ++k) explained += mean[k] * mean[k] / most(total[k], 1e-300);
  return most(square - explained * seen.step, 1e-14);
}

double judge(const Seen& seen, const WindowRule& rule, const Condensed& sample, Edges window) {
  const double span = window.hi - window.lo;
  const double error = seen.density == nullptr ? inverted(seen, sample, rule.clip_cost, window.lo, span)
                                               : posterior(seen, sample, window.lo, span);
  // The sample may miss the extremes, which the window must answer for with their true weight.
  const double below = most(window.lo - rule.low, 0.0);
  const double above = most(rule.high - window.hi, 0.0);
  return span * span * error + (below * below + above * above) / rule.count;
}

struct Family {
  std::size_t n = 0;
  Edges windows[kReaches];
};

// Windows of rising reach, or the one that `clip` asks for. `centred`: about the median, whatever the sign of the values.
Family family(const WindowRule& rule, const Condensed& sample, bool centred) {
  const auto window = [&](double reach) {
    return centred ? about(rule, sample.centre, reach) : edges(rule, sample.centre, reach);
  };
  const Edges widest = window(HUGE_VAL);
  const bool one_sided = !centred && (rule.low >= 0.0 || rule.high <= 0.0);
  double origin = sample.centre;
  double full = most(widest.hi - origin, origin - widest.lo);
  if (one_sided) {
    origin = rule.low >= 0.0 ? widest.lo : widest.hi;
    full = widest.hi - widest.lo;
  }
  Family out;
  if (rule.clip != 0.0) {
    double reach = full;
    if (rule.clip < HUGE_VAL) {
      const double inner = one_sided ? std::fabs(origin) : 0.0;
      reach = rule.clip * sample.spread(one_sided ? 0.0 : sample.mean()) - inner;
      reach = least(full, most(reach, 1e-3 * full));
    }
    out.windows[out.n++] = window(reach);
    return out;
  }
  double reach = most(least(sample.unit(origin), full), 1e-6 * full);
  const double ratio = root24(full / reach);
  for (; out.n + 1 < kReaches; reach *= ratio) out.windows[out.n++] = window(reach);
  out.windows[out.n++] = window(full);
  return out;
}

// The error of a family has one valley: its neighbourhood is looked at closely.
void search(const Seen& seen, const WindowRule& rule, const Condensed& sample, const Family& tried, Window& best) {
  double errors[kReaches];
  std::size_t middle = 0;
  for (std::size_t i = 0; i < tried.n; i += kStride) {
    errors[i] = judge(seen, rule, sample, tried.windows[i]);
    if (errors[i] < errors[middle]) middle = i;
  }
  const std::size_t start = middle > 2 ? middle - 2 : 0;
  const std::size_t stop = middle + 3 < tried.n ? middle + 3 : tried.n;
  for (std::size_t i = start; i < stop; ++i) {
    const double error = i % kStride == 0 ? errors[i] : judge(seen, rule, sample, tried.windows[i]);
    if (error < best.error) best = {tried.windows[i].lo, tried.windows[i].hi, error};
  }
}

Window k_best_window(const Seen& seen, const WindowRule& rule, const float* sample, std::size_t n) {
  const Condensed condensed(sample, n);
  Window best = {rule.low, rule.high, HUGE_VAL};
  search(seen, rule, condensed, family(rule, condensed, false), best);
  // Values of one sign that do not reach zero may pile up at their inner edge or lie about a middle.
  const bool away = rule.low > 0.0 ? rule.low > kNearZero * rule.high : rule.high < kNearZero * rule.low;
  if (rule.clip == 0.0 && away) search(seen, rule, condensed, family(rule, condensed, true), best);
  return best;
}

Extremes k_extremes(const float* values, std::size_t n) {
  F low = set(values[0]);
  F high = low;
  F wrong = set(0.0F);
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F v = load(values + i);
    low = min(v, low);
    high = max(v, high);
    wrong = fma(v, set(0.0F), wrong);  // NaN from the first value on that is not finite
  }
  float lows[kLanes];
  float highs[kLanes];
  float wrongs[kLanes];
  store(lows, low);
  store(highs, high);
  store(wrongs, wrong);
  Extremes out = {lows[0], highs[0], wrongs[0] == 0.0F};
  for (std::size_t j = 1; j < kLanes; ++j) {
    out.low = lows[j] < out.low ? lows[j] : out.low;
    out.high = highs[j] > out.high ? highs[j] : out.high;
    out.finite = out.finite && wrongs[j] == 0.0F;
  }
  for (; i < n; ++i) {
    out.low = values[i] < out.low ? values[i] : out.low;
    out.high = values[i] > out.high ? values[i] : out.high;
    out.finite = out.finite && values[i] * 0.0F == 0.0F;
  }
  return out;
}

// exp(x) for x in [-700, 0], within two units of the last place: 2^k times the series of 2^r, |r| <= 1/2.
inline double exp_below_zero(double x) {
  constexpr double kLog2e = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01;
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: what is added to it is rounded to an integer
  const double shifted = x * kLog2e + kRound;
  const double k = shifted - kRound;
  const double r = (x - k * kLn2High) - k * kLn2Low;
  constexpr double kSeries[] = {1.0 / 6227020800.0,
                                1.0 / 479001600.0,
                                1.0 / 39916800.0,
                                1.0 / 3628800.0,
                                1.0 / 362880.0,
                                1.0 / 40320.0,
                                1.0 / 5040.0,
                                1.0 / 720.0,
                                1.0 / 120.0,
                                1.0 / 24.0,
                                1.0 / 6.0,
                                0.5,
                                1.0,
                                1.0};
  double sum = kSeries[0];
  for (int i = 1; i < 14; ++i) sum = sum * r + kSeries[i];
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(sum) + (std::bit_cast<std::uint64_t>(shifted) << 52));
}

// Sums of exp(-scale * power) over a row of powers, of which the least is 0, for each of a row's scales.
void k_shape_masses(const double* powers, std::size_t rows, std::size_t points, const double* scales,
                    std::size_t widths, double* out) {
  constexpr std::size_t kSums = 8;
  constexpr double kFar = 60.0;  // exp(-60) is below the last place of a sum that holds exp(0)
  for (std::size_t row = 0; row < rows; ++row) {
    const double* power = powers + row * points;
    for (std::size_t w = 0; w < widths; ++w) {
      const double scale = scales[row * widths + w];
      // Powers fall and rise again: what counts lies together.
      std::size_t start = 0;
      std::size_t stop = points;
      while (start < stop && power[start] * scale > kFar) ++start;
      while (stop > start && power[stop - 1] * scale > kFar) --stop;
      double sums[kSums] = {};
      std::size_t i = start;
      for (; i + kSums <= stop; i += kSums)
        for (std::size_t j = 0; j < kSums; ++j) sums[j] += exp_below_zero(-scale * power[i + j]);
      for (; i < stop; ++i) sums[0] += exp_below_zero(-scale * power[i]);
      out[row * widths + w] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    }
  }
}

}  // namespace
