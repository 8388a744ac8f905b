// The life of a cell: program, age, read.
#include "bindings/buffers.hpp"
#include "memristore/kernels.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

void program(const Device& device, std::uint64_t key, std::uint32_t event, std::uint64_t first, const py::buffer& x,
             const py::buffer& out, int threads) {
  const auto targets = input<float>(x, "x");
  const auto state = output<float>(out, "out");
  same_length(targets.n, state.n, "out");
  check_range(first, state.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(state.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.program(device, {key, first + start, n}, event, targets.data + start, state.data + start);
  });
}

void program_and_verify(const Device& device, const Pulse& pulse, std::uint64_t key, std::uint32_t event,
                        std::uint64_t first, const py::buffer& x, const py::buffer& out, const py::buffer& pulses,
                        const py::buffer& failed, int threads) {
  const auto targets = input<float>(x, "x");
  const auto state = output<float>(out, "out");
  const auto counts = output<std::uint16_t>(pulses, "pulses");
  const auto fails = output<std::uint8_t>(failed, "failed");
  same_length(targets.n, state.n, "out");
  same_length(targets.n, counts.n, "pulses");
  same_length(targets.n, fails.n, "failed");
  if (event >= (1U << 24)) throw py::value_error("event: a programming event must be below 2**24");
  check_range(first, state.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(state.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.program_and_verify(device, pulse, {key, first + start, n}, event, targets.data + start, state.data + start,
                               counts.data + start, fails.data + start);
  });
}

void drift(const Device& device, const ReadTime& time, std::uint64_t key, std::uint64_t first,
           const py::buffer& programmed, const py::buffer& out, int threads) {
  const auto before = input<float>(programmed, "programmed");
  const auto state = output<float>(out, "out");
  same_length(before.n, state.n, "out");
  check_range(first, state.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(state.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.drift(device, time, {key, first + start, n}, before.data + start, state.data + start);
  });
}

void relax(const Device& device, const ReadTime& time, std::uint64_t key, std::uint64_t first,
           const py::buffer& programmed, const py::buffer& state, const py::buffer& out, int threads) {
  const auto before = input<float>(programmed, "programmed");
  const auto now = input<float>(state, "state");
  const auto after = output<float>(out, "out");
  same_length(before.n, now.n, "state");
  same_length(before.n, after.n, "out");
  check_range(first, after.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(after.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.relax(device, time, {key, first + start, n}, before.data + start, now.data + start, after.data + start);
  });
}

void read(const Device& device, const ReadTime& time, std::uint64_t key, std::uint32_t purpose, std::uint32_t event,
          std::uint64_t first, const py::buffer& programmed, const py::buffer& state, const py::buffer& out,
          int threads) {
  const auto before = input<float>(programmed, "programmed");
  const auto now = input<float>(state, "state");
  const auto after = output<float>(out, "out");
  same_length(before.n, now.n, "state");
  same_length(before.n, after.n, "out");
  check_range(first, after.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(after.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.read(device, time, {key, first + start, n}, {purpose, event}, before.data + start, now.data + start,
                 after.data + start);
  });
}

void faults(const Device& device, std::uint64_t key, std::uint64_t first, const py::buffer& out, int threads) {
  const auto codes = output<std::uint8_t>(out, "out");
  check_range(first, codes.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(codes.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.faults(device, {key, first + start, n}, codes.data + start);
  });
}

void age_and_read(const Device& device, const ReadTime& time, std::uint64_t key, std::uint32_t purpose,
                  std::uint32_t event, std::uint64_t first, const py::buffer& programmed, const py::buffer& out,
                  int threads) {
  const auto before = input<float>(programmed, "programmed");
  const auto after = output<float>(out, "out");
  same_length(before.n, after.n, "out");
  check_range(first, after.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(after.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.age_and_read(device, time, {key, first + start, n}, {purpose, event}, before.data + start,
                         after.data + start);
  });
}

void decode(const Device& device, const ReadTime& time, std::uint64_t key, std::uint32_t purpose, std::uint32_t event,
            std::uint64_t first, const py::buffer& programmed, const py::buffer& table, float x0, float inv_step,
            bool extrapolate, const py::buffer& out, int threads) {
  const auto before = input<float>(programmed, "programmed");
  const auto knots = input<float>(table, "table");
  const auto after = output<float>(out, "out");
  same_length(before.n, after.n, "out");
  if (knots.n < 2) throw py::value_error("table: needs at least two knots");
  check_range(first, after.n, threads);
  const KernelTable& kernels = active();
  const DecodeTable decoder = {knots.data, knots.n, x0, inv_step, extrapolate};
  const Unlocked unlocked;
  for_chunks(after.n, threads, [&](std::size_t start, std::size_t n) {
    age_read_decode(kernels, device, time, {key, first + start, n}, {purpose, event}, before.data + start, decoder,
                    after.data + start);
  });
}

void program_age_read(const Device& device, const ReadTime& time, std::uint64_t key, std::uint32_t write_event,
                      std::uint32_t purpose, std::uint32_t read_event, std::uint64_t first, const py::buffer& x,
                      const py::buffer& out, int threads) {
  const auto targets = input<float>(x, "x");
  const auto after = output<float>(out, "out");
  same_length(targets.n, after.n, "out");
  check_range(first, after.n, threads);
  const KernelTable& kernels = active();
  const Unlocked unlocked;
  for_chunks(after.n, threads, [&](std::size_t start, std::size_t n) {
    kernels.program_age_read(device, time, {key, first + start, n}, write_event, {purpose, read_event},
                             targets.data + start, after.data + start);
  });
}

}  // namespace

void register_cells(py::module_& m) {
  using py::arg;
  m.def("program", &program, arg("device"), arg("key"), arg("event"), arg("first"), arg("x"), arg("out"),
        arg("threads") = 0);
  m.def("program_and_verify", &program_and_verify, arg("device"), arg("pulse"), arg("key"), arg("event"), arg("first"),
        arg("x"), arg("out"), arg("pulses"), arg("failed"), arg("threads") = 0);
  m.def("drift", &drift, arg("device"), arg("time"), arg("key"), arg("first"), arg("programmed"), arg("out"),
        arg("threads") = 0);
  m.def("relax", &relax, arg("device"), arg("time"), arg("key"), arg("first"), arg("programmed"), arg("state"),
        arg("out"), arg("threads") = 0);
  m.def("read", &read, arg("device"), arg("time"), arg("key"), arg("purpose"), arg("event"), arg("first"),
        arg("programmed"), arg("state"), arg("out"), arg("threads") = 0);
  m.def("faults", &faults, arg("device"), arg("key"), arg("first"), arg("out"), arg("threads") = 0);
  m.def("age_and_read", &age_and_read, arg("device"), arg("time"), arg("key"), arg("purpose"), arg("event"),
        arg("first"), arg("programmed"), arg("out"), arg("threads") = 0);
  m.def("age_read_decode", &decode, arg("device"), arg("time"), arg("key"), arg("purpose"), arg("event"), arg("first"),
        arg("programmed"), arg("table"), arg("x0"), arg("inv_step"), arg("extrapolate"), arg("out"),
        arg("threads") = 0);
  m.def("program_age_read", &program_age_read, arg("device"), arg("time"), arg("key"), arg("write_event"),
        arg("purpose"), arg("read_event"), arg("first"), arg("x"), arg("out"), arg("threads") = 0);
}

}  // namespace memristore::bindings
