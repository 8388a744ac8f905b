// Program-and-verify: each pulse moves a cell by a random share of its remaining error until a noisy read accepts it.
//
// Cells that are done leave: the survivors of each pair of verify steps are packed together, so that vector lanes stay
// full although cells need different numbers of pulses. A cell's draws are named by the cell and the step, so its place in
// a vector is of no consequence.
namespace {

constexpr std::size_t kVerifyChunk = 1024;

// Cells still being programmed, and cells done with but not yet written out.
struct VerifyLists {
  std::uint32_t cell[kVerifyChunk + kLanes];  // position in the chunk
  float target[kVerifyChunk + kLanes];
  float state[kVerifyChunk + kLanes];
  float nu[kVerifyChunk + kLanes];
  std::uint32_t done_cell[kVerifyChunk + kLanes];
  float done_state[kVerifyChunk + kLanes];
};

struct VerifyLoop {
  const Device& device;
  const Pulse& pulse;
  Keys keys;
  std::uint32_t event;
  std::uint64_t start;  // first cell of the chunk, a multiple of kVerifyChunk
  bool delayed;
};

// One verify step of a vector; returns the lanes accepted. `active` lanes that are not accepted are pulsed if `go`.
inline M verify_step(const VerifyLoop& loop, M active, bool go, F target, F nu, F zv, F zp, F& state) {
  const Pulse& p = loop.pulse;
  const F seen = loop.delayed ? drifted(loop.device, p.log2_delay, nu, state) : state;
  const F error = target - fma(set(p.verify_std), zv, seen);
  const F size = floats(bits(error) & setu(0x7FFFFFFFU));
  const M accepted = active & less_equal(size, set(p.band));
  if (go) {
    const F move = set(p.step) * error;
    const F scaled = set(p.spread) * move;
    const F sigma = sqrt(fma(scaled, scaled, set(p.noise * p.noise)));
    const F next = fma(sigma, zp, state + move);
    const F clipped = min(max(next, set(loop.device.clip_lo)), set(loop.device.clip_hi));
    state = select(accepted, state, clipped);
  }
  return accepted;
}

struct VerifyOut {
  float* state;
  std::uint16_t* pulses;
  std::uint8_t* failed;
};

// Writes the done list: all of it took `pulses` pulses.
inline void verify_flush(const VerifyLists& lists, std::size_t n, std::uint32_t pulses, bool failed, VerifyOut out) {
  for (std::size_t i = 0; i < n; ++i) {
    out.state[lists.done_cell[i]] = lists.done_state[i];
    out.pulses[lists.done_cell[i]] = static_cast<std::uint16_t>(pulses);
    out.failed[lists.done_cell[i]] = failed ? 1 : 0;
  }
}

// Verify steps 2j and 2j + 1 of all active cells; returns how many remain.
inline std::size_t verify_pair(const VerifyLoop& loop, VerifyLists& lists, std::size_t n, std::uint32_t j,
                               VerifyOut out) {
  const std::uint32_t last = loop.pulse.max_pulses;
  const auto low = static_cast<std::uint32_t>(loop.start);
  const auto high = static_cast<std::uint32_t>(loop.start >> 32);
  std::size_t kept = 0;
  std::size_t first_done = 0;
  std::uint32_t second_cell[kVerifyChunk + kLanes];
  float second_state[kVerifyChunk + kLanes];
  std::size_t second_done = 0;
  for (std::size_t i = 0; i < n; i += kLanes) {
    const U cell = loadu(lists.cell + i);
    const F target = load(lists.target + i);
    const F nu = loop.delayed ? load(lists.nu + i) : set(0.0F);
    F state = load(lists.state + i);
    const M active = less_u(iota(), setu(static_cast<std::uint32_t>(n - i)));
    U w[4];
    F z[4];
    philox(loop.keys, cell + setu(low), high, {memristore::kPurposePulse, loop.event * 256U + j}, w);
    box_muller(w[0], w[1], z[0], z[1]);
    box_muller(w[2], w[3], z[2], z[3]);
    const F before = state;
    const M first = verify_step(loop, active, 2 * j < last, target, nu, z[0], z[1], state);
    compress(lists.done_state + first_done, first, before);
    first_done += compress(lists.done_cell + first_done, first, cell);
    const M left = andnot(first, active);
    // Failed at step 2j: no pulse is left, and the second step does not take place. Such cells stay where they are and are
    // written out below.
    const F middle = state;
    const M second =
        2 * j < last ? verify_step(loop, left, 2 * j + 1 < last, target, nu, z[2], z[3], state) : andnot(left, left);
    compress(second_state + second_done, second, middle);
    second_done += compress(second_cell + second_done, second, cell);
    const M stay = andnot(second, left);
    // Lists shrink in place: what is written lies at or before what was read.
    compress(lists.target + kept, stay, target);
    compress(lists.state + kept, stay, state);
    if (loop.delayed) compress(lists.nu + kept, stay, nu);
    kept += compress(lists.cell + kept, stay, cell);
  }
  verify_flush(lists, first_done, 2 * j, false, out);
  for (std::size_t i = 0; i < second_done; ++i) {
    lists.done_cell[i] = second_cell[i];
    lists.done_state[i] = second_state[i];
  }
  verify_flush(lists, second_done, 2 * j + 1, false, out);
  return kept;
}

// Target states, drift exponents and faults (0, 1 stuck low, 2 stuck high) of a group.
inline void verify_targets(const VerifyLoop& loop, const FaultLimits& limits, std::uint64_t group, const float* x,
                           float* targets, float* exponents, float* stuck) {
  const Device& d = loop.device;
  for (int part = 0; part < kParts; ++part) {
    F v[4];
    F l[4];
    F target[4];
    F nu[4] = {set(0.0F), set(0.0F), set(0.0F), set(0.0F)};
    load4(x, part, v);
    log2_floor(v, l);
    evaluate(d.response, v, l, target);
    if (loop.delayed) {
      F u[4];
      ageing_argument(d, target, u, l);
      drift_exponent(d, loop.keys, group, part, u, l, nu);
    }
    store4(targets, part, target);
    store4(exponents, part, nu);
    if (!limits.possible) continue;
    M low[4];
    M high[4];
    F fault[4];
    quad_faults(limits, loop.keys, group, part, low, high);
    for (int w = 0; w < 4; ++w) fault[w] = select(low[w], set(1.0F), select(high[w], set(2.0F), set(0.0F)));
    store4(stuck, part, fault);
  }
}

// Fills the lists with the cells of a chunk; stuck cells are done at once. Returns how many are active.
inline std::size_t verify_begin(const VerifyLoop& loop, const FaultLimits& limits, const float* x, std::size_t from,
                                std::size_t to, VerifyLists& lists, VerifyOut out) {
  const Device& d = loop.device;
  std::size_t n = 0;
  for (std::size_t g = from / kGroup * kGroup; g < to; g += kGroup) {
    const std::uint64_t group = (loop.start + g) / kGroup;
    float inputs[kGroup] = {};
    float targets[kGroup];
    float exponents[kGroup];
    float stuck[kGroup] = {};
    const std::size_t lo = g < from ? from : g;
    const std::size_t hi = g + kGroup < to ? g + kGroup : to;
    for (std::size_t i = lo; i < hi; ++i) inputs[i - g] = x[i];
    const bool whole = hi - lo == kGroup && !limits.possible;
    verify_targets(loop, limits, group, inputs, whole ? lists.target + n : targets, whole ? lists.nu + n : exponents,
                   stuck);
    if (whole) {
      for (std::size_t i = 0; i < kGroup; i += kLanes) {
        storeu(lists.cell + n + i, iota() + setu(static_cast<std::uint32_t>(g + i)));
        store(lists.state + n + i, set(loop.pulse.start));
      }
      n += kGroup;
      continue;
    }
    for (std::size_t i = lo; i < hi; ++i) {
      if (stuck[i - g] != 0.0F) {
        out.state[i] = stuck[i - g] == 1.0F ? d.stuck_lo : d.stuck_hi;
        out.pulses[i] = static_cast<std::uint16_t>(loop.pulse.max_pulses);
        out.failed[i] = 1;
        continue;
      }
      lists.cell[n] = static_cast<std::uint32_t>(i);
      lists.target[n] = targets[i - g];
      lists.state[n] = loop.pulse.start;
      lists.nu[n] = exponents[i - g];
      ++n;
    }
  }
  return n;
}

void k_program_and_verify(const Device& d, const Pulse& pulse, Cells cells, std::uint32_t event, const float* x,
                          float* out, std::uint16_t* pulses, std::uint8_t* failed) {
  const FaultLimits limits = fault_limits(d);
  VerifyLists lists;
  const std::uint64_t end = cells.first + cells.n;
  for (std::uint64_t start = cells.first / kVerifyChunk * kVerifyChunk; start < end; start += kVerifyChunk) {
    const std::size_t from = start < cells.first ? cells.first - start : 0;
    const std::size_t to = end - start < kVerifyChunk ? end - start : kVerifyChunk;
    // Positions count from the chunk's start, which may lie before the range; only positions in it are touched.
    const std::ptrdiff_t shift = static_cast<std::ptrdiff_t>(start) - static_cast<std::ptrdiff_t>(cells.first);
    const VerifyOut here = {out + shift, pulses + shift, failed + shift};
    const VerifyLoop loop = {d, pulse, schedule(cells.key), event, start, pulse.log2_delay > 0.0F};
    std::size_t n = verify_begin(loop, limits, x + shift, from, to, lists, here);
    std::uint32_t j = 0;
    for (; n != 0 && 2 * j <= pulse.max_pulses; ++j) n = verify_pair(loop, lists, n, j, here);
    for (std::size_t i = 0; i < n; ++i) {
      here.state[lists.cell[i]] = lists.state[i];
      here.pulses[lists.cell[i]] = static_cast<std::uint16_t>(pulse.max_pulses);
      here.failed[lists.cell[i]] = 1;
    }
  }
}

}  // namespace
