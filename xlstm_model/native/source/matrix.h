// Small matrix products on data in the first two caches.
//
// A is read element by element through two strides, so that it may be transposed; B and C are
// row-major, or B is cut into panels. All sizes are in floats.

#pragma once
#include "vector.h"

namespace ISA {

struct Left {  // A(i, k) = data[i * row + k * column]
  const float* data;
  int64_t row, column;
};

static const int64_t PANEL = BLOCK_VECTORS * VL;

// WHOLE: all vectors are full, otherwise the last one has `tail` columns. A comes in three numbers, as
// a structure would go through memory.
template <int ROWS, int VECTORS, bool WHOLE>
static inline void product_block(int64_t K, const float* a, int64_t row, int64_t column,
                                 const float* b, int64_t ldb, float* c, int64_t ldc,
                                 bool accumulate, int tail) {
  Vec total[ROWS][VECTORS];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v)
      total[r][v] = !accumulate ? Vec{}
                    : WHOLE || v + 1 < VECTORS ? load(c + r * ldc + v * VL)
                                               : load(c + r * ldc + v * VL, tail);
  for (int64_t k = 0; k < K; ++k) {
    Vec right[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v)
      right[v] = WHOLE || v + 1 < VECTORS ? load(b + k * ldb + v * VL)
                                          : load(b + k * ldb + v * VL, tail);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const float left = a[r * row + k * column];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) total[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v)
      if (WHOLE || v + 1 < VECTORS)
        store(c + r * ldc + v * VL, total[r][v]);
      else
        store(c + r * ldc + v * VL, total[r][v], tail);
}

template <int ROWS>
static inline void product_rows(int64_t N, int64_t K, const float* a, int64_t row, int64_t column,
                                const float* b, int64_t ldb, float* c, int64_t ldc,
                                bool accumulate) {
  int64_t n = 0;
  for (; n + PANEL <= N; n += PANEL)
    product_block<ROWS, BLOCK_VECTORS, true>(K, a, row, column, b + n, ldb, c + n, ldc,
                                             accumulate, VL);
  for (; n + VL <= N; n += VL)
    product_block<ROWS, 1, true>(K, a, row, column, b + n, ldb, c + n, ldc, accumulate,
                                 VL);
  if (n < N)
    product_block<ROWS, 1, false>(K, a, row, column, b + n, ldb, c + n, ldc, accumulate,
                                  int(N - n));
}

// As many rows as there are, BLOCK_ROWS at most: fewer would not keep the units for
// multiplications busy, so that what is left over counts.
template <int ROWS>
static inline void product_of_rows(int64_t M, int64_t N, int64_t K, const float* a, int64_t row,
                                   int64_t column, const float* b, int64_t ldb, float* c,
                                   int64_t ldc, bool accumulate) {
  if (M == ROWS)
    product_rows<ROWS>(N, K, a, row, column, b, ldb, c, ldc, accumulate);
  else if constexpr (ROWS > 1)
    product_of_rows<ROWS - 1>(M, N, K, a, row, column, b, ldb, c, ldc, accumulate);
}

// C (M x N) = A (M x K) B (K x N), or C += A B.
static void product(int64_t M, int64_t N, int64_t K, Left a, const float* b, int64_t ldb, float* c,
                    int64_t ldc, bool accumulate) {
  // Blocks as even as they can be: a small last one would keep the units half busy.
  const int64_t blocks = (M + BLOCK_ROWS - 1) / BLOCK_ROWS;
  const int64_t most = blocks ? (M + blocks - 1) / blocks : 1;
  for (int64_t m = 0; m < M; m += most) {
    const int64_t rows = M - m < most ? M - m : most;
    product_of_rows<BLOCK_ROWS>(rows, N, K, a.data + m * a.row, a.row, a.column, b, ldb,
                                c + m * ldc, ldc, accumulate);
  }
}

// Size of B (K x N) cut into panels of PANEL columns, each one after another and full.
static inline int64_t panels(int64_t K, int64_t N) { return (N + PANEL - 1) / PANEL * PANEL * K; }

// B(k, n) = from[k * row + n * column] into panels.
static void pack(int64_t K, int64_t N, const float* from, int64_t row, int64_t column, float* to) {
  for (int64_t n = 0; n < N; n += PANEL, to += K * PANEL) {
    const int64_t width = N - n < PANEL ? N - n : PANEL;
    if (width < PANEL) std::memset(to, 0, sizeof(float) * K * PANEL);
    for (int64_t k0 = 0; k0 < K; k0 += 16)
      for (int64_t j = 0; j < width; ++j)
        for (int64_t k = k0; k < K && k < k0 + 16; ++k)
          to[k * PANEL + j] = from[k * row + (n + j) * column];
  }
}

// As `product`, with B in panels.
static void packed_product(int64_t M, int64_t N, int64_t K, Left a, const float* b, float* c,
                           int64_t ldc, bool accumulate) {
  for (int64_t n = 0; n < N; n += PANEL, b += K * PANEL)
    product(M, N - n < PANEL ? N - n : PANEL, K, a, b, PANEL, c + n, ldc, accumulate);
}

// In registers: rows become lanes.
template <int SIZE>
SMALL void transpose_pairs(Vec (&rows)[VL]) {
#pragma GCC unroll 16
  for (int i = 0; i < VL; ++i) {
    if (i & SIZE) continue;
    const Vec a = rows[i], b = rows[i + SIZE];
    rows[i] = shuffled<Take<SIZE, 0>>(a, b);
    rows[i + SIZE] = shuffled<Take<SIZE, 1>>(a, b);
  }
  if constexpr (2 * SIZE < VL) transpose_pairs<2 * SIZE>(rows);
}

// b (columns x rows) = aᵀ; b's rows are full vectors, 0 beyond a's rows.
static void transpose(int64_t rows, int64_t columns, const float* a, int64_t lda, float* b,
                      int64_t ldb) {
  for (int64_t r0 = 0; r0 < rows; r0 += VL)
    for (int64_t c0 = 0; c0 < columns; c0 += VL) {
      const int height = lanes(rows - r0), width = lanes(columns - c0);
      Vec block[VL];
      for (int r = 0; r < VL; ++r)
        block[r] = r < height ? load(a + (r0 + r) * lda + c0, width) : Vec{};
      transpose_pairs<1>(block);
      for (int c = 0; c < width; ++c) store(b + (c0 + c) * ldb + r0, block[c]);
    }
}

// R rows of a matrix (N x K, row-major) times B vectors: products along the rows.
template <int R, int B, bool WHOLE>
static inline void dots(int64_t K, const float* w, const float* x, int64_t ldx, float* y,
                        int64_t ldy, bool accumulate) {
  Vec total[R][B] = {};
  for (int64_t k = 0; k < K; k += VL) {
    const int count = WHOLE || K - k >= VL ? VL : int(K - k);
    Vec left[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) left[r] = load(w + r * K + k, count);
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      const Vec right = load(x + b * ldx + k, count);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) total[r][b] += left[r] * right;
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
    float found[R];
    if constexpr (R == 4)
      sums(total[0][b], total[1][b], total[2][b], total[3][b], found);
    else
      for (int r = 0; r < R; ++r) found[r] = sum(total[r][b]);
    for (int r = 0; r < R; ++r) y[b * ldy + r] = found[r] + (accumulate ? y[b * ldy + r] : 0.0f);
  }
}

template <int B, bool WHOLE>
static inline void linear_group(int64_t N, int64_t K, const float* w, const float* x, int64_t ldx,
                                float* y, int64_t ldy, bool accumulate) {
  int64_t n = 0;
  for (; n + 4 <= N; n += 4) dots<4, B, WHOLE>(K, w + n * K, x, ldx, y + n, ldy, accumulate);
  for (; n < N; ++n) dots<1, B, WHOLE>(K, w + n * K, x, ldx, y + n, ldy, accumulate);
}

template <bool WHOLE>
static inline void linear_rows(int64_t rows, int64_t N, int64_t K, const float* w, const float* x,
                               int64_t ldx, float* y, int64_t ldy, bool accumulate) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4)
    linear_group<4, WHOLE>(N, K, w, x + r * ldx, ldx, y + r * ldy, ldy, accumulate);
  for (; r < rows; ++r)
    linear_group<1, WHOLE>(N, K, w, x + r * ldx, ldx, y + r * ldy, ldy, accumulate);
}

// y (rows x N) = x (rows x K) Wᵀ, or y += x Wᵀ, for few rows or few columns and W (N x K) as layers
// hold it.
static void linear(int64_t rows, int64_t N, int64_t K, const float* w, const float* x, int64_t ldx,
                   float* y, int64_t ldy, bool accumulate = false) {
  if (K % VL)
    linear_rows<false>(rows, N, K, w, x, ldx, y, ldy, accumulate);
  else
    linear_rows<true>(rows, N, K, w, x, ldx, y, ldy, accumulate);
}

}  // namespace ISA
