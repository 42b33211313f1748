// A whole block at one position: what the layers do one after another, for few samples, on data that
// stays in the first caches. The matrices are read as the layers hold them.

#pragma once
#include "merging.h"
#include "mixing.h"
#include "mlstm_forward.h"
#include "slstm.h"

namespace ISA {

static inline float inner_product(const float* a, const float* b, int64_t width) {
  Vec total{};
  for (int64_t d = 0; d < width; d += VL)
    total += load(a + d, lanes(width - d)) * load(b + d, lanes(width - d));
  return sum(total);
}

template <bool WHOLE>
static inline void normalize_groups(int64_t groups, int64_t width, const float* x,
                                    const float* scale, double eps, float* y) {
  for (int64_t g = 0; g < groups; ++g, x += width, y += width, scale += scale ? width : 0) {
    const Moments m = scale ? moments<WHOLE>(x, width, eps) : Moments{0.0f, 1.0f};
    for (int64_t d = 0; d < width; d += VL) {
      const int count = WHOLE ? VL : lanes(width - d);
      const Vec value = load(x + d, count);
      store(y + d, scale ? (value - m.mean) * m.inverse * (1.0f + load(scale + d, count)) : value,
            count);
    }
  }
}

// Norm of groups of a row (or the row as it is without a scale), times 1 + scale.
static void normalize(int64_t groups, int64_t width, const float* x, const float* scale, double eps,
                      float* y) {
  (width % VL ? normalize_groups<false> : normalize_groups<true>)(groups, width, x, scale, eps, y);
}

// SiLU of the convolution of one sample's newest position, and the convolution's next state.
static void convolve_step(int64_t C, int64_t taps, const float* weight, const float* bias,
                          const float* x, const float* state, float* y, float* next) {
  for (int64_t c = 0; c < C; ++c) {
    float total = taps ? weight[c * taps + taps - 1] * x[c] : x[c];
    if (bias) total += bias[c];
    for (int64_t j = 0; j + 1 < taps; ++j) total += weight[c * taps + j] * state[j * C + c];
    y[c] = total;
  }
  for (int64_t c = 0; c < C; c += VL) {
    const int count = lanes(C - c);
    const Vec pre = load(y + c, count);
    store(y + c, pre * sigmoid(pre), count);
  }
  if (taps < 2) return;
  std::memcpy(next, state + C, sizeof(float) * (taps - 2) * C);
  std::memcpy(next + (taps - 2) * C, x, sizeof(float) * C);
}

// What stands before the mLSTM cell, one position of `rows` samples: SiLU of the convolution, q, k and
// v (rows, C), from x (rows, stride). What belongs to a channel is brought into order once.
static void mix_step(int64_t rows, int64_t C, int64_t taps, const MixWeights& w, const float* x,
                     int64_t stride, const float* state, float* mixed, float* const qkv[3],
                     float* next) {
  const int64_t history = taps > 1 ? taps - 1 : 0;
  for (int64_t c = 0; c < C; c += VL) {
    const int count = lanes(C - c);
    float tap[MAX_TAPS][VL] = {}, factor[3][4][VL] = {};
    for (int l = 0; l < count; ++l) {
      for (int64_t j = 0; j < taps; ++j) tap[j][l] = w.taps[(c + l) * taps + j];
      for (int p = 0; p < 3; ++p)
        for (int j = 0; j < 4; ++j) factor[p][j][l] = w.projections[p][group_entry(c + l, j)];
    }
    const Vec bias = w.bias ? load(w.bias + c, count) : Vec{};
    const Group q(factor[0][0], VL, VL), k(factor[1][0], VL, VL), v(factor[2][0], VL, VL);
    for (int64_t r = 0; r < rows; ++r) {
      const float* before = state + r * history * C + c;
      float* after = next + r * history * C + c;
      const Vec newest = load(x + r * stride + c, count);
      Vec pre = taps ? bias + load(tap[taps - 1]) * newest : newest;
      for (int64_t j = 0; j < history; ++j) {
        const Vec past = load(before + j * C, count);
        pre += load(tap[j]) * past;
        if (j > 0) store(after + (j - 1) * C, past, count);
      }
      if (history) store(after + (history - 1) * C, newest, count);
      const Vec open = pre * sigmoid(pre);
      const int64_t at = r * C + c;
      store(mixed + at, open, count);
      store(qkv[0] + at, q(open), count);
      store(qkv[1] + at, k(open), count);
      store(qkv[2] + at, v(newest), count);
    }
  }
}

// next = keep * c + (write k) vᵀ for all rows d of the memory, h = nextᵀ q, over N vectors of a row.
template <int N>
static inline void memory_columns(int64_t DH, float keep, const float* written, const float* v,
                                  const float* q, const float* c, float* next, float* h) {
  Vec value[N], total[N] = {};
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) value[i] = load(v + i * VL);
  for (int64_t d = 0; d < DH; ++d)
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const Vec x = keep * load(c + d * DH + i * VL) + written[d] * value[i];
      store(next + d * DH + i * VL, x);
      total[i] += q[d] * x;
    }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) store(h + i * VL, total[i]);
}

static void memory_tail(int64_t DH, int count, float keep, const float* written, const float* v,
                        const float* q, const float* c, float* next, float* h) {
  Vec total{};
  for (int64_t d = 0; d < DH; ++d) {
    const Vec x = keep * load(c + d * DH, count) + written[d] * load(v, count);
    store(next + d * DH, x, count);
    total += q[d] * x;
  }
  store(h, total, count);
}

// One head of one sample, as mlstm_step; `written` is room for DH floats.
static void head_step(int64_t DH, double eps, const float* q, const float* k, const float* v,
                      float log_i, float fgate, const MlstmBlockState& from,
                      const MlstmBlockState& to, float* written, float* h) {
  static const int WIDE = VL == 16 ? 8 : 4;
  const float root = std::sqrt(float(DH));
  const float carried = log_sigmoid(splat(fgate))[0] + *from.m;
  const float m = carried > log_i ? carried : log_i;
  const float keep = exponential(splat(carried - m))[0], write = exponential(splat(log_i - m))[0];
  Vec below_lanes{};
  for (int64_t d = 0; d < DH; d += VL) {
    const int count = lanes(DH - d);
    const Vec share = write * load(k + d, count) / root;
    const Vec n = keep * load(from.n + d, count) + share;
    store(written + d, share, count);
    store(to.n + d, n, count);
    below_lanes += load(q + d, count) * n;
  }
  float below = sum(below_lanes);
  below = below < 0 ? -below : below;
  const float floor = exponential(splat(floor_exponent(m)))[0];
  const float inverse = 1.0f / ((below > floor ? below : floor) + float(eps));
  int64_t e = 0;
  for (; e + WIDE * VL <= DH; e += WIDE * VL)
    memory_columns<WIDE>(DH, keep, written, v + e, q, from.c + e, to.c + e, h + e);
  for (; e + VL <= DH; e += VL)
    memory_columns<1>(DH, keep, written, v + e, q, from.c + e, to.c + e, h + e);
  if (e < DH) memory_tail(DH, int(DH - e), keep, written, v + e, q, from.c + e, to.c + e, h + e);
  for (int64_t d = 0; d < DH; d += VL) {
    const int count = lanes(DH - d);
    store(h + d, load(h + d, count) * inverse, count);
  }
  *to.m = m;
}

// Samples first..last.
static void mlstm_block_step(const BlockStep& z, int64_t first, int64_t last,
                             const MlstmBlockWeights& w, const float* x,
                             const MlstmBlockState& state, float* y,
                             const MlstmBlockState& next) {
  const int64_t rows = last - first, C = z.C, D = z.D, DH = C / z.NH;
  const int64_t history = z.taps > 1 ? (z.taps - 1) * C : 0;
  Scratch scratch(rows * (D + 7 * C) + C + DH + 256);
  float *inner = scratch.take(rows * D), *wide = scratch.take(rows * 2 * C);
  float *mixed = scratch.take(rows * C), *merged = scratch.take(rows * C);
  float* const qkv[3] = {scratch.take(rows * C), scratch.take(rows * C), scratch.take(rows * C)};
  float *scale = scratch.take(C), *written = scratch.take(DH), *h = merged;
  x += first * D;
  for (int64_t r = 0; r < rows; ++r)
    normalize(1, D, x + r * D, w.norm, z.norm_eps, inner + r * D);
  linear(rows, 2 * C, D, w.up, inner, D, wide, 2 * C);
  mix_step(rows, C, z.taps, w.mix, wide, 2 * C, state.conv + first * history, mixed, qkv,
           next.conv + first * history);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t head = 0; head < z.NH; ++head) {
      float gate[2];
      for (int64_t i = 0; i < 2; ++i) {
        gate[i] = w.mix.gate_bias[i] ? w.mix.gate_bias[i][head] : 0.0f;
        for (int64_t p = 0; p < 3; ++p)
          gate[i] += inner_product(qkv[p] + r * C, w.mix.gates[i] + (head * 3 + p) * C, C);
      }
      const float log_i = z.sigmoid ? log_sigmoid(splat(gate[0]))[0] : gate[0];
      const int64_t at = (first + r) * z.NH + head, own = r * C + head * DH;
      const MlstmBlockState from = {nullptr, state.c + at * DH * DH, state.n + at * DH,
                                    state.m + at};
      const MlstmBlockState to = {nullptr, next.c + at * DH * DH, next.n + at * DH, next.m + at};
      head_step(DH, z.cell_eps, qkv[0] + own, qkv[1] + own, qkv[2] + own, log_i, gate[1], from, to,
                written, h + own);
    }
  for (int64_t c = 0; w.merge && c < C; ++c) scale[c] = 1.0f + w.merge[c];
  merge_forward({rows, z.groups, C / z.groups, C, 2 * C, w.merge != nullptr, z.merge_eps}, 0, rows,
                {h, mixed, wide + C, scale, w.skip}, merged);  // in place
  linear(rows, D, C, w.down, merged, C, y + first * D, D);
  for (int64_t i = 0; z.residual && i < rows * D; ++i) y[first * D + i] += x[i];
}

// The pre-activations of one head of one sample (4, DH) from its two inputs (DH).
static void head_gates(const BlockStep& z, int64_t head, const SlstmBlockWeights& w,
                       const float* mixed, const float* inner, float* raw) {
  const int64_t DH = z.C / z.NH, through = z.convolved * DH, direct = 4 * DH - through;
  if (through)
    linear(1, through, DH, w.convolved + head * through * DH, mixed + head * DH, 0, raw, 0);
  if (direct)
    linear(1, direct, DH, w.raw + head * direct * DH, inner + head * DH, 0, raw + through, 0);
  for (int64_t i = 0; i < 4 * DH; ++i) raw[i] += w.gate_bias[head * 4 * DH + i];
}

// y += down(gelu(gate) * up) of the normalised y; `room` is for rows * (D + 2 inner) floats.
static void feed_forward_step(const BlockStep& z, int64_t rows, const SlstmBlockWeights& w, float* y,
                              float* room) {
  const int64_t D = z.D, F = z.inner;
  float *normed = room, *wide = room + rows * D;
  for (int64_t r = 0; r < rows; ++r)
    normalize(1, D, y + r * D, w.inner_norm, z.norm_eps, normed + r * D);
  linear(rows, 2 * F, D, w.up, normed, D, wide, 2 * F);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t f = 0; f < F; f += VL) {
      const int count = lanes(F - f);
      float* gate = wide + r * 2 * F + f;
      const Vec g = load(gate, count);
      store(gate, g * normal(g).below * load(gate + F, count), count);
    }
  linear(rows, D, F, w.down, wide, 2 * F, normed, D);
  for (int64_t i = 0; i < rows * D; ++i) y[i] = z.residual ? y[i] + normed[i] : normed[i];
}

// Samples first..last.
static void slstm_block_step(const BlockStep& z, int64_t first, int64_t last,
                             const SlstmBlockWeights& w, const float* x,
                             const SlstmBlockState& state, float* y, const SlstmBlockState& next) {
  const int64_t rows = last - first, D = z.D, DH = D / z.NH;
  const int64_t history = z.taps > 0 ? (z.taps - 1) * D : 0;
  Scratch scratch(rows * (3 * D + 2 * z.inner) + 3 * D + 4 * DH + 256);
  float *inner = scratch.take(D), *mixed = scratch.take(D), *raw = scratch.take(4 * DH);
  float* merged = scratch.take(D);
  float* room = scratch.take(rows * (D + 2 * z.inner));
  for (int64_t b = first; b < last; ++b) {
    normalize(1, D, x + b * D, w.norm, z.norm_eps, inner);
    convolve_step(D, z.taps, w.taps, w.bias, inner, state.conv + b * history, mixed,
                  next.conv + b * history);
    for (int64_t head = 0; head < z.NH; ++head) {
      const int64_t at = (b * z.NH + head) * DH;
      head_gates(z, head, w, mixed, inner, raw);
      product(1, 4 * DH, DH, {state.h + at, DH, 1}, w.recurrent + head * DH * 4 * DH, 4 * DH, raw,
              4 * DH, true);
      advance(DH, z.sigmoid, raw, state.c + at, state.n + at, state.m + at, next.h + at,
              next.c + at, next.n + at, next.m + at);
    }
    normalize(z.groups, D / z.groups, next.h + b * D, w.merge, z.merge_eps, merged);
    for (int64_t d = 0; d < D; ++d)
      y[b * D + d] = z.residual ? x[b * D + d] + merged[d] : merged[d];
  }
  if (z.inner) feed_forward_step(z, rows, w, y + first * D, room);
}

}  // namespace ISA
