#include "kernels/bytes_neon.hpp"
#include "kernels/simd_neon.hpp"

#define MEMRISTORE_LEVEL "neon"
#define MEMRISTORE_TABLE table_neon
#include "kernels/kernels-inl.hpp"
