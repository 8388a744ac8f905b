// Vector mathematics. Included after one simd_*.hpp; every function is a fixed sequence of IEEE operations, so all
// levels give the same bits. Polynomials: minimax by iteratively reweighted least squares, then rounded to float.
#pragma once
#include "memristore/counter.hpp"
#include "memristore/device.hpp"

namespace {

using memristore::Curve;

// log2 of a positive normal float. Mantissa in [sqrt(1/2), sqrt(2)), degree 8; relative error of the polynomial 1.7e-7.
inline F log2(F x) {
  const U i = bits(x);
  const U shifted = i - setu(0x3F3504F3U);
  const U e = sar<23>(shifted);
  const F f = floats(i - shl<23>(e)) - set(1.0F);
  F p = set(-1.458097845e-01F);
  p = fma(p, f, set(2.340415567e-01F));
  p = fma(p, f, set(-2.488771379e-01F));
  p = fma(p, f, set(2.870988250e-01F));
  p = fma(p, f, set(-3.602396250e-01F));
  p = fma(p, f, set(4.809232354e-01F));
  p = fma(p, f, set(-7.213528156e-01F));
  p = fma(p, f, set(1.442694902e+00F));
  return fma(p, f, from_int(e));
}

// 2^x for x clipped to [-126, 126]; degree 6, relative error of the polynomial 2e-9.
inline F exp2(F x) {
  x = min(max(x, set(-126.0F)), set(126.0F));
  const F round = set(12582912.0F);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const F shifted = x + round;
  const F f = x - (shifted - round);
  F p = set(1.534580806e-04F);
  p = fma(p, f, set(1.339993090e-03F));
  p = fma(p, f, set(9.618489072e-03F));
  p = fma(p, f, set(5.550328642e-02F));
  p = fma(p, f, set(2.402264625e-01F));
  p = fma(p, f, set(6.931471825e-01F));
  p = fma(p, f, set(1.0F));
  return floats(bits(p) + shl<23>(bits(shifted)));
}

// Two normals from two words (counter.hpp): r cos and r sin.
inline void box_muller(U even, U odd, F& z0, F& z1) {
  const F u = fma(from_int(shr<1>(even)), set(0x1p-31F), set(0x1p-32F));
  const F r = sqrt(log2(u) * set(-1.386294361F));
  // Quadrant from the top two bits, the rest centred: angle = (q + 1/2 + t) * pi/2 with |t| <= 1/2. Adding 2^29 first
  // turns that into the nearest multiple of pi/2, so that angle = (q + t) * pi/2.
  const U turned = odd + setu(0x20000000U);
  const F t = from_int(shl<2>(odd)) * set(0x1p-32F);
  const F s = t * t;
  F sine = set(-4.601669032e-03F);
  sine = fma(sine, s, set(7.968004048e-02F));
  sine = fma(sine, s, set(-6.459634900e-01F));
  sine = fma(sine, s, set(1.570796371e+00F)) * t;
  F cosine = set(-2.039864659e-02F);
  cosine = fma(cosine, s, set(2.535949647e-01F));
  cosine = fma(cosine, s, set(-1.233696699e+00F));
  cosine = fma(cosine, s, set(9.999999404e-01F));
  const M swap = nonzero(turned & setu(0x40000000U));
  const U top = setu(0x80000000U);
  const U sign_sine = turned & top;
  const U sign_cosine = (turned + setu(0x40000000U)) & top;
  z0 = r * floats(bits(select(swap, sine, cosine)) ^ sign_cosine);
  z1 = r * floats(bits(select(swap, cosine, sine)) ^ sign_sine);
}

// A curve at four vectors. `l` holds log2 of the clipped argument where the form needs it.
inline bool needs_log(const Curve& c) { return c.form == memristore::kPolyLog || c.form == memristore::kExpLog; }

inline void evaluate(const Curve& c, const F x[4], const F l[4], F out[4]) {
  if (c.form == memristore::kZero) {
    for (int w = 0; w < 4; ++w) out[w] = set(0.0F);
    return;
  }
  if (c.form == memristore::kTable) {
    const F last = set(static_cast<float>(c.n - 2));
    for (int w = 0; w < 4; ++w) {
      const F t = (x[w] - set(c.x0)) * set(c.inv_step);
      const U k = to_int(min(max(t, set(0.0F)), last));
      const F f = min(max(t - from_int(k), set(0.0F)), set(1.0F));
      out[w] =
          c.n <= memristore::kFewKnots ? fma(f, lookup(c.b, k), lookup(c.a, k)) : fma(f, fetch(c.b, k), fetch(c.a, k));
    }
  } else {
    const F* v = needs_log(c) ? l : x;
    for (int w = 0; w < 4; ++w) out[w] = set(c.a[c.n - 1]);
    for (int k = c.n - 2; k >= 0; --k)
      for (int w = 0; w < 4; ++w) out[w] = fma(out[w], v[w], set(c.a[k]));
    if (c.form == memristore::kExpLog)
      for (int w = 0; w < 4; ++w) out[w] = exp2(out[w]);
  }
  for (int w = 0; w < 4; ++w) out[w] = min(max(out[w], set(c.lo)), set(c.hi));
}

inline void log2_floor(const F x[4], F out[4]) {
  for (int w = 0; w < 4; ++w) out[w] = log2(max(x[w], set(memristore::kLogFloor)));
}

}  // namespace
