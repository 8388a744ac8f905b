// Stages joined block by block, so that what passes between them never leaves the cache.
#include "memristore/kernels.hpp"

namespace memristore {

void age_read_decode(const KernelTable& kernels, const Device& device, const ReadTime& time, Cells cells, Draw draw,
                     const float* programmed, const DecodeTable& table, float* out) {
  constexpr std::size_t kBlock = 4096;
  float soft[kBlock];
  // The first block ends at a multiple of kBlock, so that the others hold whole groups.
  std::size_t done = 0;
  while (done < cells.n) {
    const std::uint64_t first = cells.first + done;
    const std::size_t room = kBlock - static_cast<std::size_t>(first % kBlock);
    const std::size_t size = room < cells.n - done ? room : cells.n - done;
    kernels.age_and_read(device, time, {cells.key, first, size}, draw, programmed + done, soft);
    kernels.lookup(soft, size, table.values, table.knots, table.x0, table.inv_step, table.extrapolate, out + done);
    done += size;
  }
}

}  // namespace memristore
