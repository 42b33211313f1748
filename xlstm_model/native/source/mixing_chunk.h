// What stands before the mLSTM cell, over the rows of one chunk of a block: convolution with SiLU, q, k,
// v and gates.
//
// Gates read q, k and v, which are linear in the mixed row (q, k) and the raw one (v): once per call
// their weights are folded into matrices on these two, and the gradients unfolded again. Channels are
// handled a vector at a time, so that what belongs to a channel stays in registers.

#pragma once
#include "mixing.h"

namespace ISA {

// One row per gate, on the mixed and on the raw rows: weights, or sums of their gradients.
struct FoldedGates {
  float *mixed, *raw;  // (gates, C)
  FoldedGates(const MixShape& z, Scratch& scratch)
      : mixed(scratch.take(z.gates * z.C)), raw(scratch.take(z.gates * z.C)) {}
  static int64_t size(const MixShape& z) { return 2 * z.gates * z.C + 32; }
};

static void fold_gates(const MixShape& z, const Packed& w, const FoldedGates& to) {
  for (int64_t c = 0; c < z.C; c += VL) {
    const int n = lanes(z.C - c);
    const float* p = w.turned + c;
    const Group q(p, z.C, n), k(p + 4 * z.C, z.C, n), v(p + 8 * z.C, z.C, n);
    for (int64_t g = 0; g < z.gates; ++g) {
      const float* gate = w.gates + g * 3 * z.C + c;
      store(to.mixed + g * z.C + c, q(load(gate, n)) + k(load(gate + z.C, n)), n);
      store(to.raw + g * z.C + c, v(load(gate + 2 * z.C, n)), n);
    }
  }
}

// From the folded matrices' gradients to those of the gates and, added, of the projections.
static void unfold_gates(const MixShape& z, const Packed& w, const FoldedGates& from, Packed& to) {
  for (int64_t c = 0; c < z.C; c += VL) {
    const int n = lanes(z.C - c);
    const float* p = w.projections + c;
    const Group project[] = {{p, z.C, n}, {p + 4 * z.C, z.C, n}, {p + 8 * z.C, z.C, n}};
    GroupGradient grad[3];
    for (int64_t g = 0; g < z.gates; ++g)
      for (int64_t i = 0; i < 3; ++i) {
        const float* read = i < 2 ? from.mixed : from.raw;
        const Vec x = load(read + g * z.C + c, n);
        const int64_t at = (g * 3 + i) * z.C + c;
        store(to.gates + at, project[i](x), n);
        grad[i].add(load(w.gates + at, n), x);
      }
    for (int64_t i = 0; i < 3; ++i)
      for (int j = 0; j < 4; ++j)
        add_to(to.projections + (i * 4 + j) * z.C + c, grad[i].factor[j], n);
  }
}

// Rows of one chunk (count, C).
struct MixedRows {
  float *mixed, *q, *k, *v;
  float* slope;  // derivative of the SiLU, for the backward pass; or null
};

// The convolution of one vector of channels; without one, a single tap of 1.
template <int TAPS>
struct Taps {
  static const int MOST = TAPS < 0 ? MAX_TAPS : TAPS;
  Vec tap[MOST], bias;  // tap[j] multiplies the row j positions back
  int64_t count;
  Taps(const MixShape& z, const Packed& w, int64_t c, int n)
      : bias(load(w.bias + c, n)), count(TAPS < 0 ? (z.taps ? z.taps : 1) : TAPS) {
    tap[0] = splat(1.0f);
    for (int64_t j = 0; j < z.taps; ++j) tap[j] = load(w.taps + (z.taps - 1 - j) * z.C + c, n);
  }
};

// Newest first; what stood longest falls out.
template <int MOST>
SMALL void push(Vec (&rows)[MOST], int64_t count, Vec newest) {
  for (int64_t j = count - 1; j > 0; --j) rows[j] = rows[j - 1];
  rows[0] = newest;
}

template <int TAPS, bool WHOLE, bool SLOPES>
static inline void mix_channels(MixShape z, Rows rows, const Packed& w, int64_t start,
                                int64_t count, int64_t c, int tail, MixedRows out) {
  const int n = WHOLE ? VL : tail;
  const Taps<TAPS> taps(z, w, c, n);
  const float* p = w.projections + c;
  const Group q(p, z.C, n), k(p + 4 * z.C, z.C, n), v(p + 8 * z.C, z.C, n);
  Vec past[Taps<TAPS>::MOST];
  for (int64_t j = 1; j < taps.count; ++j) past[j - 1] = load(rows.at(start - j) + c, n);
  const float* row = rows.x + start * rows.stride + c;
  for (int64_t t = 0; t < count; ++t, row += rows.stride) {
    const int64_t at = t * z.C + c;
    const Vec x = load(row, n);
    Vec pre = taps.bias + taps.tap[0] * x;
    for (int64_t j = 1; j < taps.count; ++j) pre += taps.tap[j] * past[j - 1];
    push(past, taps.count - 1, x);
    const Vec open = sigmoid(pre), mixed = pre * open;
    store(out.mixed + at, mixed, n);
    store(out.q + at, q(mixed), n);
    store(out.k + at, k(mixed), n);
    store(out.v + at, v(x), n);
    if (SLOPES) store(out.slope + at, open + mixed * (1.0f - open), n);
  }
}

template <int TAPS, bool SLOPES>
static void mix_all_channels(const MixShape& z, const Rows& rows, const Packed& w, int64_t start,
                             int64_t count, const MixedRows& out) {
  int64_t c = 0;
  for (; c + VL <= z.C; c += VL)
    mix_channels<TAPS, true, SLOPES>(z, rows, w, start, count, c, VL, out);
  if (c < z.C)
    mix_channels<-1, false, SLOPES>(z, rows, w, start, count, c, int(z.C - c), out);
}

// Rows start..start + count of one sample, all of them real.
static void mix_rows(const MixShape& z, const Rows& rows, const Packed& w, const FoldedGates& folded,
                     int64_t start, int64_t count, const MixedRows& out, float* gates) {
  if (out.slope)
    (z.taps == 4 ? mix_all_channels<4, true> : mix_all_channels<-1, true>)(z, rows, w, start, count,
                                                                          out);
  else
    (z.taps == 4 ? mix_all_channels<4, false>
                 : mix_all_channels<-1, false>)(z, rows, w, start, count, out);
  if (!gates) return;
  for (int64_t i = 0; i < count * z.gates; ++i) gates[i] = w.gate_bias[i % z.gates];
  linear(count, z.gates, z.C, folded.mixed, out.mixed, z.C, gates, z.gates, true);
  linear(count, z.gates, z.C, folded.raw, rows.x + start * rows.stride, rows.stride, gates, z.gates,
         true);
}

// Gradients of one chunk's rows (count, C): `mixed` holds what reaches it behind the cell, `inner`
// becomes that of the raw rows.
struct MixedGradient {
  float *mixed, *q, *k, *v, *inner;
};

// `later` holds the gradients of the pre-activations of the positions after the chunk, nearest first.
template <int TAPS, bool WHOLE>
static inline void mix_channels_backward(MixShape z, Rows rows, const Packed& w, int64_t start,
                                         int64_t count, int64_t c, int tail, MixedRows at_hand,
                                         MixedGradient g, float* later, const Packed& sums) {
  const int n = WHOLE ? VL : tail;
  const Taps<TAPS> taps(z, w, c, n);
  const float* p = w.turned + c;
  const Group q(p, z.C, n), k(p + 4 * z.C, z.C, n), v(p + 8 * z.C, z.C, n);
  GroupGradient grad[3];
  Vec grad_tap[Taps<TAPS>::MOST] = {}, grad_bias{}, after[Taps<TAPS>::MOST];
  for (int64_t j = 1; j < taps.count; ++j) after[j - 1] = load(later + (j - 1) * VL);
  const float* row = rows.x + (start + count - 1) * rows.stride + c;
  for (int64_t t = count - 1; t >= 0; --t, row -= rows.stride) {
    const int64_t at = t * z.C + c;
    const Vec x = load(row, n), mixed = load(at_hand.mixed + at, n);
    const Vec dq = load(g.q + at, n), dk = load(g.k + at, n), dv = load(g.v + at, n);
    grad[0].add(dq, mixed);
    grad[1].add(dk, mixed);
    grad[2].add(dv, x);
    const Vec into_pre =
        (load(g.mixed + at, n) + q(dq) + k(dk)) * load(at_hand.slope + at, n);
    Vec into_x = load(g.inner + at, n) + v(dv) + taps.tap[0] * into_pre;
    grad_bias += into_pre;
    grad_tap[0] += into_pre * x;
    for (int64_t j = 1; j < taps.count; ++j) {
      into_x += taps.tap[j] * after[j - 1];
      grad_tap[j] += after[j - 1] * x;
    }
    push(after, taps.count - 1, into_pre);
    store(g.inner + at, into_x, n);
  }
  for (int64_t j = 1; j < taps.count; ++j) store(later + (j - 1) * VL, after[j - 1]);
  // Rows before the sample's first were read by the next ones too.
  for (int64_t i = 1; start == 0 && i < taps.count; ++i)
    for (int64_t j = i; j < taps.count; ++j)
      grad_tap[j] += after[j - i] * load(rows.at(-i) + c, n);
  for (int64_t j = 0; j < z.taps; ++j)
    add_to(sums.taps + (z.taps - 1 - j) * z.C + c, grad_tap[j], n);
  if (z.taps) add_to(sums.bias + c, grad_bias, n);
  for (int64_t i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j)
      add_to(sums.projections + (i * 4 + j) * z.C + c, grad[i].factor[j], n);
}

template <int TAPS>
static void mix_all_channels_backward(const MixShape& z, const Rows& rows, const Packed& w,
                                      int64_t start, int64_t count, const MixedRows& at_hand,
                                      const MixedGradient& g, float* later, const Packed& sums) {
  int64_t c = 0;
  for (; c + VL <= z.C; c += VL)
    mix_channels_backward<TAPS, true>(z, rows, w, start, count, c, VL, at_hand, g,
                                      later + c * MAX_TAPS, sums);
  if (c < z.C)
    mix_channels_backward<-1, false>(z, rows, w, start, count, c, int(z.C - c), at_hand, g,
                                     later + c * MAX_TAPS, sums);
}

// As mix_rows, backwards; adds to the gates' own sums in `of_gates`.
static void mix_rows_backward(const MixShape& z, const Rows& rows, const Packed& w,
                              const FoldedGates& folded, int64_t start, int64_t count,
                              const MixedRows& at_hand, const float* gates,
                              const MixedGradient& g, float* later, const FoldedGates& of_gates,
                              const Packed& sums) {
  const float* raw = rows.x + start * rows.stride;
  product(count, z.C, z.gates, {gates, z.gates, 1}, folded.mixed, z.C, g.mixed, z.C, true);
  product(count, z.C, z.gates, {gates, z.gates, 1}, folded.raw, z.C, g.inner, z.C, false);
  product(z.gates, z.C, count, {gates, 1, z.gates}, at_hand.mixed, z.C, of_gates.mixed, z.C, true);
  product(z.gates, z.C, count, {gates, 1, z.gates}, raw, rows.stride, of_gates.raw, z.C, true);
  for (int64_t i = 0; i < count * z.gates; ++i) sums.gate_bias[i % z.gates] += gates[i];
  (z.taps == 4 ? mix_all_channels_backward<4> : mix_all_channels_backward<-1>)(
      z, rows, w, start, count, at_hand, g, later, sums);
}

}  // namespace ISA
