// Device curves and numbers as plain structs. Python fills them; kernels only read them.
#pragma once
#include <cstdint>

namespace memristore {

inline constexpr int kMaxCoefficients = 8;
inline constexpr int kMaxKnots = 128;
// Tables of no more knots than this may be looked up in registers.
inline constexpr int kFewKnots = 64;

// A curve of one variable. Every form clips its result to [lo, hi].
//   zero      0
//   poly      sum a[k] x^k
//   poly_log  sum a[k] L^k,       L = log2(max(x, kLogFloor))
//   exp_log   2^(sum a[k] L^k)
//   table     knots a[0..n-1] at x0 + k / inv_step; b[k] = a[k+1] - a[k]; held constant outside
enum CurveForm : std::int32_t { kZero = 0, kPoly = 1, kPolyLog = 2, kExpLog = 3, kTable = 4 };
inline constexpr float kLogFloor = 1e-7F;

struct Curve {
  std::int32_t form = kZero;
  std::int32_t n = 0;
  float lo = 0.0F;
  float hi = 0.0F;
  float x0 = 0.0F;
  float inv_step = 0.0F;
  float a[kMaxKnots] = {};
  float b[kMaxKnots] = {};
};

// Conductance devices keep state in uS and drift by a factor; log-resistance devices keep log10(ohm) and drift by a sum.
enum Domain : std::int32_t { kConductance = 0, kLogResistance = 1 };

struct Device {
  std::int32_t domain = kConductance;
  std::int32_t read_relative = 0;  // 1: read spread is multiplied by the aged state
  float state_lo = 0.0F;           // u = (state - state_lo) * inv_range is what ageing curves are evaluated at
  float inv_range = 1.0F;
  float clip_lo = 0.0F;  // physical limits of a programmed or read state
  float clip_hi = 0.0F;
  float p_stuck_lo = 0.0F;
  float p_stuck_hi = 0.0F;
  float stuck_lo = 0.0F;  // state of a cell stuck low / high
  float stuck_hi = 0.0F;
  Curve response;    // target x in [0, 1] -> mean state
  Curve write_std;   // x -> spread of one-shot writes, state units
  Curve cell_std;    // x -> cell-to-cell spread, state units
  Curve drift_mean;  // u -> mean drift exponent
  Curve drift_std;   // u -> its spread
  Curve relax_std;   // u -> relaxation spread at unit growth, state units
  Curve read_std;    // u -> read spread at unit time factor, relative or state units
  Curve relax_mean;  // u -> mean shift at unit growth, state units
};

// What a read time means to the kernels; computed once per read in Python.
struct ReadTime {
  float log2_age = 0.0F;    // log2((t + t_c) / t_c); the log-resistance domain uses its decimal counterpart
  float relax_mean = 0.0F;  // mean shift, state units
  float relax_scale = 0.0F;
  float read_scale = 1.0F;
};

// Program-and-verify. All in state units but `step` (share of the remaining error) and `spread` (relative to the pulse).
struct Pulse {
  float start = 0.0F;
  float step = 0.0F;
  float spread = 0.0F;
  float noise = 0.0F;
  float verify_std = 0.0F;
  float band = 0.0F;
  float log2_delay = 0.0F;  // log2_age of the verify delay
  std::uint32_t max_pulses = 0;
};

}  // namespace memristore
