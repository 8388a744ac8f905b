// AVX2 and carry-less multiplication.
#define MEMRISTORE_BCH bch_avx2
#include "kernels/bch-inl.hpp"
