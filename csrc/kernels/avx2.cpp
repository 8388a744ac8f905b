#include "kernels/bytes_avx2.hpp"
#include "kernels/simd_avx2.hpp"

#define MEMRISTORE_LEVEL "avx2"
#define MEMRISTORE_TABLE table_avx2
#include "kernels/kernels-inl.hpp"
