// The chunkwise mLSTM backward; see xlstm_model/cells/mlstm_passes.py.
//
// A row goes through its chunks from the last to the first, with the gradient of the memory at the
// chunk's end. Scores and weights are computed again.

#pragma once
#include "mlstm_chunk.h"

namespace ISA {

// Gradient of what one chunk's positions read: of the numerators (count x VP, from that of h), of
// the denominators, and the queries' share of the gates' gradient.
static void output_backward(const MlstmShape& z, const MlstmGradient& g, const Place& p, int64_t VP,
                            const double* log_i, const Factors& f, float* numerator,
                            float* denominator) {
  gather(g.grad_h + p.at * z.DV, z.NH * z.DV, p.count, z.DV, VP, log_i, numerator);
  for (int64_t t = 0; t < p.count; ++t) {
    const int64_t place = p.row * z.S + p.start + t;
    const float below = g.denominator[place], magnitude = below < 0 ? -below : below;
    const bool is_active = magnitude >= f.floor[t];
    const float divisor = (is_active ? magnitude : f.floor[t]) + float(z.eps);
    const float* h = g.h + (p.at + t * z.NH) * z.DV;
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

// What one chunk's backward works in.
struct ChunkGradient {
  float *up, *below;         // of the numerators and denominators
  float *q, *k, *v;          // of the inputs
  float *weights, *scaled, *c_turned, *n;
  float *c, *c_norm;         // of the memory's two tensors
  ChunkGradient(const MlstmShape& z, const Chunk& x, Scratch& scratch) {
    up = scratch.take(z.length * x.VP);
    below = scratch.take(x.LP);
    q = scratch.take(z.length * x.KP);
    k = scratch.take(z.length * x.KP);
    v = scratch.take(z.length * x.VP);
    weights = scratch.take(z.length * x.LP);
    scaled = scratch.take(z.length * x.KP);
    c_turned = scratch.take(z.DV * x.KP);
    n = scratch.take(x.KP);
    c = scratch.take(z.DK * x.VP);
    c_norm = scratch.take(x.KP);
  }
  static int64_t size(const MlstmShape& z) {
    const int64_t LP = padded(z.length), KP = padded(z.DK), VP = padded(z.DV);
    return z.length * (2 * VP + 3 * KP + LP) + LP + z.DV * KP + z.DK * VP + 2 * KP + 512;
  }
};

// Through what positions read from their own chunk.
static void attend_backward(const MlstmShape& z, const Chunk& x, int64_t count, ChunkGradient& g) {
  transpose(count, z.DK, x.k, x.KP, x.turned, x.LP);
  lower_scores(count, z.DK, x.q, x.KP, x.turned, x.LP, x.scores);
  weigh(count, x.LP, x.f, x.scores, g.weights);
  lower_transposed_product(count, x.VP, x.scores, x.LP, g.up, x.VP, g.v);
  transpose(count, z.DV, x.v, x.VP, x.turned, x.LP);
  lower_scores(count, z.DV, g.up, x.VP, x.turned, x.LP, x.scores);
  for (int64_t t = 0; t < count; ++t)
    for (int64_t s = 0; s < x.LP; s += VL) {
      const int64_t at = t * x.LP + s;
      store(x.scores + at,
            s <= t ? (load(x.scores + at) + g.below[t]) * load(g.weights + at) : Vec{});
    }
  lower_product(count, x.KP, {x.scores, x.LP, 1}, x.k, x.KP, g.q, false);
  lower_transposed_product(count, x.KP, x.scores, x.LP, x.q, x.KP, g.k);
}

// rows += (scaled + added * factor of the row) * share of the row.
static void add_shared(int64_t count, int64_t width, const float* scaled, const float* added,
                       const float* factor, const float* share, float* rows) {
  for (int64_t t = 0; t < count; ++t)
    for (int64_t d = 0; d < width; d += VL) {
      const Vec own = load(added + d) * (factor ? factor[t] : 1.0f);
      float* row = rows + t * width + d;
      store(row, load(row) + (load(scaled + t * width + d) + own) * share[t]);
    }
}

// Through what the chunk wrote into the memory after it.
static void write_backward(const MlstmShape& z, const Chunk& x, int64_t count, ChunkGradient& g) {
  transpose(z.DK, z.DV, g.c, x.VP, g.c_turned, x.KP);
  product(count, x.KP, z.DV, {x.v, x.VP, 1}, g.c_turned, x.KP, g.scaled, x.KP, false);
  add_shared(count, x.KP, g.scaled, g.c_norm, nullptr, x.f.write, g.k);
  scale_rows(count, x.KP, x.k, x.f.write, g.scaled);
  product(count, x.VP, z.DK, {g.scaled, x.KP, 1}, g.c, x.VP, g.v, x.VP, true);
}

// Through what positions read from the memory before the chunk, whose gradient replaces that of the
// memory after it; `passes` says whether there was one.
static void read_backward(const MlstmShape& z, const Chunk& x, int64_t count, const float* c,
                          const float* n, bool passes, ChunkGradient& g) {
  transpose(z.DK, z.DV, c, z.DV, g.c_turned, x.KP);
  load_memory(n, 1, z.DK, x.KP, g.n);
  product(count, x.KP, z.DV, {g.up, x.VP, 1}, g.c_turned, x.KP, g.scaled, x.KP, false);
  add_shared(count, x.KP, g.scaled, g.n, g.below, x.f.read, g.q);
  scale_rows(count, x.KP, x.q, x.f.read, g.scaled);
  if (passes) scale(z.DK * x.VP, x.f.keep, g.c);
  product(z.DK, x.VP, count, {g.scaled, 1, x.KP}, g.up, x.VP, g.c, x.VP, passes);
  scale_rows(count, x.KP, g.scaled, g.below, g.scaled);
  add_rows(count, x.KP, g.scaled, passes ? x.f.keep : 0.0f, g.c_norm);
}

static void scatter(const float* from, int64_t width, int64_t count, int64_t D, int64_t stride,
                    float* to) {
  for (int64_t t = 0; t < count; ++t)
    copy(D, from + t * width, to + t * stride);
}

// One chunk; returns whether a gradient of the memory before it is in `work`.
static bool chunk_backward(const MlstmShape& z, const MlstmInputs& in, const MlstmMemory& memory,
                           const MlstmGradient& g, const Place& p, int64_t chunk, double m,
                           bool passes, Chunk& x, ChunkGradient& work) {
  x.fetch(z, in, p, m);
  const double* log_i = in.log_i + p.row * z.S + p.start;
  output_backward(z, g, p, x.VP, log_i, x.f, work.up, work.below);
  attend_backward(z, x, p.count, work);
  if (passes) write_backward(z, x, p.count, work);
  if (chunk > 0 || !z.is_empty) {
    const int64_t border = chunk * z.B * z.NH + p.row;
    read_backward(z, x, p.count, memory.c + border * z.DK * z.DV, memory.n + border * z.DK, passes,
                  work);
    passes = true;
  }
  for (int64_t t = 0; t < p.count; ++t) {
    const int64_t place = p.row * z.S + p.start + t;
    g.log_i[place] = inner(x.k + t * x.KP, work.k + t * x.KP, x.KP);
    g.share[place] -= g.log_i[place];
  }
  scatter(work.q, x.KP, p.count, z.DK, z.NH * z.DK, g.q + p.at * z.DK);
  scatter(work.k, x.KP, p.count, z.DK, z.NH * z.DK, g.k + p.at * z.DK);
  scatter(work.v, x.VP, p.count, z.DV, z.NH * z.DV, g.v + p.at * z.DV);
  return passes;
}

// Rows first..last of B * NH.
static void mlstm_backward(const MlstmShape& z, int64_t first, int64_t last, const MlstmInputs& in,
                           const MlstmMemory& memory, const MlstmGradient& g) {
  Scratch scratch(Chunk::size(z) + ChunkGradient::size(z) + 2 * (z.chunks + 1) + 64);
  Chunk x(z, scratch);
  ChunkGradient work(z, x, scratch);
  double* m = reinterpret_cast<double*>(scratch.take(2 * (z.chunks + 1)));  // at the borders
  for (int64_t row = first; row < last; ++row) {
    m[0] = in.m[row];
    for (int64_t chunk = 0; chunk < z.chunks; ++chunk)
      m[chunk + 1] = border_after(in.log_i + row * z.S, in.log_f + row * z.S, chunk * z.length,
                                  z.S, z.length, m[chunk]);
    bool passes = g.end_c != nullptr;  // whether the memory after the chunk has a gradient
    if (passes) {
      load_memory(g.end_c + row * z.DK * z.DV, z.DK, z.DV, x.VP, work.c);
      load_memory(g.end_n + row * z.DK, 1, z.DK, x.KP, work.c_norm);
    }
    for (int64_t chunk = z.chunks - 1; chunk >= 0; --chunk)
      passes = chunk_backward(z, in, memory, g, Place(z, row, chunk), chunk, m[chunk], passes, x,
                              work);
    if (g.start_c) {
      store_memory(work.c, z.DK, z.DV, x.VP, g.start_c + row * z.DK * z.DV);
      store_memory(work.c_norm, 1, z.DK, x.KP, g.start_n + row * z.DK);
    }
  }
}

}  // namespace ISA
