// Small matrix products on data in the first two caches.
//
// A is read element by element through two strides, so that it may be transposed; B and C are
// row-major. All sizes are in floats.

#pragma once
#include "vector.h"

namespace ISA {

struct Left {  // A(i, k) = data[i * row + k * column]
  const float* data;
  long row, column;
};

template <int ROWS, int VECTORS>
static inline void product_block(long K, Left a, const float* b, long ldb, float* c, long ldc,
                                 bool accumulate, int tail) {
  Vec total[ROWS][VECTORS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v)
      total[r][v] = accumulate ? load(c + r * ldc + v * VL, v + 1 < VECTORS ? VL : tail) : Vec{};
  for (long k = 0; k < K; ++k) {
    Vec right[VECTORS];
    for (int v = 0; v < VECTORS; ++v)
      right[v] = load(b + k * ldb + v * VL, v + 1 < VECTORS ? VL : tail);
    for (int r = 0; r < ROWS; ++r) {
      const float left = a.data[r * a.row + k * a.column];
      for (int v = 0; v < VECTORS; ++v) total[r][v] += left * right[v];
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v)
      store(c + r * ldc + v * VL, total[r][v], v + 1 < VECTORS ? VL : tail);
}

template <int ROWS>
static inline void product_rows(long N, long K, Left a, const float* b, long ldb, float* c,
                                long ldc, bool accumulate) {
  long n = 0;
  for (; n + BLOCK_VECTORS * VL <= N; n += BLOCK_VECTORS * VL)
    product_block<ROWS, BLOCK_VECTORS>(K, a, b + n, ldb, c + n, ldc, accumulate, VL);
  for (; n + VL <= N; n += VL)
    product_block<ROWS, 1>(K, a, b + n, ldb, c + n, ldc, accumulate, VL);
  if (n < N) product_block<ROWS, 1>(K, a, b + n, ldb, c + n, ldc, accumulate, int(N - n));
}

// Up to BLOCK_ROWS rows of C (+)= A B.
static void product_of_rows(long M, long N, long K, Left a, const float* b, long ldb, float* c,
                            long ldc, bool accumulate) {
  if (M == BLOCK_ROWS) {
    product_rows<BLOCK_ROWS>(N, K, a, b, ldb, c, ldc, accumulate);
    return;
  }
  for (; M >= 4; M -= 4, a.data += 4 * a.row, c += 4 * ldc)
    product_rows<4>(N, K, a, b, ldb, c, ldc, accumulate);
  for (; M >= 1; --M, a.data += a.row, c += ldc)
    product_rows<1>(N, K, a, b, ldb, c, ldc, accumulate);
}

// C (M x N) = A (M x K) B (K x N), or C += A B.
static void product(long M, long N, long K, Left a, const float* b, long ldb, float* c, long ldc,
                    bool accumulate) {
  for (long m = 0; m < M; m += BLOCK_ROWS) {
    const long rows = M - m < BLOCK_ROWS ? M - m : BLOCK_ROWS;
    product_of_rows(rows, N, K, {a.data + m * a.row, a.row, a.column}, b, ldb, c + m * ldc, ldc,
                    accumulate);
  }
}

static void transpose(long rows, long columns, const float* a, long lda, float* b, long ldb) {
  for (long r0 = 0; r0 < rows; r0 += 16)
    for (long c0 = 0; c0 < columns; c0 += 16)
      for (long r = r0; r < rows && r < r0 + 16; ++r)
        for (long c = c0; c < columns && c < c0 + 16; ++c) b[c * ldb + r] = a[r * lda + c];
}

}  // namespace ISA
