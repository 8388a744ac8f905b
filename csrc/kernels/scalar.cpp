#include "kernels/bytes_scalar.hpp"
#include "kernels/simd_scalar.hpp"

#define MEMRISTORE_LEVEL "scalar"
#define MEMRISTORE_TABLE table_scalar
#include "kernels/kernels-inl.hpp"
