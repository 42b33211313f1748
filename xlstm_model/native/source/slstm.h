// The sLSTM recurrence over time, forward and backward; see xlstm_model/cells/slstm_loop.py.
//
// Heads and groups of samples are independent: one group goes through all positions while its
// states and the head's weight stay in the cache.

#pragma once
#include "matrix.h"

namespace ISA {

static const int64_t GROUP = 2 * BLOCK_ROWS;

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
          const float* g = gates + r * 4 * DH;
          for (int64_t d = 0; d < DH; d += VL) {
            const int count = DH - d < VL ? int(DH - d) : VL;
            const Vec i = load(g + d, count);
            const Vec log_i = z.sigmoid ? log_sigmoid(i) : i;
            const Vec carried = log_sigmoid(load(g + DH + d, count)) + load(m + from + d, count);
            const Vec top = maximum(carried, log_i);
            const Vec keep = exponential(carried - top), write = exponential(log_i - top);
            const Vec value = hyperbolic_tangent(load(g + 2 * DH + d, count));
            const Vec cell = keep * load(c + from + d, count) + write * value;
            const Vec norm = keep * load(n + from + d, count) + write;
            const Vec out = sigmoid(load(g + 3 * DH + d, count)) * (cell / norm);
            store(h + to + d, out, count);
            store(c + to + d, cell, count);
            store(n + to + d, norm, count);
            store(m + to + d, top, count);
          }
        }
      }
    }
}

// One row of the backward step: writes the gradient of the pre-activations, updates dc and dn.
static inline void slstm_row_backward(const SlstmShape& z, const float* g, const float* c0,
                                      const float* n0, const float* m0, const float* h1,
                                      const float* n1, const float* m1, const float* dh, float* dc,
                                      float* dn, const float* extra, float* out) {
  const int64_t DH = z.DH;
  for (int64_t d = 0; d < DH; d += VL) {
    const int count = DH - d < VL ? int(DH - d) : VL;
    const Vec i = load(g + d, count), f = load(g + DH + d, count);
    const Vec log_i = z.sigmoid ? log_sigmoid(i) : i;
    const Vec top = load(m1 + d, count);
    const Vec keep = exponential(log_sigmoid(f) + load(m0 + d, count) - top);
    const Vec write = exponential(log_i - top);
    const Vec value = hyperbolic_tangent(load(g + 2 * DH + d, count));
    const Vec gate = sigmoid(load(g + 3 * DH + d, count));
    const Vec norm = 1.0f / load(n1 + d, count);
    const Vec out_h = load(h1 + d, count), up = load(dh + d, count);
    const Vec into_c = load(dc + d, count) + up * gate * norm;
    const Vec into_n = load(dn + d, count) - up * out_h * norm;
    const Vec cell_share = z.sigmoid ? write * sigmoid(-i) : write;
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
