// What a search for the window of values that a cell holds takes and gives: the reach with the least predicted error.
#pragma once
#include <cstddef>

namespace memristore {

// Most positions and knots that a search takes.
inline constexpr std::size_t kMaxPositions = 257;
inline constexpr std::size_t kMaxSeenKnots = 513;

// How window positions, equally spaced from 0 to 1, show in soft reads.
struct Seen {
  const double* inverse_variance;  // error of the inverted mean at each position, in squared window widths
  std::size_t positions;
  const double* density;  // (positions, knots): density of the read at each knot; null: judge by the inverted mean
  std::size_t knots;
  double step;  // from knot to knot
};

// Which windows are tried, and what they must answer for.
struct WindowRule {
  double low;  // extreme values, which the sample may miss
  double high;
  double count;      // values, of which the sample is a part
  double clip;       // 0: the best of 25 reaches; infinity: the extreme values; else as many standard deviations
  double clip_cost;  // weight of squared clipping errors against noise, of the inverted mean
  bool symmetric;    // windows about zero
};

struct Window {
  double lo;
  double hi;
  double error;  // predicted squared error per value
};

struct Extremes {
  float low;
  float high;
  bool finite;  // whether all values are; the extremes hold only then
};

}  // namespace memristore
