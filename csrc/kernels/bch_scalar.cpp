// Any machine: its baseline instructions.
#define MEMRISTORE_BCH bch_scalar
#include "kernels/bch-inl.hpp"
