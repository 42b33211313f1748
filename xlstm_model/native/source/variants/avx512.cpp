// The kernels for processors with AVX512.

#if defined(__x86_64__) || defined(__i386__)
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define ISA avx512
#define VL 16
#define BLOCK_ROWS 12
#define CAUSAL_ROWS 8
#define BLOCK_VECTORS 2
#include "../kernels.h"
#endif
