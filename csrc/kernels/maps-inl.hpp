// Maps between values and targets: straight loops that the compiler vectorises; multiply-add is explicit.
namespace {

void k_affine(const float* values, std::size_t n, float scale, float offset, float lo, float hi, float* out) {
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store(out + i, min(max(fma(load(values + i), set(scale), set(offset)), set(lo)), set(hi)));
  for (; i < n; ++i) {
    const float y = __builtin_fmaf(values[i], scale, offset);
    const float clipped = y > lo ? y : lo;
    out[i] = clipped < hi ? clipped : hi;
  }
}

void k_lookup(const float* values, std::size_t n, const float* table, std::size_t knots, float x0, float inv_step,
              bool extrapolate, float* out) {
  const float last = static_cast<float>(knots - 2);
  for (std::size_t i = 0; i < n; ++i) {
    const float t = (values[i] - x0) * inv_step;
    const float lower = t > 0.0F ? t : 0.0F;
    const auto k = static_cast<std::int32_t>(lower < last ? lower : last);
    float f = t - static_cast<float>(k);
    if (!extrapolate) {
      f = f > 0.0F ? f : 0.0F;
      f = f < 1.0F ? f : 1.0F;
    }
    out[i] = __builtin_fmaf(f, table[k + 1] - table[k], table[k]);
  }
}

void k_split_sign(const float* values, std::size_t n, float* magnitude, std::uint8_t* signs) {
  for (std::size_t i = 0; i < n; ++i) magnitude[i] = __builtin_fabsf(values[i]);
  for (std::size_t byte = 0; byte * 8 < n; ++byte) {
    unsigned packed = 0;
    const std::size_t count = n - byte * 8 < 8 ? n - byte * 8 : 8;
    for (std::size_t j = 0; j < count; ++j) packed |= (values[byte * 8 + j] < 0.0F ? 1U : 0U) << j;
    signs[byte] = static_cast<std::uint8_t>(packed);
  }
}

void k_join_sign(const float* magnitude, const std::uint8_t* signs, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) {
    const bool negative = ((signs[i / 8] >> (i % 8)) & 1U) != 0;
    out[i] = negative ? -magnitude[i] : magnitude[i];
  }
}

void k_differential(const float* values, std::size_t n, float* positive, float* negative) {
  for (std::size_t i = 0; i < n; ++i) {
    positive[i] = values[i] > 0.0F ? values[i] : 0.0F;
    negative[i] = values[i] < 0.0F ? -values[i] : 0.0F;
  }
}

}  // namespace
