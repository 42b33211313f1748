// The sLSTM recurrence over time, forward and backward; see xlstm_model/cells/slstm_loop.py.
//
// Heads and groups of samples are independent: one group goes through all positions while its
// states and the head's weight stay in the cache.

#pragma once
#include "matrix.h"
#include "scratch.h"

namespace ISA {

static const int64_t GROUP = 2 * CAUSAL_ROWS;

template <bool WHOLE>
static inline void advance_row(int64_t DH, int64_t is_sigmoid, const float* g, const float* c,
                               const float* n, const float* m, float* next_h, float* next_c,
                               float* next_n, float* next_m) {
  for (int64_t d = 0; d < DH; d += VL) {
    const int count = WHOLE ? VL : lanes(DH - d);
    const Vec i = load(g + d, count), log_i = is_sigmoid ? log_sigmoid(i) : i;
    const Vec carried = log_sigmoid(load(g + DH + d, count)) + load(m + d, count);
    const Vec top = maximum(carried, log_i);
    const Vec keep = exponential(carried - top), write = exponential(log_i - top);
    const Vec value = hyperbolic_tangent(load(g + 2 * DH + d, count));
    const Vec cell = keep * load(c + d, count) + write * value;
    const Vec norm = keep * load(n + d, count) + write;
    store(next_h + d, sigmoid(load(g + 3 * DH + d, count)) * (cell / norm), count);
    store(next_c + d, cell, count);
    store(next_n + d, norm, count);
    store(next_m + d, top, count);
  }
}

// One row of one position: the state after it from the pre-activations g and the state before.
static inline void advance(int64_t DH, int64_t is_sigmoid, const float* g, const float* c,
                           const float* n, const float* m, float* next_h, float* next_c,
                           float* next_n, float* next_m) {
  (DH % VL ? advance_row<false> : advance_row<true>)(DH, is_sigmoid, g, c, n, m, next_h, next_c,
                                                     next_n, next_m);
}

// Samples first..last of all heads. h, c, n, m: (S + 1, NH, B, DH) with entry 0 given; raw:
// (S, NH, B, 4, DH), changed to the whole pre-activations; weight: (NH, DH, 4 DH); mask: (B, S) or
// null.
static void slstm_forward(const SlstmShape& z, int64_t first, int64_t last, float* raw,
                          const float* weight, const uint8_t* mask, float* h, float* c, float* n,
                          float* m) {
  const int64_t DH = z.DH, plane = z.NH * z.B * DH;
  float* const states[] = {h, c, n, m};
  for (int64_t head = 0; head < z.NH; ++head)
    for (int64_t b0 = first; b0 < last; b0 += GROUP) {
      const int64_t rows = last - b0 < GROUP ? last - b0 : GROUP;
      for (int64_t t = 0; t < z.S; ++t) {
        const int64_t before = t * plane + (head * z.B + b0) * DH, after = before + plane;
        float* gates = raw + 4 * before;
        product(rows, 4 * DH, DH, {h + before, DH, 1}, weight + head * DH * 4 * DH, 4 * DH, gates,
                4 * DH, true);
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t from = before + r * DH, to = after + r * DH;
          if (mask && !mask[(b0 + r) * z.S + t]) {
            for (float* x : states) std::memcpy(x + to, x + from, sizeof(float) * DH);
            continue;
          }
          advance(DH, z.sigmoid, gates + r * 4 * DH, c + from, n + from, m + from, h + to, c + to,
                  n + to, m + to);
        }
      }
    }
}

// Samples first..last of all heads.
static void slstm_step(const SlstmStep& z, int64_t first, int64_t last) {
  const int64_t DH = z.DH, stride = z.NH * DH;
  Scratch scratch(GROUP * 4 * DH + 64);
  float* raw = scratch.take(GROUP * 4 * DH);
  for (int64_t head = 0; head < z.NH; ++head)
    for (int64_t b0 = first; b0 < last; b0 += GROUP) {
      const int64_t rows = last - b0 < GROUP ? last - b0 : GROUP;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t g = 0; g < 4; ++g)
          for (int64_t d = 0; d < DH; ++d)
            raw[(r * 4 + g) * DH + d] = z.gates[(((b0 + r) * 4 + g) * z.NH + head) * DH + d] +
                                        z.bias[(head * 4 + g) * DH + d];
      product(rows, 4 * DH, DH, {z.h + b0 * stride + head * DH, stride, 1},
              z.weight + head * DH * 4 * DH, 4 * DH, raw, 4 * DH, true);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at = (b0 + r) * stride + head * DH;
        advance(DH, z.sigmoid, raw + r * 4 * DH, z.c + at, z.n + at, z.m + at, z.next_h + at,
                z.next_c + at, z.next_n + at, z.next_m + at);
      }
    }
}

template <bool WHOLE>
static inline void retreat_row(int64_t DH, int64_t is_sigmoid, const float* g, const float* c0,
                               const float* n0, const float* m0, const float* h1, const float* n1,
                               const float* m1, const float* dh, float* dc, float* dn,
                               const float* extra, float* out) {
  for (int64_t d = 0; d < DH; d += VL) {
    const int count = WHOLE ? VL : lanes(DH - d);
    const Vec i = load(g + d, count), f = load(g + DH + d, count);
    const Vec log_i = is_sigmoid ? log_sigmoid(i) : i;
    const Vec top = load(m1 + d, count);
    const Vec keep = exponential(log_sigmoid(f) + load(m0 + d, count) - top);
    const Vec write = exponential(log_i - top);
    const Vec value = hyperbolic_tangent(load(g + 2 * DH + d, count));
    const Vec gate = sigmoid(load(g + 3 * DH + d, count));
    const Vec norm = 1.0f / load(n1 + d, count);
    const Vec out_h = load(h1 + d, count), up = load(dh + d, count);
    const Vec into_c = load(dc + d, count) + up * gate * norm;
    const Vec into_n = load(dn + d, count) - up * out_h * norm;
    const Vec cell_share = is_sigmoid ? write * sigmoid(-i) : write;
    const Vec fade = keep * sigmoid(-f);
    Vec gi = cell_share * (into_c * value + into_n);
    Vec gf = fade * (into_c * load(c0 + d, count) + into_n * load(n0 + d, count));
    if (extra) {
      gi += load(extra + d, count);
      gf += load(extra + DH + d, count);
    }
    store(out + d, gi, count);
    store(out + DH + d, gf, count);
    store(out + 2 * DH + d, into_c * write * (1.0f - value * value), count);
    store(out + 3 * DH + d, up * out_h * (1.0f - gate), count);
    store(dc + d, into_c * keep, count);
    store(dn + d, into_n * keep, count);
  }
}

// One row of the backward step: writes the gradient of the pre-activations, updates dc and dn.
static inline void slstm_row_backward(const SlstmShape& z, const float* g, const float* c0,
                                      const float* n0, const float* m0, const float* h1,
                                      const float* n1, const float* m1, const float* dh, float* dc,
                                      float* dn, const float* extra, float* out) {
  (z.DH % VL ? retreat_row<false> : retreat_row<true>)(z.DH, z.sigmoid, g, c0, n0, m0, h1, n1, m1,
                                                       dh, dc, dn, extra, out);
}

// Samples first..last of all heads. transposed: (NH, 4 DH, DH).
static void slstm_backward(const SlstmShape& z, int64_t first, int64_t last, const float* raw,
                           const float* transposed, const uint8_t* mask, const float* h,
                           const float* c, const float* n, const float* m,
                           const SlstmGradient& gradient) {
  const int64_t DH = z.DH, plane = z.NH * z.B * DH;
  for (int64_t head = 0; head < z.NH; ++head)
    for (int64_t b0 = first; b0 < last; b0 += GROUP) {
      const int64_t rows = last - b0 < GROUP ? last - b0 : GROUP;
      const int64_t state = (head * z.B + b0) * DH;
      float* dh = gradient.dh + state;
      for (int64_t t = z.S - 1; t >= 0; --t) {
        const int64_t before = t * plane + state;
        float* grad_raw = gradient.grad_raw + 4 * before;
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t from = before + r * DH, to = from + plane;
          float *up = dh + r * DH, *row = grad_raw + r * 4 * DH;
          if (mask && !mask[(b0 + r) * z.S + t]) {
            std::memset(row, 0, sizeof(float) * 4 * DH);
            continue;  // dh goes on to the position before
          }
          const float* given = gradient.grad_h + (b0 + r) * gradient.stride_b +
                               t * gradient.stride_t + head * gradient.stride_h;
          for (int64_t d = 0; d < DH; ++d) up[d] += given[d];
          slstm_row_backward(z, raw + 4 * from, c + from, n + from, m + from, h + to, n + to,
                             m + to, up, gradient.dc + state + r * DH,
                             gradient.dn + state + r * DH,
                             gradient.extra ? gradient.extra + 4 * from : nullptr, row);
          std::memset(up, 0, sizeof(float) * DH);
        }
        product(rows, DH, 4 * DH, {grad_raw, 4 * DH, 1}, transposed + head * 4 * DH * DH, DH, dh,
                DH, true);
      }
    }
}

}  // namespace ISA
