// One chunk of the mLSTM: the factors its gates give, and its causal products. See mlstm_gates.py for
// the equations and the names.

#pragma once
#include <cmath>

#include "matrix.h"
#include "scratch.h"

namespace ISA {

// Factors of one chunk, as ChunkFactors in mlstm_gates.py.
struct Factors {
  float *high, *low, *peak, *floor, *read, *write;  // (padded length)
  float keep;
  double next;  // m after the chunk
};

static const float SMALLEST_EXPONENT = -64.0f;

// Turns exponents into weights, those too small into 0.
static void to_weights(float* exponents, int64_t count) {
  for (int64_t t = 0; t < count; t += VL) {
    const Vec x = load(exponents + t);
    store(exponents + t, x < SMALLEST_EXPONENT ? Vec{} : exponential(x));
  }
}

// Exponent of the denominator's lower bound exp(-m), within what floats can hold.
static inline float floor_exponent(double m) {
  const double low = 2 * std::log(1.1920928955078125e-07);
  const double high = std::log(3.4028234663852886e38) - 1;
  return float(-m < low ? low : (-m > high ? high : -m));
}

static void chunk_factors(const double* log_i, const double* log_f, int64_t count, double before,
                          double log_scale, Factors& f) {
  double total = 0, top = before;
  for (int64_t t = 0; t < count; ++t) {
    total += log_f[t];
    const double relative = log_i[t] - total, exponent = relative + log_scale;
    if (relative > top) top = relative;
    const float peak = top == -INFINITY ? 0.0f : float(top);
    f.peak[t] = peak;
    f.high[t] = float(exponent);
    f.low[t] = exponent == -INFINITY ? 0.0f : float(exponent - double(f.high[t]));
    f.floor[t] = floor_exponent(total + double(peak));
    f.read[t] = float(before - double(peak));
  }
  f.next = double(float(total + top));
  const double grown = total - (f.next == -INFINITY ? 0.0 : f.next);
  for (int64_t t = 0; t < count; ++t)
    f.write[t] = float(double(f.high[t]) + double(f.low[t]) + grown);
  const double keep = before + grown;
  f.keep = keep < SMALLEST_EXPONENT ? 0.0f : float(std::exp(keep));
  to_weights(f.read, count);
  to_weights(f.write, count);
  for (int64_t t = 0; t < count; t += VL) store(f.floor + t, exponential(load(f.floor + t)));
}

// m after the chunk that starts at `start`.
static double border_after(const double* log_i, const double* log_f, int64_t start, int64_t S,
                           int64_t length, double before) {
  double total = 0, top = before;
  for (int64_t t = start; t < S && t < start + length; ++t) {
    total += log_f[t];
    if (log_i[t] - total > top) top = log_i[t] - total;
  }
  return double(float(total + top));
}

// scores(t, s) *= exp(relative_s - peak_t) for s <= t, 0 beyond. Weights are kept where asked for.
static void weigh(int64_t count, int64_t width, const Factors& f, float* scores, float* weights) {
  for (int64_t t = 0; t < count; ++t) {
    float* row = scores + t * width;
    for (int64_t s = 0; s < width; s += VL) {
      Vec weight{};
      if (s <= t) {
        const Vec exponent = (load(f.high + s) - f.peak[t]) + load(f.low + s);
        weight = exponent < SMALLEST_EXPONENT ? Vec{} : exponential(exponent);
        weight = first_lanes(weight, t + 1 - s);
      }
      // Selection, as what stands beyond the causal half was never computed.
      store(row + s, s <= t ? load(row + s) * weight : Vec{});
      if (weights) store(weights + t * width + s, weight);
    }
  }
}

// Rows of one head of one sample into dense rows of `width`, with 0 at padding.
static void gather(const float* from, int64_t stride, int64_t count, int64_t D, int64_t width,
                   const double* log_i, float* to) {
  for (int64_t t = 0; t < count; ++t) {
    float* row = to + t * width;
    if (log_i[t] == -INFINITY)
      std::memset(row, 0, sizeof(float) * D);
    else
      copy(D, from + t * stride, row);
  }
}

static void scale_rows(int64_t count, int64_t width, const float* from, const float* by, float* to) {
  for (int64_t t = 0; t < count; ++t)
    for (int64_t d = 0; d < width; d += VL)
      store(to + t * width + d, load(from + t * width + d) * by[t]);
}

static void scale(int64_t size, float by, float* x) {
  for (int64_t d = 0; d < size; d += VL) store(x + d, load(x + d) * by);
}

// total = keep * total + sum of the rows.
static void add_rows(int64_t count, int64_t width, const float* rows, float keep, float* total) {
  for (int64_t d = 0; d < width; d += VL) {
    Vec x = keep == 0.0f ? Vec{} : load(total + d) * keep;
    for (int64_t t = 0; t < count; ++t) x += load(rows + t * width + d);
    store(total + d, x);
  }
}

static inline float inner(const float* a, const float* b, int64_t width) {
  Vec total{};
  for (int64_t d = 0; d < width; d += VL) total += load(a + d) * load(b + d);
  return sum(total);
}

// The causal half of C (+)= A B for square A: rows below `count`, columns of A up to their own row.
static void lower_product(int64_t count, int64_t N, Left a, const float* b, int64_t ldb, float* c,
                          bool accumulate) {
  for (int64_t t = 0; t < count; t += CAUSAL_ROWS) {
    const int64_t rows = count - t < CAUSAL_ROWS ? count - t : CAUSAL_ROWS;
    product_of_rows<CAUSAL_ROWS>(rows, N, t + rows, a.data + t * a.row, a.row, a.column, b, ldb,
                                 c + t * ldb, ldb, accumulate);
  }
}

// The causal half of C = Aᵀ B for square A of row length lda: rows of A from their own column on.
static void lower_transposed_product(int64_t count, int64_t N, const float* a, int64_t lda,
                                     const float* b, int64_t ldb, float* c) {
  for (int64_t s = 0; s < count; s += CAUSAL_ROWS) {
    const int64_t rows = count - s < CAUSAL_ROWS ? count - s : CAUSAL_ROWS;
    product_of_rows<CAUSAL_ROWS>(rows, N, count - s, a + s * lda + s, 1, lda, b + s * ldb, ldb,
                                 c + s * ldb, ldb, false);
  }
}

// scores = A Bᵀ for the causal half, with Bᵀ given as b (D x width).
static void lower_scores(int64_t count, int64_t D, const float* a, int64_t lda, const float* b,
                         int64_t width, float* scores) {
  for (int64_t t = 0; t < count; t += CAUSAL_ROWS) {
    const int64_t rows = count - t < CAUSAL_ROWS ? count - t : CAUSAL_ROWS;
    product_of_rows<CAUSAL_ROWS>(rows, padded(t + rows), D, a + t * lda, lda, 1, b, width,
                                 scores + t * width, width, false);
  }
}

// Row of B * NH and chunk: where its parts stand in memory.
struct Place {
  int64_t row, start, count;  // count of positions
  int64_t at;                 // of the first position in (B, S, NH)
  Place(const MlstmShape& z, int64_t row, int64_t chunk)
      : row(row),
        start(chunk * z.length),
        count(z.S - start < z.length ? z.S - start : z.length),
        at((row / z.NH * z.S + start) * z.NH + row % z.NH) {}
};

// A chunk's inputs as dense rows, and its factors.
struct Chunk {
  int64_t LP, KP, VP;  // padded length and widths
  float *q, *k, *v, *turned, *scores;
  Factors f;
  Chunk(const MlstmShape& z, Scratch& scratch)
      : LP(padded(z.length)), KP(padded(z.DK)), VP(padded(z.DV)) {
    const int64_t widest = z.DK > z.DV ? z.DK : z.DV;
    q = scratch.take(z.length * KP);
    k = scratch.take(z.length * KP);
    v = scratch.take(z.length * VP);
    turned = scratch.take(widest * LP);
    scores = scratch.take(z.length * LP);
    float** const factors[] = {&f.high, &f.low, &f.peak, &f.floor, &f.read, &f.write};
    for (float** factor : factors) *factor = scratch.take(LP);
  }
  static int64_t size(const MlstmShape& z) {
    const int64_t widest = z.DK > z.DV ? z.DK : z.DV;
    return z.length * (2 * padded(z.DK) + padded(z.DV) + padded(z.length)) +
           (widest + 6) * padded(z.length) + 512;
  }
  void fetch(const MlstmShape& z, const MlstmInputs& in, const Place& p, double m) {
    const double* log_i = in.log_i + p.row * z.S + p.start;
    gather(in.q + p.at * z.DK, z.NH * z.DK, p.count, z.DK, KP, log_i, q);
    gather(in.k + p.at * z.DK, z.NH * z.DK, p.count, z.DK, KP, log_i, k);
    gather(in.v + p.at * z.DV, z.NH * z.DV, p.count, z.DV, VP, log_i, v);
    chunk_factors(log_i, in.log_f + p.row * z.S + p.start, p.count, m,
                  -0.5 * std::log(double(z.DK)), f);
  }
};

// Memory of one row as dense rows of `width`, from and to (..., rows, columns).
static void load_memory(const float* from, int64_t rows, int64_t columns, int64_t width, float* to) {
  if (width == columns) columns = width *= rows, rows = 1;
  for (int64_t d = 0; d < rows; ++d)
    std::memcpy(to + d * width, from + d * columns, sizeof(float) * columns);
}
static void store_memory(const float* from, int64_t rows, int64_t columns, int64_t width,
                         float* to) {
  if (width == columns) columns = width *= rows, rows = 1;
  for (int64_t d = 0; d < rows; ++d)
    std::memcpy(to + d * columns, from + d * width, sizeof(float) * columns);
}

}  // namespace ISA
