// The chunkwise mLSTM forward, and its step; see xlstm_model/cells/mlstm_passes.py.
//
// Rows (sample and head) are independent: one row goes through its chunks while everything it needs
// stays in the cache. Of the products within a chunk only the causal half is computed.

#pragma once
#include "mlstm_chunk.h"

namespace ISA {

// Outputs of one chunk, from the memory (c, n) before it if there is one.
static void read_chunk(const MlstmShape& z, const Chunk& x, const Place& p, bool reads,
                       const float* c, const float* n, float* numerator, float* h,
                       float* denominator) {
  transpose(p.count, z.DK, x.k, x.KP, x.turned, x.LP);
  lower_scores(p.count, z.DK, x.q, x.KP, x.turned, x.LP, x.scores);
  weigh(p.count, x.LP, x.f, x.scores, nullptr);
  if (reads) {
    product(p.count, x.VP, z.DK, {x.q, x.KP, 1}, c, x.VP, numerator, x.VP, false);
    scale_rows(p.count, x.VP, numerator, x.f.read, numerator);
  }
  lower_product(p.count, x.VP, {x.scores, x.LP, 1}, x.v, x.VP, numerator, reads);
  for (int64_t t = 0; t < p.count; ++t) {
    Vec total{};
    for (int64_t s = 0; s <= t; s += VL) total += load(x.scores + t * x.LP + s);
    float below = sum(total);
    if (reads) below += x.f.read[t] * inner(x.q + t * x.KP, n, x.KP);
    denominator[p.row * z.S + p.start + t] = below;
    below = below < 0 ? -below : below;
    const float floor = x.f.floor[t];
    const float inverse = 1.0f / ((below > floor ? below : floor) + float(z.eps));
    float* out = h + (p.at + t * z.NH) * z.DV;
    for (int64_t d = 0; d < z.DV; d += VL)
      store(out + d, load(numerator + t * x.VP + d) * inverse,
            z.DV - d < VL ? int(z.DV - d) : VL);
  }
}

// Rows first..last of B * NH. h: (B, S, NH, DV); denominator: (B, NH, S); m_last: (B, NH).
static void mlstm_forward(const MlstmShape& z, int64_t first, int64_t last, const MlstmInputs& in,
                          const MlstmMemory& memory, float* h, float* denominator,
                          double* m_last) {
  const int64_t KP = padded(z.DK), VP = padded(z.DV), rows = z.B * z.NH;
  Scratch scratch(Chunk::size(z) + z.length * VP + z.DK * VP + KP + 64);
  Chunk x(z, scratch);
  float *numerator = scratch.take(z.length * VP);
  float *c = scratch.take(z.DK * VP), *n = scratch.take(KP);
  for (int64_t row = first; row < last; ++row) {
    double m = in.m[row];
    load_memory(memory.c + row * z.DK * z.DV, z.DK, z.DV, VP, c);
    load_memory(memory.n + row * z.DK, 1, z.DK, KP, n);
    for (int64_t chunk = 0; chunk < z.chunks; ++chunk) {
      const Place p(z, row, chunk);
      const bool reads = chunk > 0 || !z.is_empty;
      x.fetch(z, in, p, m);
      read_chunk(z, x, p, reads, c, n, numerator, h, denominator);
      scale_rows(p.count, KP, x.k, x.f.write, x.k);
      if (reads) scale(z.DK * VP, x.f.keep, c);
      product(z.DK, VP, p.count, {x.k, 1, KP}, x.v, VP, c, VP, reads);
      add_rows(p.count, KP, x.k, reads ? x.f.keep : 0.0f, n);
      const int64_t border = (chunk + 1) * rows + row;
      store_memory(c, z.DK, z.DV, VP, memory.c + border * z.DK * z.DV);
      store_memory(n, 1, z.DK, KP, memory.n + border * z.DK);
      m = x.f.next;
    }
    m_last[row] = m;
  }
}

// Rows first..last of B * NH: one pass over the memory.
static void mlstm_step(const MlstmStep& z, int64_t first, int64_t last) {
  const float root = std::sqrt(float(z.DK));
  for (int64_t row = first; row < last; ++row) {
    const float *q = z.q + row * z.DK, *k = z.k + row * z.DK, *v = z.v + row * z.DV;
    const float *c = z.c + row * z.DK * z.DV, *n = z.n + row * z.DK;
    float *next_c = z.next_c + row * z.DK * z.DV, *next_n = z.next_n + row * z.DK;
    const float carried = log_sigmoid(splat(z.fgate[row]))[0] + z.m[row], log_i = z.igate[row];
    const float m = carried > log_i ? carried : log_i;
    const float keep = exponential(splat(carried - m))[0], write = exponential(splat(log_i - m))[0];
    float below = 0;
    for (int64_t d = 0; d < z.DK; ++d) {
      next_n[d] = keep * n[d] + write * k[d] / root;
      below += q[d] * next_n[d];
    }
    below = below < 0 ? -below : below;
    const float floor = exponential(splat(floor_exponent(m)))[0];
    const float inverse = 1.0f / ((below > floor ? below : floor) + float(z.eps));
    float* h = z.h + row * z.DV;
    std::memset(h, 0, sizeof(float) * z.DV);
    for (int64_t d = 0; d < z.DK; ++d) {
      const float written = write * k[d] / root, asked = q[d] * inverse;
      for (int64_t e = 0; e < z.DV; e += VL) {
        const int count = z.DV - e < VL ? int(z.DV - e) : VL;
        const Vec x = keep * load(c + d * z.DV + e, count) + written * load(v + e, count);
        store(next_c + d * z.DV + e, x, count);
        store(h + e, load(h + e, count) + asked * x, count);
      }
    }
    z.next_m[row] = m;
  }
}

}  // namespace ISA
