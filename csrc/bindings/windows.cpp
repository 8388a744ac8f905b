// Windows of values: their choice, and the extremes that bound it.
#include <mutex>

#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

py::tuple best(const py::buffer& sample, double low, double high, double count, double clip, double clip_cost,
               bool symmetric, const py::buffer& inverse_variance, const py::buffer& density, double step) {
  const auto values = input<float>(sample, "sample");
  const auto variance = input<double>(inverse_variance, "inverse_variance");
  const auto seen_as = input<double>(density, "density");
  if (values.n == 0) throw py::value_error("sample: holds no values");
  if (variance.n < 2 || variance.n > kMaxPositions)
    throw py::value_error("inverse_variance: needs 2 to " + std::to_string(kMaxPositions) + " positions");
  const std::size_t knots = seen_as.n / variance.n;
  same_length(knots * variance.n, seen_as.n, "density");
  if (knots > kMaxSeenKnots) throw py::value_error("density: more than " + std::to_string(kMaxSeenKnots) + " knots");
  if (!(low < high && count > 0.0 && clip >= 0.0))
    throw py::value_error("low, high, count, clip: low must lie below high, count must be positive, clip not negative");
  const Seen seen = {variance.data, variance.n, knots == 0 ? nullptr : seen_as.data, knots, step};
  Window found;
  {
    const KernelTable& kernels = active();
    const Unlocked unlocked;
    found = kernels.best_window(seen, {low, high, count, clip, clip_cost, symmetric}, values.data, values.n);
  }
  return py::make_tuple(found.lo, found.hi, found.error);
}

py::tuple ends(const py::buffer& values, int threads) {
  const auto v = input<float>(values, "values");
  if (v.n == 0) throw py::value_error("values: there are none");
  check_range(0, v.n, threads);
  Extremes found = {v.data[0], v.data[0], true};
  {
    std::mutex door;
    const KernelTable& kernels = active();
    const Unlocked unlocked;
    for_chunks(v.n, threads, [&](std::size_t start, std::size_t n) {
      const Extremes here = kernels.extremes(v.data + start, n);
      const std::lock_guard<std::mutex> inside(door);
      found.low = here.low < found.low ? here.low : found.low;
      found.high = here.high > found.high ? here.high : found.high;
      found.finite = found.finite && here.finite;
    });
  }
  return py::make_tuple(found.low, found.high, found.finite);
}

void shape_masses(const py::buffer& powers, const py::buffer& scales, const py::buffer& out, std::size_t rows) {
  const auto p = input<double>(powers, "powers");
  const auto s = input<double>(scales, "scales");
  const auto y = output<double>(out, "out");
  same_length(s.n, y.n, "out");
  if (rows == 0 || p.n % rows != 0 || s.n % rows != 0)
    throw py::value_error("rows: powers and scales must be that many rows of one length");
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  kernels.shape_masses(p.data, rows, p.n / rows, s.data, s.n / rows, y.data);
}

}  // namespace

void register_windows(py::module_& m) {
  using py::arg;
  m.def("best_window", &best, arg("sample"), arg("low"), arg("high"), arg("count"), arg("clip"), arg("clip_cost"),
        arg("symmetric"), arg("inverse_variance"), arg("density"), arg("step"));
  m.def("shape_masses", &shape_masses, arg("powers"), arg("scales"), arg("out"), arg("rows"));
  m.def("extremes", &ends, arg("values"), arg("threads") = 0);
}

}  // namespace memristore::bindings
