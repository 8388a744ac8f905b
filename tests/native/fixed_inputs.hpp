// Inputs of kernel_hashes.cpp, each a function of its position alone, and the hash of the outputs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

#include "memristore/kernels.hpp"

namespace {

using namespace memristore;

constexpr std::uint64_t kKey = 0xFEDCBA9876543210U;
constexpr std::uint32_t kEvent = 3;
constexpr Draw kRead = {kPurposeRead, 0xFFFFFFF1U};

struct Hash {
  std::uint64_t value = 0xCBF29CE484222325U;
  void add(const void* data, std::size_t n) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < n; ++i) value = (value ^ bytes[i]) * 0x100000001B3U;
  }
};

std::uint64_t mix(std::uint64_t z) {  // splitmix64
  z += 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

// n values one element off the start of their allocation, so that no level sees them aligned; hashed by `into`.
template <class T>
struct Array {
  explicit Array(std::size_t n) : all(n + 1, T{}) {}
  T* data() { return all.data() + 1; }
  std::size_t size() const { return all.size() - 1; }
  T& operator[](std::size_t i) { return all[i + 1]; }
  void into(Hash& hash) { hash.add(data(), size() * sizeof(T)); }
  std::vector<T> all;
};

// Uniform in [lo, hi), now and then one of the values that minimum, maximum and clipping could treat otherwise.
Array<float> samples(std::uint64_t salt, std::size_t n, float lo, float hi) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const float odd[] = {0.0F, -0.0F, 1e-40F, -1e-40F, 1e-7F, kInfinity, -kInfinity, kNan, lo, hi, 1e30F, -1e30F};
  Array<float> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t w = mix(salt * 0x1000003U + i);
    out[i] = w % 23 == 0 ? odd[(w >> 8) % 12] : lo + static_cast<float>(w >> 40) * 0x1p-24F * (hi - lo);
  }
  return out;
}
template <class T>
Array<T> words(std::uint64_t salt, std::size_t n) {
  Array<T> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<T>(mix(salt * 0x1000003U + i));
  return out;
}

// Whole groups, single cells, ends within a group, across 2^32 blocks, beyond 2^40, and nothing.
constexpr Cells kSpans[] = {{kKey, 0, 64},
                            {kKey, 5, 3001},
                            {kKey, 63, 2},
                            {kKey, 3, 1},
                            {kKey, (std::uint64_t{1} << 34) - 37, 200},
                            {kKey, (std::uint64_t{1} << 40) + 17, 257},
                            {kKey, 1000, 1100},
                            {kKey, 9, 0}};

Curve curve(CurveForm form, std::initializer_list<float> a, float lo, float hi) {
  Curve c;
  c.form = form;
  c.lo = lo;
  c.hi = hi;
  for (float v : a) c.a[c.n++] = v;
  return c;
}
Curve table(std::int32_t knots, float lo, float hi) {
  Curve c;
  c.form = kTable;
  c.n = knots;
  c.lo = lo;
  c.hi = hi;
  c.x0 = 0.05F;
  c.inv_step = static_cast<float>(knots - 1) * 1.125F;
  for (int k = 0; k < knots; ++k)
    c.a[k] = lo + static_cast<float>(mix(static_cast<std::uint64_t>(k)) >> 40) * 0x1p-24F * (hi - lo);
  for (int k = 0; k + 1 < knots; ++k) c.b[k] = c.a[k + 1] - c.a[k];
  return c;
}

struct Setting {
  Device device;
  ReadTime time;
};

// Between them: both domains, every form at every place that treats forms apart, with and without faults.
std::vector<Setting> settings() {
  Device g;
  g.domain = kConductance;
  g.read_relative = 1;
  g.inv_range = 0.04F;
  g.clip_hi = 30.0F;
  g.p_stuck_lo = 0.05F;
  g.p_stuck_hi = 0.08F;
  g.stuck_hi = 25.0F;
  g.response = curve(kPoly, {0.5F, 22.0F, 2.5F}, 0.0F, 25.0F);
  g.write_std = curve(kPoly, {0.3F, 1.7F, -1.1F}, 0.1F, 2.0F);
  g.cell_std = curve(kPolyLog, {0.2F, 0.01F, 0.002F}, 0.0F, 1.0F);
  g.drift_mean = curve(kExpLog, {-4.5F, -0.2F, 0.01F}, 0.01F, 0.1F);
  g.drift_std = table(17, 0.005F, 0.03F);
  g.relax_std = curve(kPoly, {0.2F, 0.1F}, 0.0F, 1.0F);
  g.read_std = curve(kExpLog, {-5.0F, -0.3F}, 0.001F, 0.2F);
  Device r;
  r.domain = kLogResistance;
  r.state_lo = 3.5F;
  r.inv_range = 0.4F;
  r.clip_lo = 3.0F;
  r.clip_hi = 8.0F;
  r.response = table(64, 3.5F, 6.5F);
  r.write_std = curve(kExpLog, {-3.0F, 0.4F, 0.02F}, 0.01F, 0.5F);
  r.drift_mean = curve(kPolyLog, {0.05F, 0.004F}, 0.0F, 0.1F);
  r.drift_std = curve(kPoly, {0.01F, 0.01F}, 0.0F, 0.05F);
  r.relax_std = table(2, 0.01F, 0.2F);
  r.read_std = curve(kPolyLog, {0.03F, 0.002F}, 0.0F, 0.2F);
  r.relax_mean = table(33, -0.1F, 0.05F);
  Device bare;  // no noise at all but stuck cells, and nothing that ages
  bare.clip_hi = 1.0F;
  bare.p_stuck_hi = 0.5F;
  bare.stuck_hi = 1.0F;
  bare.response = curve(kPoly, {0.25F}, -1.0F, 2.0F);
  const ReadTime later = {23.7F, -0.05F, 0.8F, 1.7F};
  return {{g, later}, {r, later}, {bare, later}, {g, ReadTime{}}};
}
const std::vector<Setting> kSettings = settings();

}  // namespace
