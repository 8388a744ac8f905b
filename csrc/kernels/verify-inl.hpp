// Program-and-verify: each pulse moves a cell by a random share of its remaining error until a noisy read accepts it.
namespace {

struct VerifyLoop {
  const Device& device;
  const Pulse& pulse;
  std::uint64_t key;
  std::uint32_t event;
};

// One vector of cells from `cell` on. Lanes that are accepted keep their state; counts are kept as floats (exact).
inline void verify_vector(const VerifyLoop& loop, std::uint64_t cell, F target, F nu, M stuck, F& state, F& pulses,
                          F& failed) {
  const Pulse& p = loop.pulse;
  const U low = setu(static_cast<std::uint32_t>(cell)) + iota();
  const U high = setu(static_cast<std::uint32_t>(cell >> 32));
  const F one = set(1.0F);
  const F limit = set(static_cast<float>(p.max_pulses));
  M active = andnot(stuck, less_equal(set(0.0F), one));
  pulses = set(0.0F);
  F z[4];
  for (std::uint32_t k = 0; any(active); ++k) {
    if (k % 2 == 0) {
      U w[4];
      philox(low, high, setu(memristore::kPurposePulse), setu(loop.event * 256U + k / 2), loop.key, w);
      box_muller(w[0], w[1], z[0], z[1]);
      box_muller(w[2], w[3], z[2], z[3]);
    }
    const F zv = z[(k % 2) * 2];
    const F zp = z[(k % 2) * 2 + 1];
    const F seen = p.log2_delay > 0.0F ? drifted(loop.device, p.log2_delay, nu, state) : state;
    const F error = target - fma(set(p.verify_std), zv, seen);
    const F size = floats(bits(error) & setu(0x7FFFFFFFU));
    active = andnot(less_equal(size, set(p.band)), active);
    const M go = active & less(pulses, limit);
    failed = select(andnot(go, active), one, failed);
    active = go;
    const F move = set(p.step) * error;
    const F scaled = set(p.spread) * move;
    const F sigma = sqrt(fma(scaled, scaled, set(p.noise * p.noise)));
    F next = fma(sigma, zp, state + move);
    next = min(max(next, set(loop.device.clip_lo)), set(loop.device.clip_hi));
    state = select(go, next, state);
    pulses = select(go, pulses + one, pulses);
  }
  pulses = select(stuck, limit, pulses);
  failed = select(stuck, one, failed);
}

void k_program_and_verify(const Device& d, const Pulse& pulse, Cells cells, std::uint32_t event, const float* x,
                          float* out, std::uint16_t* pulses, std::uint8_t* failed) {
  const FaultLimits limits = fault_limits(d);
  const VerifyLoop loop = {d, pulse, cells.key, event};
  const std::uint64_t end = cells.first + cells.n;
  for (std::uint64_t group = cells.first / kGroup; group * kGroup < end; ++group) {
    float targets[kGroup];
    float states[kGroup];
    float counts[kGroup];
    float fails[kGroup];
    const std::uint64_t start = group * kGroup;
    for (std::uint64_t i = 0; i < kGroup; ++i) {
      // Lanes outside the range repeat a target of the range, so that they finish as soon as it does.
      const std::uint64_t c = start + i < cells.first ? cells.first : (start + i < end ? start + i : end - 1);
      targets[i] = x[c - cells.first];
    }
    for (int part = 0; part < kParts; ++part) {
      F v[4];
      F l[4];
      F target[4];
      F u[4];
      F nu[4];
      M low[4];
      M high[4];
      load4(targets, part, v);
      log2_floor(v, l);
      evaluate(d.response, v, l, target);
      for (int w = 0; w < 4; ++w) nu[w] = set(0.0F);
      if (pulse.log2_delay > 0.0F) {
        ageing_argument(d, target, u, l);
        drift_exponent(d, cells.key, group, part, u, l, nu);
      }
      quad_faults(limits, cells.key, group, part, low, high);
      for (int w = 0; w < 4; ++w) {
        F state = select(low[w], set(d.stuck_lo), select(high[w], set(d.stuck_hi), set(pulse.start)));
        F count = set(0.0F);
        F fail = set(0.0F);
        verify_vector(loop, start + offset(part, w), target[w], nu[w], low[w] | high[w], state, count, fail);
        store(states + offset(part, w), state);
        store(counts + offset(part, w), count);
        store(fails + offset(part, w), fail);
      }
    }
    for (std::uint64_t i = 0; i < kGroup; ++i) {
      if (start + i < cells.first || start + i >= end) continue;
      out[start + i - cells.first] = states[i];
      pulses[start + i - cells.first] = static_cast<std::uint16_t>(counts[i]);
      failed[start + i - cells.first] = static_cast<std::uint8_t>(fails[i]);
    }
  }
}

}  // namespace
