// The kernel bodies, compiled once per instruction set: include exactly one simd_*.hpp first, then this file.
// Everything here has internal linkage, so no copy compiled for one level can be linked into another.
#ifndef MEMRISTORE_LEVEL
#error "define MEMRISTORE_LEVEL (the level's name) before including kernels-inl.hpp"
#endif
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
inline void quad_faults(const FaultLimits& limits, const Keys& keys, std::uint64_t group, int part, M low[4],
                        M high[4]) {
  U w[4];
  quad_words(keys, {memristore::kPurposeFault, 0}, group, part, w);
  for (int i = 0; i < 4; ++i) {
    low[i] = less_u(w[i], setu(limits.low));
    high[i] = andnot(low[i], less_u(w[i], setu(limits.both)));
  }
}

inline bool present(const Curve& c) { return c.form != memristore::kZero; }

inline void clip4(const Device& d, F x[4]) {
  for (int w = 0; w < 4; ++w) x[w] = min(max(x[w], set(d.clip_lo)), set(d.clip_hi));
}

inline void add_noise(const Curve& curve, const F x[4], const F l[4], const Keys& keys, Draw draw, std::uint64_t group,
                      int part, F state[4]) {
  if (!present(curve)) return;
  F z[4];
  F s[4];
  quad_normals(keys, draw, group, part, z);
  evaluate(curve, x, l, s);
  for (int w = 0; w < 4; ++w) state[w] = fma(s[w], z[w], state[w]);
}

inline void quad_program(const Device& d, const FaultLimits& limits, const Keys& keys, std::uint32_t event,
                         std::uint64_t group, int part, const F x[4], F state[4]) {
  F l[4] = {x[0], x[1], x[2], x[3]};
  if (needs_log(d.response) || needs_log(d.write_std) || needs_log(d.cell_std)) log2_floor(x, l);
  evaluate(d.response, x, l, state);
  add_noise(d.cell_std, x, l, keys, {memristore::kPurposeCell, 0}, group, part, state);
  add_noise(d.write_std, x, l, keys, {memristore::kPurposeWrite, event}, group, part, state);
  clip4(d, state);
  if (limits.possible) {
    M low[4];
    M high[4];
    quad_faults(limits, keys, group, part, low, high);
    for (int w = 0; w < 4; ++w) state[w] = select(low[w], set(d.stuck_lo), select(high[w], set(d.stuck_hi), state[w]));
  }
}

// Argument of the ageing curves, always from the programmed state, and its logarithm where a curve wants it.
inline void ageing_argument(const Device& d, const F programmed[4], F u[4], F l[4]) {
  for (int w = 0; w < 4; ++w) u[w] = max((programmed[w] - set(d.state_lo)) * set(d.inv_range), set(0.0F));
  if (needs_log(d.drift_mean) || needs_log(d.drift_std) || needs_log(d.relax_std) || needs_log(d.read_std))
    log2_floor(u, l);
  else
    for (int w = 0; w < 4; ++w) l[w] = u[w];
}

inline void drift_exponent(const Device& d, const Keys& keys, std::uint64_t group, int part, const F u[4], const F l[4],
                           F nu[4]) {
  evaluate(d.drift_mean, u, l, nu);
  add_noise(d.drift_std, u, l, keys, {memristore::kPurposeDrift, 0}, group, part, nu);
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
  return t.relax_mean != 0.0F || (t.relax_scale != 0.0F && present(d.relax_std));
}

// out keeps the programmed state where the cell is stuck.
inline void hold_stuck(const FaultLimits& limits, const Keys& keys, std::uint64_t group, int part,
                       const F programmed[4], F out[4]) {
  if (!limits.possible) return;
  M low[4];
  M high[4];
  quad_faults(limits, keys, group, part, low, high);
  for (int w = 0; w < 4; ++w) out[w] = select(low[w] | high[w], programmed[w], out[w]);
}

inline void quad_drift(const Device& d, const ReadTime& t, const FaultLimits& limits, const Keys& keys,
                       std::uint64_t group, int part, const F programmed[4], const F u[4], const F l[4], F state[4]) {
  for (int w = 0; w < 4; ++w) state[w] = programmed[w];
  if (!drifts(d, t)) return;
  F nu[4];
  drift_exponent(d, keys, group, part, u, l, nu);
  for (int w = 0; w < 4; ++w) state[w] = drifted(d, t.log2_age, nu[w], state[w]);
  hold_stuck(limits, keys, group, part, programmed, state);
}

inline void quad_relax(const Device& d, const ReadTime& t, const FaultLimits& limits, const Keys& keys,
                       std::uint64_t group, int part, const F u[4], const F l[4], F state[4]) {
  if (!relaxes(d, t)) return;
  F before[4];
  F z[4];
  F s[4];
  evaluate(d.relax_std, u, l, s);
  quad_normals(keys, {memristore::kPurposeRelax, 0}, group, part, z);
  for (int w = 0; w < 4; ++w) {
    before[w] = state[w];
    state[w] = fma(s[w] * set(t.relax_scale), z[w], state[w] + set(t.relax_mean));
  }
  if (d.domain == memristore::kConductance) clip4(d, state);
  hold_stuck(limits, keys, group, part, before, state);
}

inline void quad_read(const Device& d, const ReadTime& t, const Keys& keys, Draw draw, std::uint64_t group, int part,
                      const F u[4], const F l[4], F state[4]) {
  if (present(d.read_std) && t.read_scale != 0.0F) {
    F z[4];
    F s[4];
    quad_normals(keys, draw, group, part, z);
    evaluate(d.read_std, u, l, s);
    for (int w = 0; w < 4; ++w) {
      F spread = s[w] * set(t.read_scale);
      if (d.read_relative != 0) spread = spread * state[w];
      state[w] = fma(spread, z[w], state[w]);
    }
  }
  clip4(d, state);
}

inline void quad_age_and_read(const Device& d, const ReadTime& t, const FaultLimits& limits, const Keys& keys,
                              Draw draw, std::uint64_t group, int part, const F programmed[4], F state[4]) {
  F u[4];
  F l[4];
  ageing_argument(d, programmed, u, l);
  quad_drift(d, t, limits, keys, group, part, programmed, u, l, state);
  quad_relax(d, t, limits, keys, group, part, u, l, state);
  quad_read(d, t, keys, draw, group, part, u, l, state);
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
    U w[4] = {low, select(carried, setu(high + 1U), setu(high)), setu(draw.purpose), setu(draw.event)};
    philox_rounds(keys, 0, w);
    for (int k = 0; k < 4; ++k) storeu(buffer[k], w[k]);
    const std::size_t n = blocks - b < kLanes ? blocks - b : static_cast<std::size_t>(kLanes);
    for (std::size_t i = 0; i < n; ++i)
      for (int k = 0; k < 4; ++k) out[4 * (b + i) + static_cast<std::size_t>(k)] = buffer[k][i];
  }
}

void k_normals(Cells cells, Draw draw, float* out) {
  const Keys keys = schedule(cells.key);
  float* const outs[] = {out};
  for_quads<0, 1>(cells, nullptr, outs, [=](std::uint64_t g, int part, const float* const*, float* const* o) {
    F z[4];
    quad_normals(keys, draw, g, part, z);
    store4(o[0], part, z);
  });
}

void k_curve(const Curve& curve, const float* x, std::size_t n, float* out) {
  const float* const ins[] = {x};
  float* const outs[] = {out};
  for_quads<1, 1>({0, 0, n}, ins, outs, [&](std::uint64_t, int part, const float* const* i, float* const* o) {
    F v[4];
    F l[4];
    F y[4];
    load4(i[0], part, v);
    log2_floor(v, l);
    evaluate(curve, v, l, y);
    store4(o[0], part, y);
  });
}

void k_program(const Device& d, Cells cells, std::uint32_t event, const float* x, float* out) {
  const Keys keys = schedule(cells.key);
  const float* const ins[] = {x};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  for_quads<1, 1>(cells, ins, outs, [&](std::uint64_t g, int part, const float* const* i, float* const* o) {
    F v[4];
    F state[4];
    load4(i[0], part, v);
    quad_program(d, limits, keys, event, g, part, v, state);
    store4(o[0], part, state);
  });
}

void k_drift(const Device& d, const ReadTime& t, Cells cells, const float* programmed, float* out) {
  const Keys keys = schedule(cells.key);
  const float* const ins[] = {programmed};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  for_quads<1, 1>(cells, ins, outs, [&](std::uint64_t g, int part, const float* const* i, float* const* o) {
    F p[4];
    F u[4];
    F l[4];
    F state[4];
    load4(i[0], part, p);
    ageing_argument(d, p, u, l);
    quad_drift(d, t, limits, keys, g, part, p, u, l, state);
    store4(o[0], part, state);
  });
}

void k_relax(const Device& d, const ReadTime& t, Cells cells, const float* programmed, const float* state, float* out) {
  const Keys keys = schedule(cells.key);
  const float* const ins[] = {programmed, state};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  for_quads<2, 1>(cells, ins, outs, [&](std::uint64_t g, int part, const float* const* i, float* const* o) {
    F p[4];
    F u[4];
    F l[4];
    F s[4];
    load4(i[0], part, p);
    load4(i[1], part, s);
    ageing_argument(d, p, u, l);
    quad_relax(d, t, limits, keys, g, part, u, l, s);
    store4(o[0], part, s);
  });
}

void k_read(const Device& d, const ReadTime& t, Cells cells, Draw draw, const float* programmed, const float* state,
            float* out) {
  const Keys keys = schedule(cells.key);
  const float* const ins[] = {programmed, state};
  float* const outs[] = {out};
  for_quads<2, 1>(cells, ins, outs, [&](std::uint64_t g, int part, const float* const* i, float* const* o) {
    F p[4];
    F u[4];
    F l[4];
    F s[4];
    load4(i[0], part, p);
    load4(i[1], part, s);
    ageing_argument(d, p, u, l);
    quad_read(d, t, keys, draw, g, part, u, l, s);
    store4(o[0], part, s);
  });
}

void k_faults(const Device& d, Cells cells, std::uint8_t* out) {
  const Keys keys = schedule(cells.key);
  const FaultLimits limits = fault_limits(d);
  const std::uint64_t end = cells.first + cells.n;
  for (std::uint64_t group = cells.first / kGroup; group * kGroup < end; ++group) {
    float code[kGroup];
    for (int part = 0; part < kParts; ++part) {
      M low[4];
      M high[4];
      F value[4];
      quad_faults(limits, keys, group, part, low, high);
      for (int w = 0; w < 4; ++w) value[w] = select(low[w], set(1.0F), select(high[w], set(2.0F), set(0.0F)));
      store4(code, part, value);
    }
    for (std::uint64_t i = 0; i < kGroup; ++i) {
      const std::uint64_t cell = group * kGroup + i;
      if (cell >= cells.first && cell < end) out[cell - cells.first] = static_cast<std::uint8_t>(code[i]);
    }
  }
}

void k_age_and_read(const Device& d, const ReadTime& t, Cells cells, Draw draw, const float* programmed, float* out) {
  const Keys keys = schedule(cells.key);
  const float* const ins[] = {programmed};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  for_quads<1, 1>(cells, ins, outs, [&](std::uint64_t g, int part, const float* const* i, float* const* o) {
    F p[4];
    F state[4];
    load4(i[0], part, p);
    quad_age_and_read(d, t, limits, keys, draw, g, part, p, state);
    store4(o[0], part, state);
  });
}

void k_program_age_read(const Device& d, const ReadTime& t, Cells cells, std::uint32_t write_event, Draw draw,
                        const float* x, float* out) {
  const Keys keys = schedule(cells.key);
  const float* const ins[] = {x};
  float* const outs[] = {out};
  const FaultLimits limits = fault_limits(d);
  for_quads<1, 1>(cells, ins, outs, [&](std::uint64_t g, int part, const float* const* i, float* const* o) {
    F v[4];
    F p[4];
    F state[4];
    load4(i[0], part, v);
    quad_program(d, limits, keys, write_event, g, part, v, p);
    quad_age_and_read(d, t, limits, keys, draw, g, part, p, state);
    store4(o[0], part, state);
  });
}

}  // namespace

#include "kernels/levels-inl.hpp"
#include "kernels/maps-inl.hpp"
#include "kernels/verify-inl.hpp"

namespace memristore {
const KernelTable& MEMRISTORE_TABLE();
const KernelTable& MEMRISTORE_TABLE() {
  static constexpr KernelTable table = {
      MEMRISTORE_LEVEL, k_philox,      k_normals,    k_curve,        k_program,      k_program_and_verify,
      k_drift,          k_relax,       k_read,       k_faults,       k_age_and_read, k_program_age_read,
      k_affine,         k_lookup,      k_split_sign, k_join_sign,    k_differential, k_partition,
      k_merge,          k_expand_bits, k_pack_bits,  k_level_errors,
  };
  return table;
}
}  // namespace memristore
