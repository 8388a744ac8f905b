// The LDPC kernels of kernel_hashes.cpp.
#pragma once
#include "fixed_inputs.hpp"

namespace {

// A base matrix of 3 x 9 with its dual diagonal, over ratios of every strength, none of them a code word's.
Hash ldpc(const KernelTable& k) {
  constexpr std::uint32_t kStart[] = {0, 7, 14, 21};
  constexpr std::uint16_t kColumn[] = {0, 1, 2, 3, 5, 6, 7, 0, 2, 3, 4, 6, 7, 8, 0, 1, 3, 4, 5, 6, 8};
  constexpr std::uint16_t kShift[] = {3, 0, 64, 127, 190, 1, 0, 63, 5, 77, 128, 0, 0, 0, 191, 9, 100, 65, 2, 1, 0};
  const LdpcCode code = {192, 3, 9, kStart, kColumn, kShift};
  const std::size_t data_bits = 6 * 192 - 40;
  const std::size_t sums = 9 * ldpc_stride(code);
  Hash hash;
  for (std::uint32_t iterations : {1U, 5U, 30U})
    for (std::uint64_t salt = 22; salt < 30; ++salt) {
      Array<std::int8_t> llr = words<std::int8_t>(salt, data_bits + 3 * 192);
      for (std::size_t i = 0; i < llr.size(); ++i)
        if (salt % 2 == 0) llr[i] = static_cast<std::int8_t>(llr[i] / 8 + 12);
      Array<std::int8_t> memory(sums + 21 * 192);
      const LdpcScratch scratch = {memory.data(), memory.data() + sums};
      Array<std::uint8_t> data(data_bits / 8);
      ldpc_load(code, llr.data(), data_bits, static_cast<std::uint32_t>(salt % 3), scratch);
      const std::int32_t took = k.ldpc_decode(code, scratch, iterations);
      const std::int32_t changed = ldpc_unload(code, llr.data(), data_bits, scratch, data.data());
      hash.add(&took, sizeof took);
      hash.add(&changed, sizeof changed);
      data.into(hash);
      Array<std::uint64_t> work(ldpc_work(code));
      Array<std::uint8_t> check(3 * 192 / 8);
      ldpc_encode(code, data.data(), data_bits, work.data(), check.data());
      check.into(hash);
    }
  return hash;
}

}  // namespace
