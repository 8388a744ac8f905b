// The one place that checks arrays from Python. No conversions: a wrong dtype, layout or shape raises.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace memristore::bindings {

namespace py = pybind11;

// A checked view: pointer and length, alive as long as the call.
template <class T>
struct View {
  T* data;
  std::size_t n;
};

template <class T>
void check_layout(const py::buffer_info& info, const char* what) {
  if (!info.item_type_is_equivalent_to<T>())
    throw py::type_error(std::string(what) + ": wrong dtype '" + info.format + "', wanted '" +
                         py::format_descriptor<T>::format() + "'; convert it first");
  if (info.ndim != 1)
    throw py::value_error(std::string(what) + ": must be 1-d, not " + std::to_string(info.ndim) + "-d");
  if (info.size > 1 && info.strides[0] != info.itemsize)
    throw py::type_error(std::string(what) + ": must be C-contiguous; use numpy.ascontiguousarray first");
}

template <class T>
View<const T> input(const py::buffer& buffer, const char* what) {
  const py::buffer_info info = buffer.request();
  check_layout<T>(info, what);
  return {static_cast<const T*>(info.ptr), static_cast<std::size_t>(info.size)};
}

template <class T>
View<T> output(const py::buffer& buffer, const char* what) {
  py::buffer_info info;
  try {
    info = buffer.request(true);
  } catch (const py::error_already_set&) {
    throw py::type_error(std::string(what) + ": must be writable");
  } catch (const py::buffer_error&) {
    throw py::type_error(std::string(what) + ": must be writable");
  }
  check_layout<T>(info, what);
  return {static_cast<T*>(info.ptr), static_cast<std::size_t>(info.size)};
}

inline void same_length(std::size_t a, std::size_t b, const char* what) {
  if (a != b)
    throw py::value_error(std::string(what) + ": has length " + std::to_string(b) + ", wanted " + std::to_string(a));
}

// Cells [first, first + n) must lie below 2^63, so that sums of addresses cannot wrap; threads are counted from 0 (all).
inline void check_range(std::uint64_t first, std::uint64_t n, int threads) {
  constexpr std::uint64_t top = std::uint64_t{1} << 63;
  if (first > top || n > top - first) throw py::value_error("first: the cells would run past address 2**63");
  if (threads < 0)
    throw py::value_error("threads: must be 0 (all) or a positive number, not " + std::to_string(threads));
}

// The GIL is free while kernels run: they see raw pointers of buffers that the caller's references keep alive.
using Unlocked = py::gil_scoped_release;

void register_devices(py::module_& m);
void register_draws(py::module_& m);
void register_cells(py::module_& m);
void register_bits(py::module_& m);
void register_levels(py::module_& m);
void register_bch(py::module_& m);
void register_maps(py::module_& m);
void register_mixing(py::module_& m);
void register_ldpc(py::module_& m);
void register_trellis(py::module_& m);
void register_windows(py::module_& m);
void register_runtime(py::module_& m);

}  // namespace memristore::bindings
