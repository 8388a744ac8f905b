// The walk through the trellis: levels to symbols and back, levels to values.
#include "memristore/trellis.hpp"

namespace memristore {
namespace {

// Where the parity of a level leads from each state.
struct Walk {
  std::uint8_t next[kTrellisMaxStates][2];
  std::uint8_t quantiser[kTrellisMaxStates];
};

constexpr Walk make_walk(std::uint32_t states) {
  Walk walk = {};
  for (std::uint32_t s = 0; s < states; ++s) {
    walk.quantiser[s] = static_cast<std::uint8_t>(trellis_quantiser(states, s));
    for (std::uint32_t p = 0; p < 2; ++p)
      walk.next[s][p] = static_cast<std::uint8_t>(((s << 1) | (p ^ trellis_parity(states, s))) & (states - 1));
  }
  return walk;
}
// With one state only levels of quantiser 0 are left: a uniform quantiser, whose points are the even ones.
constexpr Walk kWalks[] = {make_walk(4), make_walk(8), make_walk(16), make_walk(32), make_walk(64), make_walk(1)};

const Walk& walk_of(std::uint32_t states) {
  return kWalks[states == 4 ? 0 : states == 8 ? 1 : states == 16 ? 2 : states == 32 ? 3 : states == 64 ? 4 : 5];
}

// Place in the trellis and what it remembers of the points so far.
struct Place {
  std::uint32_t state;
  std::int32_t mean;
};

inline std::uint32_t class_of(const TrellisMemory& memory, std::int32_t mean) {
  std::uint32_t reached = 0;
  for (std::uint32_t i = 0; i < memory.count; ++i)
    reached += static_cast<std::uint32_t>(mean) >= memory.bounds[i] ? 1U : 0U;
  return reached;
}
inline std::int32_t remember(const TrellisMemory& memory, std::int32_t mean, std::int32_t magnitude) {
  constexpr std::int32_t most = (1 << 30) - 1;
  const std::int32_t now = magnitude < most / 256 ? magnitude * 256 : most;
  return memory.decay == 0 ? 0 : mean + ((now - mean) >> memory.decay);
}
inline std::uint32_t context_of(const TrellisContexts& c, const Place& place) {
  return c.group[place.state] + c.groups * class_of(c.memory, place.mean);
}
inline std::int32_t symbol_of(std::int32_t level, std::int32_t limit) {
  return (level < -limit ? -limit : (level > limit ? limit : level)) + limit;
}
inline Place step(const TrellisContexts& c, const Walk& walk, const Place& place, std::int32_t level) {
  const std::int32_t q = 2 * level + walk.quantiser[place.state];
  return {walk.next[place.state][level & 1], remember(c.memory, place.mean, q < 0 ? -q : q)};
}

}  // namespace

void trellis_count(const TrellisContexts& c, const std::int32_t* levels, std::size_t n, std::uint32_t* counts) {
  const Walk& walk = walk_of(c.states);
  const std::size_t width = 2 * static_cast<std::size_t>(c.limit) + 1;
  Place place = {0, 0};
  for (std::size_t i = 0; i < n; ++i) {
    ++counts[context_of(c, place) * width + static_cast<std::size_t>(symbol_of(levels[i], c.limit))];
    place = step(c, walk, place, levels[i]);
  }
}

std::size_t trellis_split(const TrellisContexts& c, const std::int32_t* levels, std::size_t n, std::uint32_t* counts,
                          std::size_t contexts, std::int32_t* symbols, std::int32_t* escapes) {
  const Walk& walk = walk_of(c.states);
  for (std::size_t k = 0; k < contexts; ++k) counts[k] = 0;
  Place place = {0, 0};
  for (std::size_t i = 0; i < n; ++i) {
    ++counts[context_of(c, place)];
    place = step(c, walk, place, levels[i]);
  }
  std::uint32_t next[kTrellisMaxContexts];
  for (std::uint32_t k = 0, start = 0; k < contexts; start += counts[k++]) next[k] = start;
  std::size_t escaped = 0;
  place = {0, 0};
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t symbol = symbol_of(levels[i], c.limit);
    symbols[next[context_of(c, place)]++] = symbol;
    if (symbol == 0) escapes[escaped++] = -levels[i] - c.limit;
    if (symbol == 2 * c.limit) escapes[escaped++] = levels[i] - c.limit;
    place = step(c, walk, place, levels[i]);
  }
  return escaped;
}

void trellis_join(const TrellisContexts& c, const std::int32_t* symbols, const std::uint32_t* counts,
                  std::size_t contexts, const std::int32_t* escapes, std::size_t escaped, std::size_t n,
                  std::int32_t* levels) {
  const Walk& walk = walk_of(c.states);
  std::uint32_t next[kTrellisMaxContexts];
  std::uint32_t end[kTrellisMaxContexts];
  for (std::uint32_t k = 0, start = 0; k < contexts; ++k) {
    next[k] = start;
    end[k] = start += counts[k];
  }
  std::size_t used = 0;
  Place place = {0, 0};
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t context = context_of(c, place);
    std::int32_t level = 0;
    if (next[context] < end[context]) {
      level = symbols[next[context]++] - c.limit;
      if (level == c.limit || level == -c.limit) {
        const std::int32_t more = used < escaped ? escapes[used++] : 0;
        level += level < 0 ? -more : more;
      }
    }
    levels[i] = level;
    place = step(c, walk, place, level);
  }
}

void trellis_classes(const TrellisMemory& memory, const float* points, std::size_t n, std::uint8_t* classes) {
  constexpr float most = 4e6F;
  std::int32_t mean = 0;
  for (std::size_t i = 0; i < n; ++i) {
    classes[i] = static_cast<std::uint8_t>(class_of(memory, mean));
    const float size = points[i] < 0.0F ? -points[i] : points[i];
    mean = remember(memory, mean, static_cast<std::int32_t>((size < most ? size : most) + 0.5F));
  }
}

void trellis_points(std::uint32_t states, std::uint32_t state, const float* shifts, const std::int32_t* levels,
                    std::size_t n, float* out) {
  const Walk& walk = walk_of(states);
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t q = 2 * levels[i] + walk.quantiser[state];
    const std::int32_t size = q < 0 ? -q : q;
    const float shift = size == 0 ? 0.0F : shifts[(size < 5 ? size : 5) - 1];
    out[i] = static_cast<float>(q) + (q < 0 ? -shift : shift);
    state = walk.next[state][levels[i] & 1];
  }
}

}  // namespace memristore
