// Raw random words and normals.
#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

void philox(std::uint64_t key, std::uint32_t purpose, std::uint32_t event, std::uint64_t first_block,
            const py::buffer& out) {
  const auto words = output<std::uint32_t>(out, "out");
  if (words.n % 4 != 0) throw py::value_error("out: a block yields four words, so its length must be a multiple of 4");
  const Unlocked unlocked;
  active().philox(key, {purpose, event}, first_block, words.n / 4, words.data);
}

void normals(std::uint64_t key, std::uint32_t purpose, std::uint32_t event, std::uint64_t first, const py::buffer& out,
             int threads) {
  const auto z = output<float>(out, "out");
  check_range(first, z.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(z.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.normals({key, first + start, n}, {purpose, event}, z.data + start);
  });
}

}  // namespace

void register_draws(py::module_& m) {
  py::dict purposes;
  purposes["write"] = static_cast<int>(kPurposeWrite);
  purposes["cell"] = static_cast<int>(kPurposeCell);
  purposes["drift"] = static_cast<int>(kPurposeDrift);
  purposes["relax"] = static_cast<int>(kPurposeRelax);
  purposes["read"] = static_cast<int>(kPurposeRead);
  purposes["fault"] = static_cast<int>(kPurposeFault);
  purposes["verify_read"] = static_cast<int>(kPurposeVerifyRead);
  purposes["pulse"] = static_cast<int>(kPurposePulse);
  purposes["user"] = static_cast<int>(kPurposeUser);
  purposes["level"] = static_cast<int>(kPurposeLevel);
  purposes["level_more"] = static_cast<int>(kPurposeLevelMore);
  m.attr("PURPOSES") = purposes;
  m.def("philox", &philox, py::arg("key"), py::arg("purpose"), py::arg("event"), py::arg("first_block"),
        py::arg("out"));
  m.def("normals", &normals, py::arg("key"), py::arg("purpose"), py::arg("event"), py::arg("first"), py::arg("out"),
        py::arg("threads") = 0);
}

}  // namespace memristore::bindings
