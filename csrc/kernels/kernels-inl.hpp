// The kernel bodies, compiled once per instruction set: include exactly one simd_*.hpp first, then this file.
// Everything here has internal linkage, so no copy compiled for one level can be linked into another.
#ifndef MEMRISTORE_LEVEL
#error "define MEMRISTORE_LEVEL (the level's name) before including kernels-inl.hpp"
#endif
#include <bit>
#include <cmath>

#include "kernels/draws-inl.hpp"

namespace {

using memristore::Device;
using memristore::Pulse;
using memristore::ReadTime;

// Thresholds on the raw fault word, saturated to 32 bits.
struct FaultLimits {
  std::uint32_t low;
  std::uint32_t both;
  bool possible;
};
inline FaultLimits fault_limits(const Device& d) {
  const double low = static_cast<double>(d.p_stuck_lo) * 4294967296.0;
  const double both = (static_cast<double>(d.p_stuck_lo) + static_cast<double>(d.p_stuck_hi)) * 4294967296.0;
  const double top = 4294967295.0;
  return {static_cast<std::uint32_t>(low < top ? low : top), static_cast<std::uint32_t>(both < top ? both : top),
          both > 0.0};
}
constexpr Draw kFaultDraw = {memristore::kPurposeFault, 0};
inline void quad_faults(const FaultLimits& limits, const U w[4], M low[4], M high[4]) {
  for (int i = 0; i < 4; ++i) {
    low[i] = less_u(w[i], setu(limits.low));
    high[i] = andnot(low[i], less_u(w[i], setu(limits.both)));
  }
}

// 1 where stuck low, 2 where stuck high, else 0.
inline void quad_fault_codes(const FaultLimits& limits, const U w[4], F code[4]) {
  M low[4];
  M high[4];
  quad_faults(limits, w, low, high);
  for (int i = 0; i < 4; ++i) code[i] = select(low[i], set(1.0F), select(high[i], set(2.0F), set(0.0F)));
}

inline bool present(const Curve& c) { return c.form != memristore::kZero; }

inline void clip4(const Device& d, F x[4]) {
  for (int w = 0; w < 4; ++w) x[w] = min(max(x[w], set(d.clip_lo)), set(d.clip_hi));
}

inline void add_noise(const Curve& curve, const F x[4], const F l[4], const U words[4], F state[4]) {
  if (!present(curve)) return;
  F z[4];
  F s[4];
  normals_of(words, z);
  evaluate(curve, x, l, s);
  for (int w = 0; w < 4; ++w) state[w] = fma(s[w], z[w], state[w]);
}

inline void add_program_draws(const Device& d, const FaultLimits& limits, std::uint32_t event, Draws& draws) {
  draws.add(present(d.cell_std), kCell, {memristore::kPurposeCell, 0});
  draws.add(present(d.write_std), kWrite, {memristore::kPurposeWrite, event});
  draws.add(limits.possible, kFault, kFaultDraw);
}

inline void quad_program(const Device& d, const FaultLimits& limits, const Quad& quad, const F x[4], F state[4]) {
  F l[4] = {x[0], x[1], x[2], x[3]};
  if (needs_log(d.response) || needs_log(d.write_std) || needs_log(d.cell_std)) log2_floor(x, l);
  evaluate(d.response, x, l, state);
  add_noise(d.cell_std, x, l, quad[kCell], state);
  add_noise(d.write_std, x, l, quad[kWrite], state);
  clip4(d, state);
  if (limits.possible) {
    M low[4];
    M high[4];
    quad_faults(limits, quad[kFault], low, high);
    for (int w = 0; w < 4; ++w) state[w] = select(low[w], set(d.stuck_lo), select(high[w], set(d.stuck_hi), state[w]));
  }
}

// Argument of the ageing curves, always from the programmed state, and its logarithm where a curve wants it.
inline void ageing_argument(const Device& d, const F programmed[4], F u[4], F l[4]) {
  for (int w = 0; w < 4; ++w) u[w] = max((programmed[w] - set(d.state_lo)) * set(d.inv_range), set(0.0F));
  if (needs_log(d.drift_mean) || needs_log(d.drift_std) || needs_log(d.relax_std) || needs_log(d.read_std) ||
      needs_log(d.relax_mean))
    log2_floor(u, l);
  else
    for (int w = 0; w < 4; ++w) l[w] = u[w];
}

constexpr Draw kDriftDraw = {memristore::kPurposeDrift, 0};
inline void drift_exponent(const Device& d, const U words[4], const F u[4], const F l[4], F nu[4]) {
  evaluate(d.drift_mean, u, l, nu);
  add_noise(d.drift_std, u, l, words, nu);
  for (int w = 0; w < 4; ++w) nu[w] = floats(bits(nu[w]) & setu(0x7FFFFFFFU));
}

constexpr float kLog10Of2 = 0.301029996F;

inline F drifted(const Device& d, float log2_age, F nu, F state) {
  if (d.domain == memristore::kConductance) return state * exp2(nu * set(-log2_age));
  return fma(nu, set(log2_age * kLog10Of2), state);
}

inline bool drifts(const Device& d, const ReadTime& t) {
  return t.log2_age != 0.0F && (present(d.drift_mean) || present(d.drift_std));
}
inline bool relaxes(const Device& d, const ReadTime& t) {
  return t.relax_mean != 0.0F || (t.relax_scale != 0.0F && (present(d.relax_std) || present(d.relax_mean)));
}

inline bool reads_noise(const Device& d, const ReadTime& t) { return t.read_scale != 0.0F && present(d.read_std); }

inline void add_drift_draws(const Device& d, const ReadTime& t, const FaultLimits& limits, Draws& draws) {
  draws.add(drifts(d, t) && present(d.drift_std), kDrift, kDriftDraw);
  draws.add(drifts(d, t) && limits.possible, kFault, kFaultDraw);
}
inline void add_relax_draws(const Device& d, const ReadTime& t, const FaultLimits& limits, Draws& draws) {
  draws.add(relaxes(d, t), kRelax, {memristore::kPurposeRelax, 0});
  draws.add(relaxes(d, t) && limits.possible, kFault, kFaultDraw);
}
inline void add_ageing_draws(const Device& d, const ReadTime& t, const FaultLimits& limits, Draw read, Draws& draws) {
  add_drift_draws(d, t, limits, draws);
  add_relax_draws(d, t, limits, draws);
  draws.add(reads_noise(d, t), kRead, read);
}

// out keeps the programmed state where the cell is stuck.
inline void hold_stuck(const FaultLimits& limits, const Quad& quad, const F programmed[4], F out[4]) {
  if (!limits.possible) return;
  M low[4];
  M high[4];
  quad_faults(limits, quad[kFault], low, high);
  for (int w = 0; w < 4; ++w) out[w] = select(low[w] | high[w], programmed[w], out[w]);
}

inline void quad_drift(const Device& d, const ReadTime& t, const FaultLimits& limits, const Quad& quad,
                       const F programmed[4], const F u[4], const F l[4], F state[4]) {
  for (int w = 0; w < 4; ++w) state[w] = programmed[w];
  if (!drifts(d, t)) return;
  F nu[4];
  drift_exponent(d, quad[kDrift], u, l, nu);
  for (int w = 0; w < 4; ++w) state[w] = drifted(d, t.log2_age, nu[w], state[w]);
  hold_stuck(limits, quad, programmed, state);
}

inline void quad_relax(const Device& d, const ReadTime& t, const FaultLimits& limits, const Quad& quad, const F u[4],
                       const F l[4], F state[4]) {
  if (!relaxes(d, t)) return;
  F before[4];
  F z[4];
  F s[4];
  evaluate(d.relax_std, u, l, s);
  normals_of(quad[kRelax], z);
  for (int w = 0; w < 4; ++w) before[w] = state[w];
  if (present(d.relax_mean)) {
    F m[4];
    evaluate(d.relax_mean, u, l, m);
    for (int w = 0; w < 4; ++w) state[w] = fma(m[w], set(t.relax_scale), state[w]);
  }
  for (int w = 0; w < 4; ++w) {
    state[w] = fma(s[w] * set(t.relax_scale), z[w], state[w] + set(t.relax_mean));
  }
  if (d.domain == memristore::kConductance) clip4(d, state);
  hold_stuck(limits, quad, before, state);
}

inline void quad_read(const Device& d, const ReadTime& t, const Quad& quad, const F u[4], const F l[4], F state[4]) {
  if (reads_noise(d, t)) {
    F z[4];
    F s[4];
    normals_of(quad[kRead], z);
    evaluate(d.read_std, u, l, s);
    for (int w = 0; w < 4; ++w) {
      F spread = s[w] * set(t.read_scale);
      if (d.read_relative != 0) spread = spread * state[w];
      state[w] = fma(spread, z[w], state[w]);
    }
  }
  clip4(d, state);
}

inline void quad_age_and_read(const Device& d, const ReadTime& t, const FaultLimits& limits, const Quad& quad,
                              const F programmed[4], F state[4]) {
  F u[4];
  F l[4];
  ageing_argument(d, programmed, u, l);
  quad_drift(d, t, limits, quad, programmed, u, l, state);
  quad_relax(d, t, limits, quad, u, l, state);
  quad_read(d, t, quad, u, l, state);
}

void k_philox(std::uint64_t key, Draw draw, std::uint64_t first_block, std::size_t blocks, std::uint32_t* out) {
  const Keys keys = schedule(key);
  std::uint32_t buffer[4][kLanes];
  for (std::size_t b = 0; b < blocks; b += kLanes) {
    // Lanes may straddle 2^32 here, unlike in the cell kernels: carry by comparing.
    const std::uint64_t block = first_block + b;
    const U low = setu(static_cast<std::uint32_t>(block)) + iota();
    const M carried = less_u(low, setu(static_cast<std::uint32_t>(block)));
    const std::uint32_t high = static_cast<std::uint32_t>(block >> 32);
    U w[1][4] = {{low, select(carried, setu(high + 1U), setu(high)), setu(draw.purpose), setu(draw.event)}};
    philox_rounds<1>(keys, 0, w);
    for (int k = 0; k < 4; ++k) storeu(buffer[k], w[0][k]);
    const std::size_t n = blocks - b < kLanes ? blocks - b : static_cast<std::size_t>(kLanes);
    for (std::size_t i = 0; i < n; ++i)
      for (int k = 0; k < 4; ++k) out[4 * (b + i) + static_cast<std::size_t>(k)] = buffer[k][i];
  }
}

void k_normals(Cells cells, Draw draw, float* out) {
  Draws draws(cells.key);
  draws.add(true, kRead, draw);
  float* const outs[] = {out};
  for_quads<0, 1>(draws, cells, nullptr, outs, [](const Quad& quad, const float* const*, float* const* o) {
    F z[4];
    normals_of(quad[kRead], z);
    store4(o[0], quad.part, z);
  });
}

void k_curve(const Curve& curve, const float* x, std::size_t n, float* out) {
  const float* const ins[] = {x};
  float* const outs[] = {out};
  for_quads<1, 1>(Draws(0), {0, 0, n}, ins, outs, [&](const Quad& quad, const float* const* i, float* const* o) {
    F v[4];
    F l[4];
    F y[4];
    load4(i[0], quad.part, v);
    log2_floor(v, l);
    evaluate(curve, v, l, y);
    store4(o[0], quad.part, y);
  });
}

void k_program(const Device& d, Cells cells, std::uint32_t event, const float* x, float* out) {
  Draws draws(cells.key);
  const float* const ins[] = {x};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  add_program_draws(d, limits, event, draws);
  for_quads<1, 1>(draws, cells, ins, outs, [&](const Quad& quad, const float* const* i, float* const* o) {
    F v[4];
    F state[4];
    load4(i[0], quad.part, v);
    quad_program(d, limits, quad, v, state);
    store4(o[0], quad.part, state);
  });
}

void k_drift(const Device& d, const ReadTime& t, Cells cells, const float* programmed, float* out) {
  Draws draws(cells.key);
  const float* const ins[] = {programmed};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  add_drift_draws(d, t, limits, draws);
  for_quads<1, 1>(draws, cells, ins, outs, [&](const Quad& quad, const float* const* i, float* const* o) {
    F p[4];
    F u[4];
    F l[4];
    F state[4];
    load4(i[0], quad.part, p);
    ageing_argument(d, p, u, l);
    quad_drift(d, t, limits, quad, p, u, l, state);
    store4(o[0], quad.part, state);
  });
}

void k_relax(const Device& d, const ReadTime& t, Cells cells, const float* programmed, const float* state, float* out) {
  Draws draws(cells.key);
  const float* const ins[] = {programmed, state};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  add_relax_draws(d, t, limits, draws);
  for_quads<2, 1>(draws, cells, ins, outs, [&](const Quad& quad, const float* const* i, float* const* o) {
    F p[4];
    F u[4];
    F l[4];
    F s[4];
    load4(i[0], quad.part, p);
    load4(i[1], quad.part, s);
    ageing_argument(d, p, u, l);
    quad_relax(d, t, limits, quad, u, l, s);
    store4(o[0], quad.part, s);
  });
}

void k_read(const Device& d, const ReadTime& t, Cells cells, Draw draw, const float* programmed, const float* state,
            float* out) {
  Draws draws(cells.key);
  draws.add(reads_noise(d, t), kRead, draw);
  const float* const ins[] = {programmed, state};
  float* const outs[] = {out};
  for_quads<2, 1>(draws, cells, ins, outs, [&](const Quad& quad, const float* const* i, float* const* o) {
    F p[4];
    F u[4];
    F l[4];
    F s[4];
    load4(i[0], quad.part, p);
    load4(i[1], quad.part, s);
    ageing_argument(d, p, u, l);
    quad_read(d, t, quad, u, l, s);
    store4(o[0], quad.part, s);
  });
}

void k_faults(const Device& d, Cells cells, std::uint8_t* out) {
  const Keys keys = schedule(cells.key);
  const FaultLimits limits = fault_limits(d);
  const std::uint64_t end = cells.first + cells.n;
  for (std::uint64_t group = cells.first / kGroup; group * kGroup < end; ++group) {
    float code[kGroup];
    for (int part = 0; part < kParts; ++part) {
      U w[1][4];
      quad_words<1>(keys, kFaultDraw, group * kParts + static_cast<std::uint64_t>(part), w);
      F value[4];
      quad_fault_codes(limits, w[0], value);
      store4(code, part, value);
    }
    for (std::uint64_t i = 0; i < kGroup; ++i) {
      const std::uint64_t cell = group * kGroup + i;
      if (cell >= cells.first && cell < end) out[cell - cells.first] = static_cast<std::uint8_t>(code[i]);
    }
  }
}

void k_age_and_read(const Device& d, const ReadTime& t, Cells cells, Draw draw, const float* programmed, float* out) {
  Draws draws(cells.key);
  const float* const ins[] = {programmed};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  add_ageing_draws(d, t, limits, draw, draws);
  for_quads<1, 1>(draws, cells, ins, outs, [&](const Quad& quad, const float* const* i, float* const* o) {
    F p[4];
    F state[4];
    load4(i[0], quad.part, p);
    quad_age_and_read(d, t, limits, quad, p, state);
    store4(o[0], quad.part, state);
  });
}

void k_program_age_read(const Device& d, const ReadTime& t, Cells cells, std::uint32_t write_event, Draw draw,
                        const float* x, float* out) {
  Draws draws(cells.key);
  const float* const ins[] = {x};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  add_program_draws(d, limits, write_event, draws);
  add_ageing_draws(d, t, limits, draw, draws);
  for_quads<1, 1>(draws, cells, ins, outs, [&](const Quad& quad, const float* const* i, float* const* o) {
    F v[4];
    F p[4];
    F state[4];
    load4(i[0], quad.part, v);
    quad_program(d, limits, quad, v, p);
    quad_age_and_read(d, t, limits, quad, p, state);
    store4(o[0], quad.part, state);
  });
}

}  // namespace

#include "kernels/ldpc-inl.hpp"
#include "kernels/levels-inl.hpp"
#include "kernels/maps-inl.hpp"
#include "kernels/trellis-inl.hpp"
#include "kernels/verify-inl.hpp"
#include "kernels/windows-inl.hpp"

namespace memristore {
const KernelTable& MEMRISTORE_TABLE();
const KernelTable& MEMRISTORE_TABLE() {
  static constexpr KernelTable table = {
      MEMRISTORE_LEVEL, k_philox,       k_normals,     k_curve,     k_program,      k_program_and_verify,
      k_drift,          k_relax,        k_read,        k_faults,    k_age_and_read, k_program_age_read,
      k_affine,         k_lookup,       k_split_sign,  k_join_sign, k_differential, k_partition,
      k_merge,          k_level_errors, k_ldpc_decode, k_trellis,   k_best_window,  k_extremes,
      k_shape_masses,
  };
  return table;
}
}  // namespace memristore
