// The kernels for any processor.

#define ISA plain
#define VL 4
#define BLOCK_ROWS 4
#define CAUSAL_ROWS 4
#define BLOCK_VECTORS 2
#include "../kernels.h"
