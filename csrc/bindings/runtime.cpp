// Instruction sets and threads.
#include <cstdlib>
#include <vector>

#include <pybind11/stl.h>
#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

std::vector<std::string> level_names() {
  const KernelTable* tables[8];
  const std::size_t n = available(tables, 8);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < n; ++i) names.emplace_back(tables[i]->name);
  return names;
}

void set_level(const std::string& name) {
  if (select(name.c_str())) return;
  std::string known;
  for (const std::string& level : level_names()) known += (known.empty() ? "" : ", ") + level;
  throw py::value_error("instruction set '" + name + "' is not available on this machine; there are: " + known);
}

}  // namespace

void register_runtime(py::module_& m) {
  const char* forced = std::getenv("MEMRISTORE_ISA");
  if (forced != nullptr && *forced != '\0') set_level(forced);
  m.def("isa", [] { return std::string(active().name); });
  m.def("isa_available", &level_names);
  m.def("set_isa", &set_level, py::arg("name"));
  m.def("max_threads", &max_threads);
}

}  // namespace memristore::bindings
