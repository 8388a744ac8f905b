// The kernels that choose windows, on fixed inputs; for kernel_hashes.cpp.
#pragma once
#include <algorithm>
#include <cmath>

#include "fixed_inputs.hpp"

namespace {

// Finite numbers all: a NaN's sign is the machine's own.
template <class T>
Array<T> finite(std::uint64_t salt, std::size_t n, double lo, double hi) {
  Array<T> out(n);
  std::uint64_t state = salt;
  for (std::size_t i = 0; i < n; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    out.data()[i] = static_cast<T>(lo + (hi - lo) * (static_cast<double>(state >> 40) / 16777216.0));
  }
  return out;
}
Hash windows(const KernelTable& k) {
  Hash hash;
  constexpr std::size_t kPositions = 129;
  constexpr std::size_t kKnots = 257;
  Array<double> variance = finite<double>(31, kPositions, 0.001, 0.01);
  Array<double> density = finite<double>(32, kPositions * kKnots, 0.0, 1.0);
  for (std::size_t n : {std::size_t{2}, std::size_t{100}, std::size_t{129}, std::size_t{700}, std::size_t{5000}})
    for (double start : {-1.0, 0.0, 0.5}) {
      Array<float> sample = finite<float>(33 + n, n, start, start + 2.0);
      std::sort(sample.data(), sample.data() + n);
      for (const double* seen_as : {static_cast<const double*>(nullptr), static_cast<const double*>(density.data())})
        for (double clip : {0.0, 2.5, HUGE_VAL})
          for (bool symmetric : {false, true}) {
            const double low = sample.data()[0];
            const double high = sample.data()[n - 1];
            const memristore::Seen seen = {variance.data(), kPositions, seen_as, kKnots, 0.01};
            const auto found =
                k.best_window(seen, {low, high, static_cast<double>(4 * n), clip, 2.0, symmetric}, sample.data(), n);
            for (double number : {found.lo, found.hi, found.error}) hash.add(&number, sizeof number);
          }
    }
  return hash;
}
Hash extremes(const KernelTable& k) {
  Hash hash;
  for (std::size_t n : {std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{17}, std::size_t{1001}}) {
    Array<float> x = finite<float>(34, n, -1.0, 1.0);
    const auto found = k.extremes(x.data(), n);
    hash.add(&found.low, sizeof found.low);
    hash.add(&found.high, sizeof found.high);
    hash.add(&found.finite, sizeof found.finite);
  }
  return hash;
}
Hash shape_masses(const KernelTable& k) {
  Hash hash;
  constexpr std::size_t kRows = 3;
  constexpr std::size_t kWidths = 5;
  for (std::size_t points : {std::size_t{1}, std::size_t{64}, std::size_t{451}}) {
    Array<double> powers = finite<double>(35, kRows * points, 0.0, 30.0);
    Array<double> scales = finite<double>(36, kRows * kWidths, 0.0, 5.0);
    Array<double> out(kRows * kWidths);
    k.shape_masses(powers.data(), kRows, points, scales.data(), kWidths, out.data());
    out.into(hash);
  }
  return hash;
}

}  // namespace
