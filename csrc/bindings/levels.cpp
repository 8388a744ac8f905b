// Coded words on cells with a few levels.
#include "memristore/levels.hpp"

#include <pybind11/stl.h>

#include <atomic>
#include <optional>

#include "bindings/buffers.hpp"
#include "memristore/parallel.hpp"

namespace memristore::bindings {
namespace {

LevelTargets make_targets(View<const float> x, View<const std::uint8_t> level_of, std::uint32_t cells) {
  if (cells != 1 && cells != 2) throw py::value_error("cells: 1 or 2 cells carry a label");
  if (x.n < 2 || x.n > kMaxLevels) throw py::value_error("targets: 2 to 16 levels");
  LevelTargets out = {};
  while (out.bits < kMaxLabelBits && (std::size_t{2} << out.bits) * cells <= level_of.n) ++out.bits;
  out.cells = cells;
  if (out.bits == 0) out.bits = 1;
  same_length((std::size_t{1} << out.bits) * cells, level_of.n, "level_of");
  for (std::size_t i = 0; i < level_of.n; ++i) {
    if (level_of.data[i] >= x.n) throw py::value_error("level_of: names a level that has no target");
    out.x[i] = x.data[level_of.data[i]];
  }
  return out;
}

void all_below(View<const std::uint8_t> values, std::size_t limit, const char* what) {
  for (std::size_t i = 0; i < values.n; ++i)
    if (values.data[i] >= limit)
      throw py::value_error(std::string(what) + ": holds " + std::to_string(values.data[i]) + ", must be below " +
                            std::to_string(limit));
}

LevelDecision make_decision(const LevelTargets& targets, float start, float inv_step, View<const std::uint8_t> cell_bin,
                            std::uint32_t bins, std::uint32_t pair_bins, View<const std::uint8_t> label,
                            View<const std::int8_t> llr, bool soft) {
  if (bins < 1 || bins > 65536) throw py::value_error("bins: 1 to 65536");
  std::size_t indices = bins;
  if (targets.cells == 2) {
    if (pair_bins < 1 || pair_bins > 256) throw py::value_error("pair_bins: 1 to 256");
    same_length(bins, cell_bin.n, "cell_bin");
    all_below(cell_bin, pair_bins, "cell_bin");
    indices = std::size_t{pair_bins} * pair_bins;
  } else {
    same_length(0, cell_bin.n, "cell_bin");
  }
  same_length(indices, label.n, "label");
  all_below(label, std::size_t{1} << targets.bits, "label");
  same_length(indices * targets.bits, llr.n, "llr");
  return {start,
          inv_step,
          bins,
          pair_bins,
          targets.cells == 2 ? cell_bin.data : nullptr,
          label.data,
          soft ? llr.data : nullptr};
}

std::uint64_t store(const Device& device, const std::optional<Pulse>& pulse, const ReadTime& time, std::uint64_t key,
                    std::uint32_t write_event, std::uint32_t purpose, std::uint32_t read_event, std::uint64_t first,
                    std::uint64_t plane_stride, std::uint32_t planes, const py::buffer& words, std::size_t word_bits,
                    const py::buffer& targets, const py::buffer& level_of, std::uint32_t cells, float start,
                    float inv_step, const py::buffer& cell_bin, std::uint32_t bins, std::uint32_t pair_bins,
                    const py::buffer& label, const py::buffer& llr, bool soft, const py::buffer& out, int threads) {
  const auto written = input<std::uint8_t>(words, "words");
  const LevelTargets where =
      make_targets(input<float>(targets, "targets"), input<std::uint8_t>(level_of, "level_of"), cells);
  const LevelDecision decision =
      make_decision(where, start, inv_step, input<std::uint8_t>(cell_bin, "cell_bin"), bins, pair_bins,
                    input<std::uint8_t>(label, "label"), input<std::int8_t>(llr, "llr"), soft);
  if (planes == 0) throw py::value_error("planes: a group needs at least one copy");
  if (word_bits == 0 || word_bits >= (std::size_t{1} << 32))
    throw py::value_error("word_bits: a word has at least one bit and fewer than 2**32");
  if (pulse && write_event >= (1U << 24)) throw py::value_error("write_event: must be below 2**24");
  const std::size_t row = (word_bits + 7) / 8;
  const std::size_t superblocks = written.n / (row * where.bits);
  same_length(superblocks * row * where.bits, written.n, "words");
  const std::size_t span = superblocks * word_bits * where.cells;
  check_range(first, span, threads);
  if (planes > 1) {
    constexpr std::uint64_t top = std::uint64_t{1} << 63;
    if (plane_stride > top / planes) throw py::value_error("plane_stride: the copies would run past address 2**63");
    check_range(first + plane_stride * (planes - 1), span, threads);
  }
  std::uint8_t* hard = nullptr;
  std::int8_t* ratios = nullptr;
  if (soft) {
    const auto seen = output<std::int8_t>(out, "out");
    same_length(superblocks * where.bits * word_bits, seen.n, "out");
    ratios = seen.data;
  } else {
    const auto seen = output<std::uint8_t>(out, "out");
    same_length(written.n, seen.n, "out");
    hard = seen.data;
  }
  const KernelTable& kernels = active();
  std::atomic<std::uint64_t> errors{0};
  const Unlocked unlocked;
  const LevelWrite write = {write_event, pulse ? &*pulse : nullptr};
  // Whole superblocks to a piece, so that no two threads share a byte of a row.
  const std::size_t block_cells = word_bits * where.cells;
  const std::size_t piece = block_cells < kChunk ? kChunk / block_cells : 1;
  for_pieces(superblocks, piece, threads, [&](std::size_t begin, std::size_t n) {
    const LevelCells here = {key, first + begin * block_cells, plane_stride, planes, word_bits};
    const std::size_t at = begin * where.bits;
    errors += store_levels(kernels, device, time, here, write, {purpose, read_event}, where, decision,
                           written.data + at * row, n, hard == nullptr ? nullptr : hard + at * row,
                           ratios == nullptr ? nullptr : ratios + at * word_bits);
  });
  return errors.load();
}

}  // namespace

void register_levels(py::module_& m) {
  using py::arg;
  m.def("store_levels", &store, arg("device"), arg("pulse"), arg("time"), arg("key"), arg("write_event"),
        arg("purpose"), arg("read_event"), arg("first"), arg("plane_stride"), arg("planes"), arg("words"),
        arg("word_bits"), arg("targets"), arg("level_of"), arg("cells"), arg("start"), arg("inv_step"), arg("cell_bin"),
        arg("bins"), arg("pair_bins"), arg("label"), arg("llr"), arg("soft"), arg("out"), arg("threads") = 0);
}

}  // namespace memristore::bindings
