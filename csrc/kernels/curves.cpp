// Curves through planes. One build serves every level: multiplications and additions in a fixed order, no fused ones.
#include "memristore/kernels.hpp"

namespace memristore {
namespace {

// Knot below a fractional index, so that the next one exists as well; NaN goes to the first.
inline std::size_t knot_below(float at, std::size_t knots) {
  if (!(at > 0.0F)) return 0;
  const std::size_t last = knots - 2;
  return at < static_cast<float>(last) ? static_cast<std::size_t>(at) : last;
}

}  // namespace

void lookup_plane(const float* row, const float* column, std::size_t n, const float* table, std::size_t rows,
                  std::size_t columns, float* out) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t r = knot_below(row[i], rows);
    const std::size_t c = knot_below(column[i], columns);
    const float p = row[i] - static_cast<float>(r);
    const float q = column[i] - static_cast<float>(c);
    const float* at = table + r * columns + c;
    const float near = at[0] + q * (at[1] - at[0]);
    const float far = at[columns] + q * (at[columns + 1] - at[columns]);
    out[i] = near + p * (far - near);
  }
}

void nearest_points(const float* first, const float* second, std::size_t n, const CurvePoints& curve,
                    std::uint16_t* out) {
  constexpr std::size_t kSide = 8;
  for (std::size_t i = 0; i < n; ++i) {
    // Eight running minima, so that the compiler may keep them side by side.
    float least[kSide];
    std::uint32_t where[kSide];
    for (std::size_t k = 0; k < kSide; ++k) {
      least[k] = curve.offset[k] - (first[i] * curve.first[k] + second[i] * curve.second[k]);
      where[k] = static_cast<std::uint32_t>(k);
    }
    for (std::size_t j = kSide; j < curve.n; j += kSide)
      for (std::size_t k = 0; k < kSide; ++k) {
        const float cost = curve.offset[j + k] - (first[i] * curve.first[j + k] + second[i] * curve.second[j + k]);
        const bool nearer = cost < least[k];
        least[k] = nearer ? cost : least[k];
        where[k] = nearer ? static_cast<std::uint32_t>(j + k) : where[k];
      }
    std::size_t best = 0;
    for (std::size_t k = 1; k < kSide; ++k)
      if (least[k] < least[best] || (least[k] == least[best] && where[k] < where[best])) best = k;
    out[i] = static_cast<std::uint16_t>(where[best]);
  }
}

}  // namespace memristore
