// Table of contents of memristore._core.
#include "bindings/buffers.hpp"

PYBIND11_MODULE(_core, m) {
  using namespace memristore::bindings;
  m.doc() = "Compiled kernels of memristore; see _core.pyi.";
  register_runtime(m);
  register_devices(m);
  register_draws(m);
  register_cells(m);
  register_bits(m);
  register_levels(m);
  register_bch(m);
  register_maps(m);
  register_mixing(m);
  register_ldpc(m);
  register_trellis(m);
  register_windows(m);
}
