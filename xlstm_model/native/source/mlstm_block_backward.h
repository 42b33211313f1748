// The mLSTM block backwards; see mlstm_block.h. A sample goes from its last chunk to its first; what
// the forward pass did not keep is computed again.

#pragma once
#include "mlstm_backward.h"
#include "mlstm_block.h"

namespace ISA {

// Sums over samples of the gradients of the weights, in the order of MlstmBlockWeights.
struct BlockSums {
  float *norm, *up, *mix, *merge, *skip, *down;
  BlockSums(const MlstmBlockShape& z, float* at) {
    norm = at;
    up = norm + z.D;
    mix = up + 2 * z.C * z.D;
    merge = mix + z.C * (z.taps + 13 + 6 * z.NH) + 2 * z.NH;
    skip = merge + z.C;
    down = skip + z.C;
  }
};

template <bool WHOLE>
static void normalize_rows_backward(int64_t count, int64_t D, const float* x, const float* weight,
                                    double eps, float* up, float* grad_weight) {
  for (int64_t t = 0; t < count; ++t, x += D, up += D) {
    const Moments m = moments<WHOLE>(x, D, eps);
    Vec total{}, products{};
    for (int64_t d = 0; d < D; d += VL) {
      const int n = WHOLE ? VL : lanes(D - d);
      const Vec value = (load(x + d, n) - m.mean) * m.inverse, given = load(up + d, n);
      const Vec into = given * (1.0f + load(weight + d, n));
      store(grad_weight + d, load(grad_weight + d, n) + given * value, n);
      store(up + d, into, n);
      total += into;
      products += into * value;
    }
    const float mean = sum(total) / float(D), slope = sum(products) / float(D);
    for (int64_t d = 0; d < D; d += VL) {
      const int n = WHOLE ? VL : lanes(D - d);
      const Vec value = (load(x + d, n) - m.mean) * m.inverse;
      store(up + d, (load(up + d, n) - mean - value * slope) * m.inverse, n);
    }
  }
}

// Through the norm of each row: from the gradient `up` of its result (count, D), changed to that of
// its input.
static void normalize_backward(int64_t count, int64_t D, const float* x, const float* weight,
                               double eps, float* up, float* grad_weight) {
  if (!weight) return;
  (D % VL ? normalize_rows_backward<false> : normalize_rows_backward<true>)(count, D, x, weight, eps,
                                                                            up, grad_weight);
}

// Everything the backward pass needs beside what the forward pass works in.
struct BlockBackward {
  BlockForward forward;
  const MlstmBlockShape& z;
  Packed sums;                       // of the mix
  FoldedGates of_gates;
  float *up_inner, *up_z, *down;     // matrices in panels, for the gradients of their inputs
  float *given_room, *grad_room;     // (length, D)
  float *merged, *h, *inner, *out;   // (length, C): gradients; inner and out of the up-projection
  float *q, *k, *v, *mixed, *gates;  // (length, C); (length, 2 NH)
  double *log_i, *share, *onward;    // (NH, count); (NH)
  float *c, *n, *later;              // gradient of all heads' memory; see mix_rows_backward
  ChunkGradient cell;
  BlockBackward(const MlstmBlockShape& z, const MlstmBlockWeights& w, Scratch& scratch)
      : forward(z, w, scratch, true), z(z), sums(mix_of(z), scratch),
        of_gates(mix_of(z), scratch),
        up_inner(scratch.take(panels(z.C, z.D))), up_z(scratch.take(panels(z.C, z.D))),
        down(scratch.take(panels(z.D, z.C))),
        cell(cell_of(z, z.length, true), forward.chunk, scratch) {
    for (float** part : {&given_room, &grad_room}) *part = scratch.take(z.length * z.D);
    for (float** part : {&merged, &h, &inner, &out, &q, &k, &v, &mixed})
      *part = scratch.take(z.length * z.C);
    gates = scratch.take(z.length * 2 * z.NH);
    for (double** part : {&log_i, &share})
      *part = reinterpret_cast<double*>(scratch.take(2 * z.length * z.NH));
    onward = reinterpret_cast<double*>(scratch.take(2 * z.NH));
    c = scratch.take(z.NH * z.DH() * forward.chunk.VP);
    n = scratch.take(z.NH * forward.chunk.KP);
    later = scratch.take(padded(z.C) * MAX_TAPS);
    pack(z.C, z.D, w.up, z.D, 1, up_inner);
    pack(z.C, z.D, w.up + z.C * z.D, z.D, 1, up_z);
    pack(z.D, z.C, w.down, z.C, 1, down);
  }
  static int64_t size(const MlstmBlockShape& z) {
    const int64_t width = padded(z.DH());
    return BlockForward::size(z) + Packed::size(mix_of(z)) + FoldedGates::size(mix_of(z)) +
           2 * panels(z.C, z.D) + panels(z.D, z.C) + ChunkGradient::size(cell_of(z, z.length, true)) +
           z.length * (2 * z.D + 8 * z.C + 6 * z.NH) + 2 * z.NH +
           z.NH * (z.DH() + 1) * width + padded(z.C) * MAX_TAPS + 1024;
  }

  // Through the cell of one chunk: fills q, k, v and gates.
  void through_cell(const Sample& s, int64_t chunk, const Borders& borders, bool is_given,
                    const float* own_h, const float* denominator, const float* own_gates,
                    bool passes) {
    Front& f = forward.front;
    const int64_t count = s.count(chunk), DH = z.DH();
    const bool reads = chunk > 0 || is_given;
    const MlstmShape shape = cell_of(z, count, reads);
    const double* m = borders.m_before(s.b, chunk);
    const MlstmInputs in = {f.rows.q, f.rows.k, f.rows.v, f.log_i, f.log_f, m};
    const MlstmMemory memory = {reads ? borders.c_before(s.b, chunk) : nullptr,
                                reads ? borders.n_before(s.b, chunk) : nullptr};
    const MlstmGradient g = {own_h, h, denominator, nullptr, nullptr, q,       k,
                             v,     log_i, share,   nullptr, nullptr, nullptr};
    for (int64_t head = 0; head < z.NH; ++head) {
      cell.c = c + head * DH * forward.chunk.VP;
      cell.c_norm = n + head * forward.chunk.KP;
      chunk_backward(shape, in, memory, g, Place(shape, head, 0), 0, m[head], passes,
                     forward.chunk, cell);
      for (int64_t t = count - 1; t >= 0; --t) {
        onward[head] += share[head * count + t];
        const float* before = own_gates + t * 2 * z.NH + head;
        const double i = before[0], o = before[z.NH];
        const double into_i = log_i[head * count + t];
        gates[t * 2 * z.NH + head] = float(z.sigmoid ? into_i * open_below(i) : into_i);
        gates[t * 2 * z.NH + z.NH + head] = float(onward[head] * open_below(o));
      }
    }
  }
};

// Samples first..last; the sums start at 0.
static void mlstm_block_backward(const MlstmBlockShape& z, int64_t first, int64_t last,
                                 const MlstmBlockWeights& w, const float* x, const uint8_t* mask,
                                 const MlstmBlockState& start, const MlstmBlockSaved& saved,
                                 const float* grad_y, float* grad_x, float* weights) {
  Scratch scratch(BlockBackward::size(z));
  BlockBackward work(z, w, scratch);
  BlockForward& forward = work.forward;
  const Borders borders(z, start, saved);
  const BlockSums sums(z, weights);
  const int64_t C = z.C, D = z.D;
  const MixShape mix = mix_of(z);
  for (int64_t b = first; b < last; ++b) {
    const Sample s(z, mask, b, forward.position);
    const float *wide = saved.wide + b * z.S * 2 * C, *h = saved.h + b * z.S * C;
    const Rows rows = forward.rows(wide, start.conv, b);
    if (s.real < z.S) std::memset(grad_x + b * z.S * D, 0, sizeof(float) * z.S * D);
    std::memset(work.later, 0, sizeof(float) * padded(C) * MAX_TAPS);
    for (int64_t head = 0; head < z.NH; ++head) work.onward[head] = 0;
    for (int64_t j = s.chunks - 1; j >= 0; --j) {
      const int64_t r0 = s.start(j), count = s.count(j);
      const float *own_wide = wide + r0 * 2 * C, *own_h = h + r0 * C;
      const float* gates = saved.gates + (b * z.S + r0) * 2 * z.NH;
      const float* given = gather_rows(z, s, r0, count, grad_y, work.given_room);
      float* into = dense_rows(z, s, r0, count, grad_x, work.grad_room);
      MixedRows& front = forward.front.rows;
      // In one go from far away: columns are read below, which the processor does not foresee.
      for (int64_t i = 0; i < count * 2 * C; i += 16) __builtin_prefetch(own_wide + i, 0, 2);
      for (int64_t i = 0; i < count * C; i += 16) __builtin_prefetch(own_h + i, 0, 2);
      forward.read(s, x, r0, count);
      mix_rows(mix, rows, forward.mix, forward.folded, r0, count, front, nullptr);
      open_gates(z, count, gates, forward.front);
      packed_product(count, C, D, {given, D, 1}, work.down, work.merged, C, false);
      merge_backward(forward.merge_shape(count), 0, count,
                     {own_h, front.mixed, own_wide + C, forward.scale, w.skip},
                     {work.merged, work.h, work.mixed, work.out, sums.merge, forward.merged});
      product(D, C, count, {given, 1, D}, forward.merged, C, sums.down, C, true);
      work.through_cell(s, j, borders, start.c != nullptr, own_h,
                        saved.denominator + (b * z.S + r0) * z.NH, gates, j + 1 < s.chunks);
      mix_rows_backward(mix, rows, forward.mix, forward.folded, r0, count, front, work.gates,
                        {work.mixed, work.q, work.k, work.v, work.inner}, work.later, work.of_gates,
                        work.sums);
      product(C, D, count, {work.inner, 1, C}, forward.front.normed, D, sums.up, D, true);
      product(C, D, count, {work.out, 1, C}, forward.front.normed, D, sums.up + C * D, D, true);
      packed_product(count, D, C, {work.inner, C, 1}, work.up_inner, into, D, false);
      packed_product(count, D, C, {work.out, C, 1}, work.up_z, into, D, true);
      normalize_backward(count, D, forward.front.x, w.norm, z.norm_eps, into, sums.norm);
      for (int64_t i = 0; z.residual && i < count * D; ++i) into[i] += given[i];
      scatter_rows(z, s, r0, count, into, work.grad_room, grad_x);
    }
  }
  unfold_gates(mix, forward.mix, work.of_gates, work.sums);
  unpack_sums(mix, work.sums, sums.mix);
}

}  // namespace ISA
