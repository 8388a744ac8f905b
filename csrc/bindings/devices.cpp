// Device curves and numbers: plain structs made from plain arrays.
#include "memristore/device.hpp"

#include <algorithm>

#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"

namespace memristore::bindings {
namespace {

Curve make_curve(int form, const py::buffer& a, const py::buffer& b, float lo, float hi, float x0, float inv_step) {
  const auto va = input<float>(a, "a");
  const auto vb = input<float>(b, "b");
  if (form < kZero || form > kTable) throw py::value_error("form: unknown curve form " + std::to_string(form));
  const std::size_t limit = form == kTable ? kMaxKnots : kMaxCoefficients;
  const std::size_t least = form == kTable ? 2 : (form == kZero ? 0 : 1);
  if (va.n < least || va.n > limit)
    throw py::value_error("a: a curve of this form takes " + std::to_string(least) + " to " + std::to_string(limit) +
                          " numbers, not " + std::to_string(va.n));
  if (form == kTable) same_length(va.n, vb.n, "b");
  Curve c;
  c.form = form;
  c.n = static_cast<std::int32_t>(va.n);
  c.lo = lo;
  c.hi = hi;
  c.x0 = x0;
  c.inv_step = inv_step;
  std::copy_n(va.data, va.n, c.a);
  std::copy_n(vb.data, std::min(vb.n, va.n), c.b);
  return c;
}

py::array_t<float> evaluate(const Curve& curve, const py::buffer& x) {
  const auto view = input<float>(x, "x");
  py::array_t<float> out(static_cast<py::ssize_t>(view.n));
  float* y = out.mutable_data();
  {
    const Unlocked unlocked;
    active().curve(curve, view.data, view.n, y);
  }
  return out;
}

Device make_device(int domain, bool read_relative, float state_lo, float inv_range, float clip_lo, float clip_hi,
                   float p_stuck_lo, float p_stuck_hi, float stuck_lo, float stuck_hi, const Curve& response,
                   const Curve& write_std, const Curve& cell_std, const Curve& drift_mean, const Curve& drift_std,
                   const Curve& relax_std, const Curve& read_std, const Curve& relax_mean) {
  if (domain != kConductance && domain != kLogResistance) throw py::value_error("domain: unknown state domain");
  if (!(p_stuck_lo >= 0.0F && p_stuck_hi >= 0.0F && p_stuck_lo + p_stuck_hi <= 1.0F))
    throw py::value_error("p_stuck_lo, p_stuck_hi: must be probabilities that sum to at most 1");
  return {domain,     read_relative ? 1 : 0,
          state_lo,   inv_range,
          clip_lo,    clip_hi,
          p_stuck_lo, p_stuck_hi,
          stuck_lo,   stuck_hi,
          response,   write_std,
          cell_std,   drift_mean,
          drift_std,  relax_std,
          read_std,   relax_mean};
}

Pulse make_pulse(float start, float step, float spread, float noise, float verify_std, float band, float log2_delay,
                 std::uint32_t max_pulses) {
  if (max_pulses > kMaxPulses - 1) throw py::value_error("max_pulses: at most " + std::to_string(kMaxPulses - 1));
  return {start, step, spread, noise, verify_std, band, log2_delay, max_pulses};
}

}  // namespace

void register_devices(py::module_& m) {
  m.attr("CONDUCTANCE") = static_cast<int>(kConductance);
  m.attr("LOG_RESISTANCE") = static_cast<int>(kLogResistance);
  m.attr("ZERO") = static_cast<int>(kZero);
  m.attr("POLY") = static_cast<int>(kPoly);
  m.attr("POLY_LOG") = static_cast<int>(kPolyLog);
  m.attr("EXP_LOG") = static_cast<int>(kExpLog);
  m.attr("TABLE") = static_cast<int>(kTable);
  m.attr("MAX_COEFFICIENTS") = kMaxCoefficients;
  m.attr("MAX_KNOTS") = kMaxKnots;
  m.attr("MAX_PULSES") = kMaxPulses - 1;
  m.attr("LOG_FLOOR") = kLogFloor;
  py::class_<Curve>(m, "Curve")
      .def(py::init(&make_curve), py::arg("form"), py::arg("a"), py::arg("b"), py::arg("lo"), py::arg("hi"),
           py::arg("x0"), py::arg("inv_step"))
      .def("__call__", &evaluate, py::arg("x"));
  py::class_<Device>(m, "Device")
      .def(py::init(&make_device), py::kw_only(), py::arg("domain"), py::arg("read_relative"), py::arg("state_lo"),
           py::arg("inv_range"), py::arg("clip_lo"), py::arg("clip_hi"), py::arg("p_stuck_lo"), py::arg("p_stuck_hi"),
           py::arg("stuck_lo"), py::arg("stuck_hi"), py::arg("response"), py::arg("write_std"), py::arg("cell_std"),
           py::arg("drift_mean"), py::arg("drift_std"), py::arg("relax_std"), py::arg("read_std"),
           py::arg("relax_mean"));
  py::class_<ReadTime>(m, "ReadTime")
      .def(py::init([](float log2_age, float relax_mean, float relax_scale, float read_scale) {
             return ReadTime{log2_age, relax_mean, relax_scale, read_scale};
           }),
           py::kw_only(), py::arg("log2_age"), py::arg("relax_mean"), py::arg("relax_scale"), py::arg("read_scale"));
  py::class_<Pulse>(m, "Pulse")
      .def(py::init(&make_pulse), py::kw_only(), py::arg("start"), py::arg("step"), py::arg("spread"), py::arg("noise"),
           py::arg("verify_std"), py::arg("band"), py::arg("log2_delay"), py::arg("max_pulses"));
}

}  // namespace memristore::bindings
