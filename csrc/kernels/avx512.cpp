#include "kernels/bytes_avx512.hpp"
#include "kernels/simd_avx512.hpp"

#define MEMRISTORE_LEVEL "avx512"
#define MEMRISTORE_TABLE table_avx512
#include "kernels/kernels-inl.hpp"
