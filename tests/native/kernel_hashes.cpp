// Runs every kernel of every level on fixed inputs and prints "level kernel hash" lines, the hash being FNV-1a 64 over
// the bytes of all outputs. Needs neither Python nor an input, so that it runs under an emulator too: whatever the
// level and the machine, a kernel must give one hash.
#include <cstdio>

#include "fixed_inputs.hpp"
#include "ldpc_hash.hpp"
#include "levels_hash.hpp"
#include "memristore/trellis.hpp"
#include "mixing_hash.hpp"
#include "window_hashes.hpp"

namespace {

static_assert(sizeof(KernelTable) == sizeof(const char*) + 24 * sizeof(void (*)()),
              "the kernel table has changed: give each new kernel a function below");

// Calls body(setting, cells, hash) for every setting and span.
template <class Body>
Hash over_cells(Body body) {
  Hash hash;
  for (const Setting& s : kSettings)
    for (const Cells& cells : kSpans) body(s, cells, hash);
  return hash;
}
Array<float> states(const Setting& s, const Cells& cells, std::uint64_t salt) {
  return samples(salt, cells.n, s.device.clip_lo, s.device.clip_hi);
}

Hash philox(const KernelTable& k) {
  Hash hash;
  for (std::uint64_t first : {std::uint64_t{0}, (std::uint64_t{1} << 32) - 5, ~std::uint64_t{0} - 40})
    for (std::size_t blocks : {std::size_t{1}, std::size_t{13}, std::size_t{35}}) {
      Array<std::uint32_t> out(4 * blocks);
      k.philox(kKey, {kPurposeUser, 0xFFFFFFFFU}, first, blocks, out.data());
      out.into(hash);
    }
  return hash;
}
Hash normals(const KernelTable& k) {
  Hash hash;
  for (const Cells& cells : kSpans)
    for (std::uint32_t purpose : {kPurposeWrite, kPurposeUser}) {
      Array<float> out(cells.n);
      k.normals(cells, {purpose, kEvent}, out.data());
      out.into(hash);
    }
  // Enough of them for the tails.
  Array<float> many(200'003);
  k.normals({kKey, 77, many.size()}, {kPurposeUser, 1}, many.data());
  many.into(hash);
  return hash;
}
Hash curves(const KernelTable& k) {
  Hash hash;
  const Curve forms[] = {Curve{},
                         curve(kPoly, {0.3F}, -1.0F, 1.0F),
                         curve(kPoly, {0.1F, -0.2F, 0.3F, 0.4F, -0.5F, 0.6F, 0.7F, -0.8F}, -0.1F, 0.9F),
                         curve(kPolyLog, {0.5F, 0.25F, -0.125F}, -40.0F, 0.5F),
                         curve(kExpLog, {-1.0F, 0.7F, 0.03F}, 0.0F, 3.0F),
                         curve(kExpLog, {300.0F, 40.0F}, 0.0F, 1e38F),
                         table(2, -1.0F, 1.0F),
                         table(17, 0.0F, 2.0F),
                         table(64, 3.0F, 9.0F)};
  for (const Curve& c : forms)
    for (std::size_t n : {std::size_t{1}, std::size_t{64}, std::size_t{2999}}) {
      Array<float> x = samples(11, n, -0.05F, 1.05F);
      Array<float> out(n);
      k.curve(c, x.data(), n, out.data());
      out.into(hash);
    }
  return hash;
}
Hash program(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    Array<float> x = samples(1, cells.n, -0.05F, 1.05F);
    Array<float> out(cells.n);
    k.program(s.device, cells, kEvent, x.data(), out.data());
    out.into(hash);
  });
}
Hash program_and_verify(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    const float scale = s.device.clip_hi - s.device.clip_lo;
    for (std::uint32_t most : {0U, 1U, 6U, 25U}) {
      Pulse p{s.device.clip_lo, 0.6F, 0.3F, 0.004F * scale, 0.006F * scale, 0.012F * scale, 0.0F, most};
      if (most != 25) p.log2_delay = 2.5F;
      Array<float> x = samples(2, cells.n, -0.05F, 1.05F);
      Array<float> out(cells.n);
      Array<std::uint16_t> pulses(cells.n);
      Array<std::uint8_t> failed(cells.n);
      k.program_and_verify(s.device, p, cells, kEvent, x.data(), out.data(), pulses.data(), failed.data());
      out.into(hash);
      pulses.into(hash);
      failed.into(hash);
    }
  });
}
Hash drift(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    Array<float> programmed = states(s, cells, 3);
    Array<float> out(cells.n);
    k.drift(s.device, s.time, cells, programmed.data(), out.data());
    out.into(hash);
  });
}
Hash relax(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    Array<float> programmed = states(s, cells, 3);
    Array<float> state = states(s, cells, 4);
    Array<float> out(cells.n);
    k.relax(s.device, s.time, cells, programmed.data(), state.data(), out.data());
    out.into(hash);
  });
}
Hash read(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    Array<float> programmed = states(s, cells, 3);
    Array<float> state = states(s, cells, 4);
    Array<float> out(cells.n);
    k.read(s.device, s.time, cells, kRead, programmed.data(), state.data(), out.data());
    out.into(hash);
  });
}
Hash faults(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    Array<std::uint8_t> out(cells.n);
    k.faults(s.device, cells, out.data());
    out.into(hash);
  });
}
Hash age_and_read(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    Array<float> programmed = states(s, cells, 5);
    Array<float> out(cells.n);
    k.age_and_read(s.device, s.time, cells, kRead, programmed.data(), out.data());
    out.into(hash);
  });
}
Hash program_age_read(const KernelTable& k) {
  return over_cells([&](const Setting& s, const Cells& cells, Hash& hash) {
    Array<float> x = samples(6, cells.n, -0.05F, 1.05F);
    Array<float> out(cells.n);
    k.program_age_read(s.device, s.time, cells, kEvent, kRead, x.data(), out.data());
    out.into(hash);
  });
}
constexpr std::size_t kCounts[] = {0, 1, 7, 8, 15, 16, 17, 63, 64, 1003};

Hash affine(const KernelTable& k) {
  Hash hash;
  for (std::size_t n : kCounts) {
    Array<float> x = samples(7, n, -2.0F, 2.0F);
    Array<float> out(n);
    k.affine(x.data(), n, 1.3F, -0.2F, -1.0F, 1.5F, out.data());
    out.into(hash);
  }
  return hash;
}
Hash lookup(const KernelTable& k) {
  Hash hash;
  for (std::size_t knots : {std::size_t{2}, std::size_t{64}, std::size_t{1001}}) {
    Array<float> knot = samples(8, knots, -1.0F, 1.0F);
    for (std::size_t i = 0; i < knots; ++i) knot[i] = knot[i] > -2.0F && knot[i] < 2.0F ? knot[i] : 0.5F;
    for (std::size_t n : kCounts)
      for (bool extrapolate : {false, true}) {
        Array<float> x = samples(9, n, -0.2F, 1.2F);
        // Beyond the last knot infinity times a step of zero would be an invalid operation: its sign is the machine's.
        for (std::size_t i = 0; i < n; ++i) x[i] = x[i] > -2.0F && x[i] < 2.0F ? x[i] : 0.75F;
        Array<float> out(n);
        const float inv_step = static_cast<float>(knots - 1);
        k.lookup(x.data(), n, knot.data(), knots, 0.0F, inv_step, extrapolate, out.data());
        out.into(hash);
      }
  }
  return hash;
}
Hash split_sign(const KernelTable& k) {
  Hash hash;
  for (std::size_t n : kCounts) {
    Array<float> x = samples(10, n, -1.0F, 1.0F);
    Array<float> magnitude(n);
    Array<std::uint8_t> signs((n + 7) / 8);
    k.split_sign(x.data(), n, magnitude.data(), signs.data());
    magnitude.into(hash);
    signs.into(hash);
  }
  return hash;
}
Hash join_sign(const KernelTable& k) {
  Hash hash;
  for (std::size_t n : kCounts) {
    Array<float> magnitude = samples(11, n, 0.0F, 1.0F);
    Array<std::uint8_t> signs = words<std::uint8_t>(12, (n + 7) / 8);
    Array<float> out(n);
    k.join_sign(magnitude.data(), signs.data(), n, out.data());
    out.into(hash);
  }
  return hash;
}
Hash differential(const KernelTable& k) {
  Hash hash;
  for (std::size_t n : kCounts) {
    Array<float> x = samples(13, n, -1.0F, 1.0F);
    Array<float> positive(n);
    Array<float> negative(n);
    k.differential(x.data(), n, positive.data(), negative.data());
    positive.into(hash);
    negative.into(hash);
  }
  return hash;
}
Hash partition(const KernelTable& k) {
  Hash hash;
  for (std::size_t n : kCounts)
    for (float threshold : {0.0F, 0.5F, 2.0F}) {
      Array<float> x = samples(19, n, -1.0F, 1.0F);
      Array<float> small(n);
      Array<float> large(n);
      Array<std::uint8_t> flags((n + 7) / 8);
      const std::size_t larges = k.partition(x.data(), n, threshold, small.data(), large.data(), flags.data());
      hash.add(small.data(), (n - larges) * sizeof(float));  // what lies behind them is the level's own
      hash.add(large.data(), larges * sizeof(float));
      flags.into(hash);
    }
  return hash;
}
Hash merge(const KernelTable& k) {
  Hash hash;
  for (std::size_t n : kCounts) {
    Array<std::uint8_t> flags = words<std::uint8_t>(20, (n + 7) / 8);
    std::size_t larges = 0;
    for (std::size_t i = 0; i < n; ++i) larges += (flags[i / 8] >> (i % 8)) & 1U;
    for (std::size_t missing : {std::size_t{0}, std::size_t{3}}) {  // fewer values than damaged flags ask for
      Array<float> small = samples(21, n - larges - (missing < n - larges ? missing : 0), -1.0F, 1.0F);
      Array<float> large = samples(22, larges - (missing < larges ? missing : 0), 1.0F, 2.0F);
      Array<float> out(n);
      k.merge(flags.data(), n, small.data(), small.size(), large.data(), large.size(), out.data());
      out.into(hash);
    }
  }
  return hash;
}

// Chances of a level error up to `worst`; labels in Gray order.
LevelModel level_model(std::uint32_t bits, float worst) {
  LevelModel m{};
  m.bits = bits;
  const std::uint32_t count = 1U << bits;
  for (std::uint32_t level = 0; level < count; ++level) {
    const std::uint32_t label = level ^ (level >> 1);
    m.label_of[level] = static_cast<std::uint8_t>(label);
    m.level_of[label] = static_cast<std::uint8_t>(level);
    const float share = static_cast<float>(level + 1) / static_cast<float>(count);
    m.up[level] = level + 1 < count ? 0.5F * worst * share : 0.0F;
    m.down[level] = level > 0 ? 0.25F * worst * share : 0.0F;
  }
  const double some = 8.0 / static_cast<double>(bits) * static_cast<double>(worst);  // no less than the true chance
  m.bound = some < 1.0 ? static_cast<std::uint32_t>(some * 4294967295.0) + 1U : 4294967295U;
  return m;
}
Hash level_errors(const KernelTable& k) {
  Hash hash;
  for (std::uint32_t bits : {1U, 2U, 4U})
    for (float worst : {0.002F, 0.3F, 0.9F})
      for (const Cells& cells : kSpans) {
        Array<std::uint8_t> in = words<std::uint8_t>(16, cells.n);
        Array<std::uint8_t> out(cells.n);
        k.level_errors(level_model(bits, worst), cells, kEvent, in.data(), out.data());
        out.into(hash);
        k.level_errors(level_model(bits, worst), cells, kEvent + 1, in.data(), in.data());  // in place
        in.into(hash);
      }
  return hash;
}
Hash trellis(const KernelTable& k) {
  Hash hash;
  constexpr std::int32_t limit = 5;
  for (std::uint32_t states : {4U, 8U, 16U, 32U, 64U})
    for (std::size_t n : {std::size_t{1}, std::size_t{64}, std::size_t{2999}}) {
      Array<float> x = samples(18, n, -3.0F, 3.0F);
      Array<std::uint8_t> classes = words<std::uint8_t>(19, n);
      for (std::size_t i = 0; i < n; ++i) classes[i] = static_cast<std::uint8_t>(classes[i] % 3);
      Array<float> costs = samples(20, 3 * (2 * limit + 1) * states, 0.0F, 2.0F);
      for (std::size_t i = 0; i < costs.size(); ++i) costs[i] = costs[i] < 4.0F ? costs[i] : 4.0F;
      Array<std::uint8_t> scratch(trellis_scratch(states, n));
      Array<std::int32_t> levels(n);
      const TrellisSearch search = {states, limit, 2.5F, costs.data(), {-0.1F, 0.05F, -0.2F, 0.125F, -0.3F}};
      k.trellis(search, x.data(), classes.data(), n, scratch.data(), levels.data());
      levels.into(hash);
      k.trellis(search, x.data(), nullptr, n, scratch.data(), levels.data());
      levels.into(hash);
    }
  return hash;
}
// The same for every level: one build serves them all.
Hash secded(const KernelTable&) {
  Hash hash;
  const std::size_t n = 72 * 72 + 1;
  Array<std::uint64_t> data = words<std::uint64_t>(18, n);
  Array<std::uint8_t> check(n);
  Array<std::uint8_t> status(n);
  secded_encode(data.data(), n, check.data());
  check.into(hash);
  // Every pair of flipped bits, which for pairs of one bit with itself means none, and every single bit.
  const auto flip = [&](std::size_t word, std::size_t bit) {
    if (bit < 64)
      data[word] ^= std::uint64_t{1} << bit;
    else
      check[word] = static_cast<std::uint8_t>(check[word] ^ (1U << (bit - 64)));
  };
  for (std::size_t word = 0; word + 1 < n; ++word) {
    flip(word, word / 72);
    if (word % 5 != 0) flip(word, word % 72);
  }
  secded_decode(data.data(), check.data(), n, status.data());
  data.into(hash);
  check.into(hash);
  status.into(hash);
  return hash;
}
struct Entry {
  const char* name;
  Hash (*run)(const KernelTable&);
};
constexpr Entry kEntries[] = {{"philox", philox},
                              {"normals", normals},
                              {"curve", curves},
                              {"program", program},
                              {"program_and_verify", program_and_verify},
                              {"drift", drift},
                              {"relax", relax},
                              {"read", read},
                              {"faults", faults},
                              {"age_and_read", age_and_read},
                              {"program_age_read", program_age_read},
                              {"affine", affine},
                              {"lookup", lookup},
                              {"split_sign", split_sign},
                              {"join_sign", join_sign},
                              {"differential", differential},
                              {"partition", partition},
                              {"merge", merge},
                              {"level_errors", level_errors},
                              {"ldpc", ldpc},
                              {"trellis", trellis},
                              {"mixing", mixing},
                              {"best_window", windows},
                              {"extremes", extremes},
                              {"shape_masses", shape_masses},
                              {"store_levels", stored_levels},
                              {"secded", secded}};

}  // namespace

int main() {
  const KernelTable* tables[8];
  const std::size_t n = available(tables, 8);
  for (std::size_t level = 0; level < n; ++level)
    for (const Entry& entry : kEntries)
      std::printf("%s %s %016llx\n", tables[level]->name, entry.name,
                  static_cast<unsigned long long>(entry.run(*tables[level]).value));
  return 0;
}
