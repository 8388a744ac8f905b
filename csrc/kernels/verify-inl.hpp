// Program-and-verify: each pulse moves a cell by a random share of its remaining error until a noisy read accepts it.
//
// Cells that are done leave: the survivors of each pair of verify steps are packed together, so that vector lanes stay
// full although cells need different numbers of pulses. A cell's draws are named by the cell and the step, so its place in
// a vector is of no consequence.
namespace {

constexpr std::size_t kVerifyChunk = 1024;

// Cells still being programmed, and cells accepted at the first and at the second of a pair of steps, not yet written out.
struct VerifyLists {
  std::uint32_t cell[kVerifyChunk + kLanes];  // position in the chunk
  float target[kVerifyChunk + kLanes];
  float state[kVerifyChunk + kLanes];
  float nu[kVerifyChunk + kLanes];
  std::uint32_t done_cell[kVerifyChunk + kLanes];
  float done_state[kVerifyChunk + kLanes];
  std::uint32_t second_cell[kVerifyChunk + kLanes];
  float second_state[kVerifyChunk + kLanes];
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

// Writes the cells of a list of accepted ones, all of which took `pulses` pulses.
inline void verify_flush(const std::uint32_t* cell, const float* state, std::size_t n, std::uint32_t pulses,
                         VerifyOut out) {
  for (std::size_t i = 0; i < n; ++i) {
    out.state[cell[i]] = state[i];
    out.pulses[cell[i]] = static_cast<std::uint16_t>(pulses);
    out.failed[cell[i]] = 0;
  }
}

// Where the lists of a pair of steps end: cells kept, done at the first step and done at the second.
struct VerifyEnds {
  std::size_t kept = 0;
  std::size_t first = 0;
  std::size_t second = 0;
};

// Verify steps 2j and 2j + 1 of the active cells from i in N vectors; the last vector may be partly filled.
template <int N>
inline void verify_vectors(const VerifyLoop& loop, VerifyLists& lists, std::size_t i, std::size_t n, std::uint32_t j,
                           VerifyEnds& ends) {
  const std::uint32_t last = loop.pulse.max_pulses;
  U cell[N];
  U low[N];
  U w[N][4];
  for (int v = 0; v < N; ++v) {
    cell[v] = loadu(lists.cell + i + static_cast<std::size_t>(v * kLanes));
    low[v] = cell[v] + setu(static_cast<std::uint32_t>(loop.start));
  }
  philox<N>(loop.keys, low, static_cast<std::uint32_t>(loop.start >> 32),
            {memristore::kPurposePulse, loop.event * 256U + j}, w);
  for (int v = 0; v < N; ++v, i += kLanes) {
    const F target = load(lists.target + i);
    const F nu = loop.delayed ? load(lists.nu + i) : set(0.0F);
    F state = load(lists.state + i);
    const M active = less_u(iota(), setu(static_cast<std::uint32_t>(n - i)));
    F z[4];
    normals_of(w[v], z);
    const F before = state;
    const M first = verify_step(loop, active, 2 * j < last, target, nu, z[0], z[1], state);
    compress(lists.done_state + ends.first, first, before);
    ends.first += compress(lists.done_cell + ends.first, first, cell[v]);
    const M left = andnot(first, active);
    // Failed at step 2j: no pulse is left, and the second step does not take place. Such cells stay where they are and are
    // written out at the end of the chunk.
    const F middle = state;
    const M second =
        2 * j < last ? verify_step(loop, left, 2 * j + 1 < last, target, nu, z[2], z[3], state) : andnot(left, left);
    compress(lists.second_state + ends.second, second, middle);
    ends.second += compress(lists.second_cell + ends.second, second, cell[v]);
    const M stay = andnot(second, left);
    // Lists shrink in place: what is written lies at or before what was read.
    compress(lists.target + ends.kept, stay, target);
    compress(lists.state + ends.kept, stay, state);
    if (loop.delayed) compress(lists.nu + ends.kept, stay, nu);
    ends.kept += compress(lists.cell + ends.kept, stay, cell[v]);
  }
}

// Verify steps 2j and 2j + 1 of all active cells; returns how many remain.
inline std::size_t verify_pair(const VerifyLoop& loop, VerifyLists& lists, std::size_t n, std::uint32_t j,
                               VerifyOut out) {
  constexpr std::size_t kWide = static_cast<std::size_t>(kSide * kLanes);
  VerifyEnds ends;
  std::size_t i = 0;
  for (; i + kWide <= n; i += kWide) verify_vectors<kSide>(loop, lists, i, n, j, ends);
  for (; i < n; i += kLanes) verify_vectors<1>(loop, lists, i, n, j, ends);
  verify_flush(lists.done_cell, lists.done_state, ends.first, 2 * j, out);
  verify_flush(lists.second_cell, lists.second_state, ends.second, 2 * j + 1, out);
  return ends.kept;
}

// Target states, drift exponents and faults (0, 1 stuck low, 2 stuck high) of a group.
inline void verify_targets(const VerifyLoop& loop, const FaultLimits& limits, std::uint64_t group, const float* x,
                           float* targets, float* exponents, float* stuck) {
  const Device& d = loop.device;
  for (int part = 0; part < kParts; ++part) {
    const std::uint64_t quad = group * kParts + static_cast<std::uint64_t>(part);
    U w[1][4];
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
      quad_words<1>(loop.keys, kDriftDraw, quad, w);
      drift_exponent(d, w[0], u, l, nu);
    }
    store4(targets, part, target);
    store4(exponents, part, nu);
    if (!limits.possible) continue;
    F fault[4];
    quad_words<1>(loop.keys, kFaultDraw, quad, w);
    quad_fault_codes(limits, w[0], fault);
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
