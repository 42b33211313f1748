// The gated feed-forward layer of the sLSTM block over many rows: norm, up-projection, GELU gate,
// down-projection, residual, a tile of rows after another. Only the input is kept; the backward pass
// computes the rest again.

#pragma once
#include "mlstm_block_backward.h"

namespace ISA {

struct FeedForward {
  const FeedForwardShape& z;
  const FeedForwardWeights& w;
  float *up, *down, *normed, *wide, *act;  // panels; (TILE, D), (TILE, 2 F), (TILE, F)
  FeedForward(const FeedForwardShape& z, const FeedForwardWeights& w, Scratch& scratch)
      : z(z), w(w), up(scratch.take(panels(z.D, 2 * z.F))), down(scratch.take(panels(z.F, z.D))),
        normed(scratch.take(TILE * z.D)), wide(scratch.take(TILE * 2 * z.F)),
        act(scratch.take(TILE * z.F)) {
    pack(z.D, 2 * z.F, w.up, 1, z.D, up);
    pack(z.F, z.D, w.down, 1, z.F, down);
  }
  static int64_t size(const FeedForwardShape& z) {
    return panels(z.D, 2 * z.F) + panels(z.F, z.D) + TILE * (z.D + 3 * z.F) + 256;
  }
  void open(const float* x, int64_t count) {
    for (int64_t t = 0; t < count; ++t)
      normalize(1, z.D, x + t * z.D, w.norm, z.eps, normed + t * z.D);
    packed_product(count, 2 * z.F, z.D, {normed, z.D, 1}, up, wide, 2 * z.F, false);
  }
};

// Rows first..last.
static void feed_forward(const FeedForwardShape& z, int64_t first, int64_t last,
                         const FeedForwardWeights& w, const float* x, float* y) {
  Scratch scratch(FeedForward::size(z));
  FeedForward work(z, w, scratch);
  for (int64_t r = first; r < last; r += TILE) {
    const int64_t count = last - r < TILE ? last - r : TILE;
    work.open(x + r * z.D, count);
    for (int64_t t = 0; t < count; ++t)
      for (int64_t f = 0; f < z.F; f += VL) {
        const int n = lanes(z.F - f);
        const float* gate = work.wide + t * 2 * z.F + f;
        const Vec g = load(gate, n);
        store(work.act + t * z.F + f, g * normal(g).below * load(gate + z.F, n), n);
      }
    float* out = y + r * z.D;
    if (z.residual) std::memcpy(out, x + r * z.D, sizeof(float) * count * z.D);
    packed_product(count, z.D, z.F, {work.act, z.F, 1}, work.down, out, z.D, z.residual != 0);
  }
}

// Rows first..last; `sums` holds the gradients of norm, up and down one after another, starting at 0.
static void feed_forward_backward(const FeedForwardShape& z, int64_t first, int64_t last,
                                  const FeedForwardWeights& w, const float* x, const float* grad_y,
                                  float* grad_x, float* sums) {
  const int64_t D = z.D, F = z.F;
  Scratch scratch(FeedForward::size(z) + panels(D, F) + panels(2 * F, D) + TILE * F + 256);
  FeedForward work(z, w, scratch);
  float *down = scratch.take(panels(D, F)), *up = scratch.take(panels(2 * F, D));
  float* into_act = scratch.take(TILE * F);
  float *of_up = sums + D, *of_down = of_up + 2 * F * D;
  pack(D, F, w.down, F, 1, down);
  pack(2 * F, D, w.up, D, 1, up);
  for (int64_t r = first; r < last; r += TILE) {
    const int64_t count = last - r < TILE ? last - r : TILE;
    const float* given = grad_y + r * D;
    float* out = grad_x + r * D;
    work.open(x + r * D, count);
    packed_product(count, F, D, {given, D, 1}, down, into_act, F, false);
    for (int64_t t = 0; t < count; ++t)
      for (int64_t f = 0; f < F; f += VL) {
        const int n = lanes(F - f);
        float* gate = work.wide + t * 2 * F + f;
        const Vec g = load(gate, n), u = load(gate + F, n), into = load(into_act + t * F + f, n);
        const Normal at = normal(g);
        store(work.act + t * F + f, g * at.below * u, n);
        store(gate, into * u * (at.below + g * at.density), n);
        store(gate + F, into * g * at.below, n);
      }
    product(D, F, count, {given, 1, D}, work.act, F, of_down, F, true);
    product(2 * F, D, count, {work.wide, 1, 2 * F}, work.normed, D, of_up, D, true);
    packed_product(count, D, 2 * F, {work.wide, 2 * F, 1}, up, out, D, false);
    normalize_backward(count, D, x + r * D, w.norm, z.eps, out, sums);
    for (int64_t i = 0; z.residual && i < count * D; ++i) out[i] += given[i];
  }
}

}  // namespace ISA
