// Errors of cells with few levels, drawn without drawing any analog value: one random word per byte tells whether it has an
// error at all, and only bytes that may have one are looked at.
#include <cstring>

namespace {

using memristore::LevelModel;

// Words of one block of a purpose that draws per cell.
inline void block_of(const Keys& keys, Draw draw, std::uint64_t index, std::uint32_t out[4]) {
  const U low[1] = {setu(static_cast<std::uint32_t>(index))};
  U w[1][4];
  std::uint32_t lanes[kLanes];
  philox<1>(keys, low, static_cast<std::uint32_t>(index >> 32), draw, w);
  for (int k = 0; k < 4; ++k) {
    storeu(lanes, w[0][k]);
    out[k] = lanes[0];
  }
}

// Errors of one byte whose word lies below the bound. The word, being uniform, tells the first cell in error (the chances
// are laid end to end); fresh words tell the cells after it, so that the joint distribution is exact.
inline std::uint8_t byte_errors(const LevelModel& m, const Keys& keys, std::uint64_t weight, std::uint32_t event,
                                std::uint32_t word, std::uint8_t byte) {
  const std::uint32_t cells = 8 / m.bits;
  const std::uint32_t mask = (1U << m.bits) - 1U;
  const double u = static_cast<double>(word) * 0x1p-32;
  double clean = 1.0;
  bool found = false;
  unsigned out = byte;
  for (std::uint32_t c = 0; c < cells; ++c) {
    const std::uint32_t shift = c * m.bits;
    const std::uint32_t level = m.level_of[(byte >> shift) & mask];
    const double up = static_cast<double>(m.up[level]);
    const double chance = up + static_cast<double>(m.down[level]);
    std::uint32_t words[4];
    if (!found) {
      if (u >= 1.0 - clean * (1.0 - chance)) {
        clean *= 1.0 - chance;
        continue;
      }
      found = true;
      block_of(keys, {memristore::kPurposeLevelMore, event * 256U + c / 2}, weight, words);
    } else {
      block_of(keys, {memristore::kPurposeLevelMore, event * 256U + c / 2}, weight, words);
      if (static_cast<double>(words[2 * (c % 2)]) * 0x1p-32 >= chance) continue;
    }
    const bool rises = static_cast<double>(words[2 * (c % 2) + 1]) * 0x1p-32 * chance < up;
    const std::uint32_t to = rises ? level + 1 : level - 1;
    out = (out & ~(mask << shift)) | (static_cast<unsigned>(m.label_of[to & mask]) << shift);
  }
  return static_cast<std::uint8_t>(out);
}

// Errors of the weights of one quad, whose words are given; `out` holds the bytes as stored.
inline void quad_level_errors(const LevelModel& model, const Keys& keys, Cells weights, std::uint32_t event,
                              std::uint64_t quad, const U w[4], std::uint8_t* out) {
  M rare[4];
  for (int k = 0; k < 4; ++k) rare[k] = less_u(w[k], setu(model.bound));
  if (!any((rare[0] | rare[1]) | (rare[2] | rare[3]))) return;
  const std::uint64_t start = quad / kParts * kGroup;
  for (int k = 0; k < 4; ++k) {
    std::uint32_t lanes[kLanes];
    storeu(lanes, w[k]);
    for (std::uint32_t hits = mask_bits(rare[k]); hits != 0; hits &= hits - 1) {
      const int lane = __builtin_ctz(hits);
      const std::uint64_t weight =
          start + offset(static_cast<int>(quad % kParts), k) + static_cast<std::uint64_t>(lane);
      if (weight < weights.first || weight >= weights.first + weights.n) continue;
      std::uint8_t& byte = out[weight - weights.first];
      byte = byte_errors(model, keys, weight, event, lanes[lane], byte);
    }
  }
}

void k_level_errors(const LevelModel& model, Cells weights, std::uint32_t event, const std::uint8_t* in,
                    std::uint8_t* out) {
  constexpr std::uint64_t kTile = kTileGroups * kGroup;
  const Keys keys = schedule(weights.key);
  const std::uint64_t end = weights.first + weights.n;
  for (std::uint64_t tile = weights.first / kTile; tile * kTile < end; ++tile) {
    const std::uint64_t lo = tile * kTile < weights.first ? weights.first : tile * kTile;
    const std::uint64_t hi = (tile + 1) * kTile < end ? (tile + 1) * kTile : end;
    if (in != out) std::memcpy(out + (lo - weights.first), in + (lo - weights.first), hi - lo);
    U words[kTileQuads][4];
    tile_words(keys, {memristore::kPurposeLevel, event}, tile, words);
    for (int q = 0; q < kTileQuads; ++q) {
      const std::uint64_t quad = tile * kTileQuads + static_cast<std::uint64_t>(q);
      quad_level_errors(model, keys, weights, event, quad, words[q], out);
    }
  }
}

}  // namespace
