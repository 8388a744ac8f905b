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

// Arithmetic in vectors, knots fetched one by one: gathers are slow on many processors.
void k_lookup(const float* values, std::size_t n, const float* table, std::size_t knots, float x0, float inv_step,
              bool extrapolate, float* out) {
  const float last = static_cast<float>(knots - 2);
  for (std::size_t i = 0; i < n; i += kLanes) {
    float padded[kLanes];
    const std::size_t here = n - i < kLanes ? n - i : static_cast<std::size_t>(kLanes);
    const float* from = values + i;
    if (here < kLanes) {
      for (std::size_t j = 0; j < kLanes; ++j) padded[j] = j < here ? from[j] : x0;
      from = padded;
    }
    const F t = (load(from) - set(x0)) * set(inv_step);
    const U k = to_int(min(max(t, set(0.0F)), set(last)));
    F f = t - from_int(k);
    if (!extrapolate) f = min(max(f, set(0.0F)), set(1.0F));
    const F low = fetch(table, k);
    const F y = fma(f, fetch(table + 1, k) - low, low);
    if (here == kLanes) {
      store(out + i, y);
      continue;
    }
    store(padded, y);
    for (std::size_t j = 0; j < here; ++j) out[i + j] = padded[j];
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
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    std::uint32_t chosen = signs[i / 8];
    if constexpr (kLanes == 16) chosen |= static_cast<std::uint32_t>(signs[i / 8 + 1]) << 8;
    store(out + i, negate_if(chosen >> (i % 8), load(magnitude + i)));
  }
  for (; i < n; ++i) out[i] = ((signs[i / 8] >> (i % 8)) & 1U) != 0 ? -magnitude[i] : magnitude[i];
}

// Flag of values [i, i + kLanes) in a bit array, least significant bit first; i is a multiple of kLanes.
inline std::uint32_t flags_at(const std::uint8_t* flags, std::size_t i) {
  std::uint32_t chosen = flags[i / 8];
  if constexpr (kLanes == 16) chosen |= static_cast<std::uint32_t>(flags[i / 8 + 1]) << 8;
  return (chosen >> (i % 8)) & ((1U << kLanes) - 1U);
}

// Values by size: |v| <= threshold to `small`, the others to `large`, in order, and a flag for each (1: large). Both
// outputs need room for n floats, since whole vectors are stored at or before the place that was read; `small` may be
// `values` itself. Returns the number of large ones.
std::size_t k_partition(const float* values, std::size_t n, float threshold, float* small, float* large,
                        std::uint8_t* flags) {
  std::size_t smalls = 0;
  std::size_t larges = 0;
  std::size_t i = 0;
  for (std::size_t byte = 0; byte * 8 < n; ++byte) flags[byte] = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F v = load(values + i);
    const M is_small = less_equal(floats(bits(v) & setu(0x7FFFFFFFU)), set(threshold));
    const M is_large = andnot(is_small, bit_mask((1U << kLanes) - 1U));
    smalls += compress(small + smalls, is_small, v);
    larges += compress(large + larges, is_large, v);
    const std::uint32_t chosen = mask_bits(is_large);
    flags[i / 8] = static_cast<std::uint8_t>(flags[i / 8] | (chosen << (i % 8)));
    if constexpr (kLanes == 16) flags[i / 8 + 1] = static_cast<std::uint8_t>(chosen >> 8);
  }
  for (; i < n; ++i) {
    const bool is_small = __builtin_fabsf(values[i]) <= threshold;
    (is_small ? small[smalls++] : large[larges++]) = values[i];
    if (!is_small) flags[i / 8] = static_cast<std::uint8_t>(flags[i / 8] | (1U << (i % 8)));
  }
  return larges;
}

// Undoes k_partition. Values that flags ask for beyond the end of `small` or `large` are zero (damaged flags).
// `small` or `large` may be the end of `out` where their lengths are those that the flags tell: no value is then written
// over one that is still to be read.
void k_merge(const std::uint8_t* flags, std::size_t n, const float* small, std::size_t smalls, const float* large,
             std::size_t larges, float* out) {
  std::size_t s = 0;
  std::size_t l = 0;
  std::size_t i = 0;
  for (; i + kLanes <= n && s + kLanes <= smalls && l + kLanes <= larges; i += kLanes) {
    const std::uint32_t chosen = flags_at(flags, i);
    const M is_large = bit_mask(chosen);
    const M is_small = bit_mask(~chosen & ((1U << kLanes) - 1U));
    store(out + i, select(is_large, expand(large + l, is_large), expand(small + s, is_small)));
    const auto count = static_cast<std::size_t>(__builtin_popcount(chosen));
    l += count;
    s += kLanes - count;
  }
  for (; i < n; ++i) {
    const bool is_large = ((flags[i / 8] >> (i % 8)) & 1U) != 0;
    if (is_large)
      out[i] = l < larges ? large[l] : 0.0F;
    else
      out[i] = s < smalls ? small[s] : 0.0F;
    (is_large ? l : s) += 1;
  }
}

void k_differential(const float* values, std::size_t n, float* positive, float* negative) {
  for (std::size_t i = 0; i < n; ++i) {
    positive[i] = values[i] > 0.0F ? values[i] : 0.0F;
    negative[i] = values[i] < 0.0F ? -values[i] : 0.0F;
  }
}

}  // namespace
