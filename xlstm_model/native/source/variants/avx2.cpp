// The kernels for processors with AVX2.

#if defined(__x86_64__) || defined(__i386__)
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#pragma GCC target("avx2,fma")
#define ISA avx2
#define VL 8
#define BLOCK_ROWS 4
#define CAUSAL_ROWS 4
#define BLOCK_VECTORS 2
#include "../kernels.h"
#endif
