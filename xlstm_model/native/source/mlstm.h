// The chunkwise mLSTM, forward and backward; see xlstm_model/cells/mlstm_passes.py and
// mlstm_gates.py for the equations and for the names of the factors.
//
// Rows (sample and head) are independent: one row goes through its chunks while everything it needs
// stays in the cache. Of the products within a chunk only the causal half is computed.

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

static void chunk_factors(const double* log_i, const double* log_f, int64_t count, double before,
                          double log_scale, Factors& f) {
  const double floor_low = 2 * std::log(1.1920928955078125e-07);
  const double floor_high = std::log(3.4028234663852886e38) - 1;
  double total = 0, top = before;
  for (int64_t t = 0; t < count; ++t) {
    total += log_f[t];
    const double relative = log_i[t] - total, exponent = relative + log_scale;
    if (relative > top) top = relative;
    const float peak = top == -INFINITY ? 0.0f : float(top);
    const double m = -(total + double(peak));
    f.peak[t] = peak;
    f.high[t] = float(exponent);
    f.low[t] = exponent == -INFINITY ? 0.0f : float(exponent - double(f.high[t]));
    f.floor[t] = float(m < floor_low ? floor_low : (m > floor_high ? floor_high : m));
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
        if (s + VL > t + 1) {
          Vec kept{};
          std::memcpy(&kept, &weight, sizeof(float) * (t + 1 - s));
          weight = kept;
        }
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
      std::memcpy(row, from + t * stride, sizeof(float) * D);
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
  for (int64_t t = 0; t < count; t += BLOCK_ROWS) {
    const int64_t rows = count - t < BLOCK_ROWS ? count - t : BLOCK_ROWS;
    product_of_rows(rows, N, t + rows, {a.data + t * a.row, a.row, a.column}, b, ldb, c + t * ldb,
                    ldb, accumulate);
  }
}

// The causal half of C = Aᵀ B for square A of row length lda: rows of A from their own column on.
static void lower_transposed_product(int64_t count, int64_t N, const float* a, int64_t lda,
                                     const float* b, int64_t ldb, float* c) {
  for (int64_t s = 0; s < count; s += BLOCK_ROWS) {
    const int64_t rows = count - s < BLOCK_ROWS ? count - s : BLOCK_ROWS;
    product_of_rows(rows, N, count - s, {a + s * lda + s, 1, lda}, b + s * ldb, ldb, c + s * ldb,
                    ldb, false);
  }
}

// scores = A Bᵀ for the causal half, with Bᵀ given as b (D x width).
static void lower_scores(int64_t count, int64_t D, const float* a, int64_t lda, const float* b,
                         int64_t width, float* scores) {
  for (int64_t t = 0; t < count; t += BLOCK_ROWS) {
    const int64_t rows = count - t < BLOCK_ROWS ? count - t : BLOCK_ROWS;
    product_of_rows(rows, padded(t + rows), D, {a + t * lda, lda, 1}, b, width, scores + t * width,
                    width, false);
  }
}

// Rows first..last of B * NH. h: (B, S, NH, DV); denominator: (B, NH, S); m_last: (B, NH).
static void mlstm_forward(const MlstmShape& z, int64_t first, int64_t last, const MlstmInputs& in,
                          const MlstmMemory& memory, float* h, float* denominator,
                          double* m_last) {
  const int64_t L = z.length, LP = padded(L), KP = padded(z.DK), VP = padded(z.DV);
  const int64_t rows_total = z.B * z.NH;
  Scratch scratch(L * (2 * KP + 2 * VP) + 2 * z.DK * LP + L * LP + z.DK * VP + 8 * LP + 512);
  float *q = scratch.take(L * KP), *k = scratch.take(L * KP), *v = scratch.take(L * VP);
  float *numerator = scratch.take(L * VP), *transposed = scratch.take(z.DK * LP);
  float *scores = scratch.take(L * LP), *c = scratch.take(z.DK * VP), *n = scratch.take(KP);
  Factors f{scratch.take(LP), scratch.take(LP), scratch.take(LP),
            scratch.take(LP), scratch.take(LP), scratch.take(LP), 0, 0};
  const double log_scale = -0.5 * std::log(double(z.DK));
  for (int64_t row = first; row < last; ++row) {
    const int64_t b = row / z.NH, head = row % z.NH;
    double m = in.m[row];
    for (int64_t d = 0; d < z.DK; ++d)
      std::memcpy(c + d * VP, memory.c + (row * z.DK + d) * z.DV, sizeof(float) * z.DV);
    std::memcpy(n, memory.n + row * z.DK, sizeof(float) * z.DK);
    for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
      const int64_t start = chunk * L, count = z.S - start < L ? z.S - start : L;
      const double *log_i = in.log_i + row * z.S + start, *log_f = in.log_f + row * z.S + start;
      const int64_t at = (b * z.S + start) * z.NH + head;
      gather(in.q + at * z.DK, z.NH * z.DK, count, z.DK, KP, log_i, q);
      gather(in.k + at * z.DK, z.NH * z.DK, count, z.DK, KP, log_i, k);
      gather(in.v + at * z.DV, z.NH * z.DV, count, z.DV, VP, log_i, v);
      chunk_factors(log_i, log_f, count, m, log_scale, f);
      const bool reads = chunk > 0 || !z.is_empty;
      transpose(count, z.DK, k, KP, transposed, LP);
      lower_scores(count, z.DK, q, KP, transposed, LP, scores);
      weigh(count, LP, f, scores, nullptr);
      if (reads) {
        product(count, VP, z.DK, {q, KP, 1}, c, VP, numerator, VP, false);
        scale_rows(count, VP, numerator, f.read, numerator);
      }
      lower_product(count, VP, {scores, LP, 1}, v, VP, numerator, reads);
      for (int64_t t = 0; t < count; ++t) {
        Vec total{};
        for (int64_t s = 0; s <= t; s += VL) total += load(scores + t * LP + s);
        float below = sum(total);
        if (reads) below += f.read[t] * inner(q + t * KP, n, KP);
        denominator[row * z.S + start + t] = below;
        below = below < 0 ? -below : below;
        const float inverse = 1.0f / ((below > f.floor[t] ? below : f.floor[t]) + float(z.eps));
        float* out = h + (at + t * z.NH) * z.DV;
        for (int64_t d = 0; d < z.DV; d += VL)
          store(out + d, load(numerator + t * VP + d) * inverse,
                z.DV - d < VL ? int(z.DV - d) : VL);
      }
      scale_rows(count, KP, k, f.write, k);
      if (reads) scale(z.DK * VP, f.keep, c);
      product(z.DK, VP, count, {k, 1, KP}, v, VP, c, VP, reads);
      add_rows(count, KP, k, reads ? f.keep : 0.0f, n);
      const int64_t border = (chunk + 1) * rows_total + row;
      for (int64_t d = 0; d < z.DK; ++d)
        std::memcpy(memory.c + (border * z.DK + d) * z.DV, c + d * VP, sizeof(float) * z.DV);
      std::memcpy(memory.n + border * z.DK, n, sizeof(float) * z.DK);
      m = f.next;
    }
    m_last[row] = m;
  }
}

// Gradient of what one chunk's positions read: of the numerators (count x VP, from that of h), of
// the denominators, and the queries' share of the gates' gradient.
static void output_backward(const MlstmShape& z, const MlstmGradient& g, int64_t row, int64_t start,
                            int64_t count, int64_t at, int64_t VP, const double* log_i,
                            const Factors& f, float* numerator, float* denominator) {
  const int64_t stride = z.NH * z.DV;
  gather(g.grad_h + at * z.DV, stride, count, z.DV, VP, log_i, numerator);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t place = row * z.S + start + t;
    const float below = g.denominator[place], magnitude = below < 0 ? -below : below;
    const bool is_active = magnitude >= f.floor[t];
    const float divisor = (is_active ? magnitude : f.floor[t]) + float(z.eps);
    const float* h = g.h + (at + t * z.NH) * z.DV;
    float* up = numerator + t * VP;
    Vec total{};
    for (int64_t d = 0; d < z.DV; d += VL) {
      const int tail = z.DV - d < VL ? int(z.DV - d) : VL;
      total += load(up + d) * load(h + d, tail);
      store(up + d, load(up + d) / divisor);
    }
    const float through = sum(total), ratio = is_active ? through / divisor : 0.0f;
    denominator[t] = below > 0 ? -ratio : (below < 0 ? ratio : 0.0f);
    g.share[place] = double(through) - double(ratio * magnitude);
    if (g.path) g.path[place] = -float(z.eps) * (through / divisor);
  }
}

static void scatter(const float* from, int64_t width, int64_t count, int64_t D, int64_t stride,
                    float* to) {
  for (int64_t t = 0; t < count; ++t)
    std::memcpy(to + t * stride, from + t * width, sizeof(float) * D);
}

// Rows first..last of B * NH, chunks from the last to the first.
static void mlstm_backward(const MlstmShape& z, int64_t first, int64_t last, const MlstmInputs& in,
                           const MlstmMemory& memory, const MlstmGradient& g) {
  const int64_t L = z.length, LP = padded(L), KP = padded(z.DK), VP = padded(z.DV);
  const int64_t D = z.DK > z.DV ? z.DK : z.DV, rows_total = z.B * z.NH;
  Scratch scratch(L * (5 * KP + 5 * VP) + 2 * D * LP + 2 * L * LP + 2 * z.DK * VP + 2 * z.DV * KP +
                  12 * LP + 4 * KP + 1024);
  float *q = scratch.take(L * KP), *k = scratch.take(L * KP), *v = scratch.take(L * VP);
  float *up = scratch.take(L * VP), *below = scratch.take(LP);
  float *dq = scratch.take(L * KP), *dk = scratch.take(L * KP), *dv = scratch.take(L * VP);
  float *scaled = scratch.take(L * KP), *turned = scratch.take(D * LP);
  float *scores = scratch.take(L * LP), *weights = scratch.take(L * LP);
  float *c_turned = scratch.take(z.DV * KP), *n = scratch.take(KP);
  float *dc = scratch.take(z.DK * VP), *dn = scratch.take(KP);
  Factors f{scratch.take(LP), scratch.take(LP), scratch.take(LP),
            scratch.take(LP), scratch.take(LP), scratch.take(LP), 0, 0};
  double* borders = static_cast<double*>(std::malloc(sizeof(double) * (z.chunks + 1)));
  const double log_scale = -0.5 * std::log(double(z.DK));
  for (int64_t row = first; row < last; ++row) {
    const int64_t b = row / z.NH, head = row % z.NH;
    const double *log_i = in.log_i + row * z.S, *log_f = in.log_f + row * z.S;
    borders[0] = in.m[row];
    for (int64_t chunk = 0; chunk < z.chunks; ++chunk)
      borders[chunk + 1] = border_after(log_i, log_f, chunk * L, z.S, L, borders[chunk]);
    bool passes = g.end_c != nullptr;  // whether a gradient of the memory after the chunk came
    if (passes) {
      for (int64_t d = 0; d < z.DK; ++d)
        std::memcpy(dc + d * VP, g.end_c + (row * z.DK + d) * z.DV, sizeof(float) * z.DV);
      std::memcpy(dn, g.end_n + row * z.DK, sizeof(float) * z.DK);
    }
    for (int64_t chunk = z.chunks - 1; chunk >= 0; --chunk) {
      const int64_t start = chunk * L, count = z.S - start < L ? z.S - start : L;
      const int64_t at = (b * z.S + start) * z.NH + head;
      const bool reads = chunk > 0 || !z.is_empty;
      gather(in.q + at * z.DK, z.NH * z.DK, count, z.DK, KP, log_i + start, q);
      gather(in.k + at * z.DK, z.NH * z.DK, count, z.DK, KP, log_i + start, k);
      gather(in.v + at * z.DV, z.NH * z.DV, count, z.DV, VP, log_i + start, v);
      chunk_factors(log_i + start, log_f + start, count, borders[chunk], log_scale, f);
      output_backward(z, g, row, start, count, at, VP, log_i + start, f, up, below);

      // What positions read from their own chunk.
      transpose(count, z.DK, k, KP, turned, LP);
      lower_scores(count, z.DK, q, KP, turned, LP, scores);
      weigh(count, LP, f, scores, weights);
      lower_transposed_product(count, VP, scores, LP, up, VP, dv);
      transpose(count, z.DV, v, VP, turned, LP);
      lower_scores(count, z.DV, up, VP, turned, LP, scores);
      for (int64_t t = 0; t < count; ++t)
        for (int64_t s = 0; s < LP; s += VL)
          store(scores + t * LP + s,
                s <= t ? (load(scores + t * LP + s) + below[t]) * load(weights + t * LP + s)
                       : Vec{});
      lower_product(count, KP, {scores, LP, 1}, k, KP, dq, false);
      lower_transposed_product(count, KP, scores, LP, q, KP, dk);

      // What the chunk wrote into the memory after it.
      if (passes) {
        transpose(z.DK, z.DV, dc, VP, c_turned, KP);
        product(count, KP, z.DV, {v, VP, 1}, c_turned, KP, scaled, KP, false);
        for (int64_t t = 0; t < count; ++t)
          for (int64_t d = 0; d < KP; d += VL) {
            float* x = dk + t * KP + d;
            store(x, load(x) + (load(scaled + t * KP + d) + load(dn + d)) * f.write[t]);
          }
        scale_rows(count, KP, k, f.write, scaled);
        product(count, VP, z.DK, {scaled, KP, 1}, dc, VP, dv, VP, true);
      }

      // What positions read from the memory before the chunk, and that memory's gradient.
      if (reads) {
        const int64_t border = chunk * rows_total + row;
        transpose(z.DK, z.DV, memory.c + border * z.DK * z.DV, z.DV, c_turned, KP);
        std::memcpy(n, memory.n + border * z.DK, sizeof(float) * z.DK);
        product(count, KP, z.DV, {up, VP, 1}, c_turned, KP, scaled, KP, false);
        for (int64_t t = 0; t < count; ++t)
          for (int64_t d = 0; d < KP; d += VL) {
            float* x = dq + t * KP + d;
            store(x, load(x) + (load(scaled + t * KP + d) + load(n + d) * below[t]) * f.read[t]);
          }
        scale_rows(count, KP, q, f.read, scaled);
        if (passes) scale(z.DK * VP, f.keep, dc);
        product(z.DK, VP, count, {scaled, 1, KP}, up, VP, dc, VP, passes);
        scale_rows(count, KP, scaled, below, scaled);
        add_rows(count, KP, scaled, passes ? f.keep : 0.0f, dn);
        passes = true;
      }
      for (int64_t t = 0; t < count; ++t) {
        const int64_t place = row * z.S + start + t;
        g.log_i[place] = inner(k + t * KP, dk + t * KP, KP);
        g.share[place] -= g.log_i[place];
      }
      scatter(dq, KP, count, z.DK, z.NH * z.DK, g.q + at * z.DK);
      scatter(dk, KP, count, z.DK, z.NH * z.DK, g.k + at * z.DK);
      scatter(dv, VP, count, z.DV, z.NH * z.DV, g.v + at * z.DV);
    }
    if (g.start_c) {
      for (int64_t d = 0; d < z.DK; ++d)
        std::memcpy(g.start_c + (row * z.DK + d) * z.DV, dc + d * VP, sizeof(float) * z.DV);
      std::memcpy(g.start_n + row * z.DK, dn, sizeof(float) * z.DK);
    }
  }
  std::free(borders);
}

}  // namespace ISA
