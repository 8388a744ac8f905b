// Maps between values, signs and targets.
#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

void affine(const py::buffer& values, float scale, float offset, float lo, float hi, const py::buffer& out,
            int threads) {
  const auto v = input<float>(values, "values");
  const auto y = output<float>(out, "out");
  same_length(v.n, y.n, "out");
  check_range(0, v.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(v.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.affine(v.data + start, n, scale, offset, lo, hi, y.data + start);
  });
}

void lookup(const py::buffer& values, const py::buffer& table, float x0, float inv_step, bool extrapolate,
            const py::buffer& out, int threads) {
  const auto v = input<float>(values, "values");
  const auto knots = input<float>(table, "table");
  const auto y = output<float>(out, "out");
  same_length(v.n, y.n, "out");
  if (knots.n < 2) throw py::value_error("table: needs at least two knots");
  check_range(0, v.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(v.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.lookup(v.data + start, n, knots.data, knots.n, x0, inv_step, extrapolate, y.data + start);
  });
}

void plane(const py::buffer& row, const py::buffer& column, const py::buffer& table, std::size_t columns,
           const py::buffer& out, int threads) {
  const auto r = input<float>(row, "row");
  const auto c = input<float>(column, "column");
  const auto knots = input<float>(table, "table");
  const auto y = output<float>(out, "out");
  same_length(r.n, c.n, "column");
  same_length(r.n, y.n, "out");
  if (columns < 2 || knots.n % columns != 0 || knots.n / columns < 2)
    throw py::value_error("table: needs whole rows, at least two of them, of at least two knots");
  check_range(0, r.n, threads);
  const Unlocked unlocked;
  for_chunks(r.n, threads, [&](std::size_t start, std::size_t n) {
    lookup_plane(r.data + start, c.data + start, n, knots.data, knots.n / columns, columns, y.data + start);
  });
}

void nearest(const py::buffer& first, const py::buffer& second, const py::buffer& x, const py::buffer& y,
             const py::buffer& offset, const py::buffer& out, int threads) {
  const auto a = input<float>(first, "first");
  const auto b = input<float>(second, "second");
  const auto px = input<float>(x, "x");
  const auto py_ = input<float>(y, "y");
  const auto away = input<float>(offset, "offset");
  const auto found = output<std::uint16_t>(out, "out");
  same_length(a.n, b.n, "second");
  same_length(a.n, found.n, "out");
  same_length(px.n, py_.n, "y");
  same_length(px.n, away.n, "offset");
  if (px.n == 0 || px.n % 8 != 0 || px.n > 65536) throw py::value_error("x: a curve has 8, 16, ... 65536 points");
  check_range(0, a.n, threads);
  const CurvePoints curve = {px.data, py_.data, away.data, px.n};
  const Unlocked unlocked;
  for_chunks(a.n, threads, [&](std::size_t start, std::size_t n) {
    nearest_points(a.data + start, b.data + start, n, curve, found.data + start);
  });
}

void split_sign(const py::buffer& values, const py::buffer& magnitude, const py::buffer& signs, int threads) {
  const auto v = input<float>(values, "values");
  const auto m = output<float>(magnitude, "magnitude");
  const auto s = output<std::uint8_t>(signs, "signs");
  same_length(v.n, m.n, "magnitude");
  same_length((v.n + 7) / 8, s.n, "signs");
  check_range(0, v.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(v.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.split_sign(v.data + start, n, m.data + start, s.data + start / 8);
  });
}

void join_sign(const py::buffer& magnitude, const py::buffer& signs, const py::buffer& out, int threads) {
  const auto m = input<float>(magnitude, "magnitude");
  const auto s = input<std::uint8_t>(signs, "signs");
  const auto v = output<float>(out, "out");
  same_length(m.n, v.n, "out");
  same_length((m.n + 7) / 8, s.n, "signs");
  check_range(0, v.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(v.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.join_sign(m.data + start, s.data + start / 8, n, v.data + start);
  });
}

void differential(const py::buffer& values, const py::buffer& positive, const py::buffer& negative, int threads) {
  const auto v = input<float>(values, "values");
  const auto p = output<float>(positive, "positive");
  const auto q = output<float>(negative, "negative");
  same_length(v.n, p.n, "positive");
  same_length(v.n, q.n, "negative");
  check_range(0, v.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(v.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.differential(v.data + start, n, p.data + start, q.data + start);
  });
}

std::size_t partition(const py::buffer& values, float threshold, const py::buffer& small, const py::buffer& large,
                      const py::buffer& flags) {
  const auto v = input<float>(values, "values");
  const auto s = output<float>(small, "small");
  const auto l = output<float>(large, "large");
  const auto f = output<std::uint8_t>(flags, "flags");
  same_length(v.n, s.n, "small");
  same_length(v.n, l.n, "large");
  same_length((v.n + 7) / 8, f.n, "flags");
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  return kernels.partition(v.data, v.n, threshold, s.data, l.data, f.data);
}

std::size_t count_bits(const py::buffer& bits, std::size_t n) {
  const auto b = input<std::uint8_t>(bits, "bits");
  same_length((n + 7) / 8, b.n, "bits");
  const Unlocked unlocked;
  return ones(b.data, n);
}

void merge(const py::buffer& flags, const py::buffer& small, const py::buffer& large, const py::buffer& out) {
  const auto f = input<std::uint8_t>(flags, "flags");
  const auto s = input<float>(small, "small");
  const auto l = input<float>(large, "large");
  const auto v = output<float>(out, "out");
  same_length((v.n + 7) / 8, f.n, "flags");
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  kernels.merge(f.data, v.n, s.data, s.n, l.data, l.n, v.data);
}

}  // namespace

void register_maps(py::module_& m) {
  using py::arg;
  m.def("affine", &affine, arg("values"), arg("scale"), arg("offset"), arg("lo"), arg("hi"), arg("out"),
        arg("threads") = 0);
  m.def("lookup", &lookup, arg("values"), arg("table"), arg("x0"), arg("inv_step"), arg("extrapolate"), arg("out"),
        arg("threads") = 0);
  m.def("lookup_plane", &plane, arg("row"), arg("column"), arg("table"), arg("columns"), arg("out"),
        arg("threads") = 0);
  m.def("nearest_points", &nearest, arg("first"), arg("second"), arg("x"), arg("y"), arg("offset"), arg("out"),
        arg("threads") = 0);
  m.def("split_sign", &split_sign, arg("values"), arg("magnitude"), arg("signs"), arg("threads") = 0);
  m.def("join_sign", &join_sign, arg("magnitude"), arg("signs"), arg("out"), arg("threads") = 0);
  m.def("partition", &partition, arg("values"), arg("threshold"), arg("small"), arg("large"), arg("flags"));
  m.def("count_bits", &count_bits, arg("bits"), arg("n"));
  m.def("merge", &merge, arg("flags"), arg("small"), arg("large"), arg("out"));
  m.def("differential", &differential, arg("values"), arg("positive"), arg("negative"), arg("threads") = 0);
}

}  // namespace memristore::bindings
