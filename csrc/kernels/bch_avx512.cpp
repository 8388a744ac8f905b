// AVX-512, carry-less multiplication and GFNI.
#define MEMRISTORE_BCH bch_avx512
#include "kernels/bch-inl.hpp"
