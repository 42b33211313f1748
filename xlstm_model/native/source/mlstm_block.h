// The mLSTM block over whole sequences: norm, up-projection, convolution, q, k, v, gates, cell, norm of
// the heads, skip, output gate, down-projection, residual.
//
// A sample goes through all of it chunk by chunk, so that nothing between the block's input and output
// leaves the second cache. Padded positions are left out from the beginning: what is numbered here are
// the real positions of a sample.

#pragma once
#include <initializer_list>

#include "block_step.h"
#include "mixing_chunk.h"

namespace ISA {

// Logarithm of the sigmoid, and the sigmoid of -x, in double precision.
static inline double log_sigmoid(double x) {
  return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x));
}
static inline double open_below(double x) { return 1.0 / (1.0 + std::exp(x)); }

static MixShape mix_of(const MlstmBlockShape& z) {
  return {1, z.S, z.C, 2 * z.C, z.taps, 2 * z.NH};
}

// The cell of one chunk of `count` positions, all heads, as sequences of one chunk of one sample.
static MlstmShape cell_of(const MlstmBlockShape& z, int64_t count, bool reads) {
  return {1, z.NH, count, z.DH(), z.DH(), count, 1, !reads, z.cell_eps};
}

// What the block computes of one chunk before the cell.
struct Front {
  const float* x;              // (count, D)
  float *room, *normed;        // (length, D): for rows of x; normalised and scaled
  MixedRows rows;              // (length, C), the slope only for the backward pass
  double *log_i, *log_f;       // (NH, count)
  Front(const MlstmBlockShape& z, Scratch& scratch, bool slopes) {
    for (float** part : {&room, &normed}) *part = scratch.take(z.length * z.D);
    for (float** part : {&rows.mixed, &rows.q, &rows.k, &rows.v})
      *part = scratch.take(z.length * z.C);
    rows.slope = slopes ? scratch.take(z.length * z.C) : nullptr;
    for (double** part : {&log_i, &log_f})
      *part = reinterpret_cast<double*>(scratch.take(2 * z.length * z.NH));
  }
  static int64_t size(const MlstmBlockShape& z) {
    return z.length * (2 * z.D + 5 * z.C + 4 * z.NH) + 256;
  }
};

// One sample: which of its positions are real, and into how many chunks of which length they fall.
struct Sample {
  int64_t b, real, chunks, length;
  const int64_t* position;
  Sample(const MlstmBlockShape& z, const uint8_t* mask, int64_t b, int64_t* room)
      : b(b), real(real_positions(mask ? mask + b * z.S : nullptr, z.S, room)), position(room) {
    chunks = (real + z.length - 1) / z.length;
    length = chunks ? (real + chunks - 1) / chunks : 0;
  }
  int64_t start(int64_t chunk) const { return chunk * length; }
  int64_t count(int64_t chunk) const {
    return real - start(chunk) < length ? real - start(chunk) : length;
  }
};

// A chunk's rows of (B, S, D), one after another: where they stand if nothing is between them.
template <class Float>
static Float* dense_rows(const MlstmBlockShape& z, const Sample& s, int64_t start, int64_t count,
                         Float* whole, Float* otherwise) {
  const int64_t* at = s.position + start;
  return at[count - 1] - at[0] == count - 1 ? whole + (s.b * z.S + at[0]) * z.D : otherwise;
}
static const float* gather_rows(const MlstmBlockShape& z, const Sample& s, int64_t start,
                                int64_t count, const float* from, float* room) {
  const float* rows = dense_rows<const float>(z, s, start, count, from, room);
  for (int64_t t = 0; rows == room && t < count; ++t)
    copy(z.D, from + (s.b * z.S + s.position[start + t]) * z.D, room + t * z.D);
  return rows;
}
static void scatter_rows(const MlstmBlockShape& z, const Sample& s, int64_t start, int64_t count,
                         const float* rows, const float* room, float* to) {
  for (int64_t t = 0; rows == room && t < count; ++t)
    copy(z.D, room + t * z.D, to + (s.b * z.S + s.position[start + t]) * z.D);
}

// Logarithms of a chunk's gates (count, 2 NH).
static void open_gates(const MlstmBlockShape& z, int64_t count, const float* gates, Front& f) {
  for (int64_t t = 0; t < count; ++t, gates += 2 * z.NH)
    for (int64_t head = 0; head < z.NH; ++head) {
      const double i = gates[head], o = gates[z.NH + head];
      f.log_i[head * count + t] = z.sigmoid ? log_sigmoid(i) : i;
      f.log_f[head * count + t] = log_sigmoid(o);
    }
}

// Where the memory before a chunk stands: given with the call for the first, kept for the others.
struct Borders {
  const MlstmBlockState& start;
  float *c, *n;  // (B, chunks - 1, NH, DH, DH), (B, chunks - 1, NH, DH)
  double* m;     // (B, chunks, NH): before each chunk
  int64_t most, heads, DH;
  Borders(const MlstmBlockShape& z, const MlstmBlockState& start, const MlstmBlockSaved& saved)
      : start(start), c(saved.c), n(saved.n), m(saved.m), most(z.chunks), heads(z.NH), DH(z.DH()) {}
  int64_t row(int64_t b, int64_t chunk) const {
    return (chunk ? b * (most - 1) + chunk - 1 : b) * heads;
  }
  float* c_before(int64_t b, int64_t chunk) const {
    return (chunk ? c : start.c) + row(b, chunk) * DH * DH;
  }
  float* n_before(int64_t b, int64_t chunk) const {
    return (chunk ? n : start.n) + row(b, chunk) * DH;
  }
  double* m_before(int64_t b, int64_t chunk) const { return m + (b * most + chunk) * heads; }
};

// Everything the forward pass works in.
struct BlockForward {
  const MlstmBlockShape& z;
  const MlstmBlockWeights& w;
  Packed mix;
  FoldedGates folded;
  float *up, *down, *scale;        // matrices in panels; 1 + weight of the heads' norm
  Front front;
  Chunk chunk;
  float *numerator, *merged, *c, *n;  // c, n: memory of all heads
  int64_t* position;
  int64_t* in_order;               // 0, 1, 2, ...
  double* after;                   // m after a chunk (NH)
  BlockForward(const MlstmBlockShape& z, const MlstmBlockWeights& w, Scratch& scratch,
               bool slopes = false)
      : z(z), w(w), mix(mix_of(z), scratch), folded(mix_of(z), scratch),
        up(scratch.take(panels(z.D, 2 * z.C))), down(scratch.take(panels(z.C, z.D))),
        scale(scratch.take(z.C)), front(z, scratch, slopes),
        chunk(cell_of(z, z.length, true), scratch) {
    numerator = scratch.take(z.length * chunk.VP);
    merged = scratch.take(z.length * z.C);
    c = scratch.take(z.NH * z.DH() * chunk.VP);
    n = scratch.take(z.NH * chunk.KP);
    position = reinterpret_cast<int64_t*>(scratch.take(2 * z.S));
    in_order = reinterpret_cast<int64_t*>(scratch.take(2 * z.S));
    after = reinterpret_cast<double*>(scratch.take(2 * z.NH));
    for (int64_t t = 0; t < z.S; ++t) in_order[t] = t;
    pack_weights(mix_of(z), w.mix, mix);
    fold_gates(mix_of(z), mix, folded);
    pack(z.D, 2 * z.C, w.up, 1, z.D, up);
    pack(z.C, z.D, w.down, 1, z.C, down);
    for (int64_t i = 0; w.merge && i < z.C; ++i) scale[i] = 1.0f + w.merge[i];
  }
  static int64_t size(const MlstmBlockShape& z) {
    const int64_t width = padded(z.DH());
    return Packed::size(mix_of(z)) + FoldedGates::size(mix_of(z)) + panels(z.D, 2 * z.C) +
           panels(z.C, z.D) + z.C + Front::size(z) + Chunk::size(cell_of(z, z.length, true)) +
           z.length * (width + z.C) + z.NH * (z.DH() + 1) * width + 4 * z.S + 2 * z.NH + 512;
  }
  MergeShape merge_shape(int64_t count) const {
    return {count, z.groups, z.C / z.groups, z.C, 2 * z.C, w.merge != nullptr, z.merge_eps};
  }
  Rows rows(const float* wide, const float* state, int64_t b) const {
    return {wide, state + b * (z.taps > 1 ? z.taps - 1 : 0) * z.C, in_order, 2 * z.C, z.taps, z.C};
  }
  void read(const Sample& s, const float* x, int64_t start, int64_t count) {
    front.x = gather_rows(z, s, start, count, x, front.room);
    for (int64_t t = 0; t < count; ++t)
      normalize(1, z.D, front.x + t * z.D, w.norm, z.norm_eps, front.normed + t * z.D);
  }
  // The cell and what follows it; memory is that before the chunk and becomes that after it.
  void run_cell(int64_t count, bool reads, double* m, const double* before, float* h,
                float* denominator) {
    const MlstmShape cell = cell_of(z, count, reads);
    const MlstmInputs in = {front.rows.q, front.rows.k, front.rows.v, front.log_i, front.log_f, before};
    for (int64_t head = 0; head < z.NH; ++head) {
      const Place p(cell, head, 0);
      float *own_c = c + head * z.DH() * chunk.VP, *own_n = n + head * chunk.KP;
      chunk.fetch(cell, in, p, before[head]);
      read_chunk(cell, chunk, p, reads, own_c, own_n, numerator, h, denominator);
      scale_rows(count, chunk.KP, chunk.k, chunk.f.write, chunk.k);
      if (reads) ISA::scale(z.DH() * chunk.VP, chunk.f.keep, own_c);
      product(z.DH(), chunk.VP, count, {chunk.k, 1, chunk.KP}, chunk.v, chunk.VP, own_c, chunk.VP,
              reads);
      add_rows(count, chunk.KP, chunk.k, reads ? chunk.f.keep : 0.0f, own_n);
      m[head] = chunk.f.next;
    }
  }
  void load_state(float* from_c, float* from_n) {
    load_memory(from_c, z.NH * z.DH(), z.DH(), chunk.VP, c);
    load_memory(from_n, z.NH, z.DH(), chunk.KP, n);
  }
  void store_state(float* to_c, float* to_n) {
    store_memory(c, z.NH * z.DH(), z.DH(), chunk.VP, to_c);
    store_memory(n, z.NH, z.DH(), chunk.KP, to_n);
  }
};

// The convolution's state after a sample.
static void store_history(const MlstmBlockShape& z, const Rows& rows, int64_t b, int64_t real,
                          float* conv) {
  const int64_t history = z.taps > 1 ? z.taps - 1 : 0;
  for (int64_t i = 0; i < history; ++i)
    std::memcpy(conv + (b * history + i) * z.C, rows.at(real - history + i), sizeof(float) * z.C);
}

// Samples first..last. The memory `start.c` is null when empty. What is `saved` is written, for the
// backward pass too.
static void mlstm_block_forward(const MlstmBlockShape& z, int64_t first, int64_t last,
                                const MlstmBlockWeights& w, const float* x, const uint8_t* mask,
                                const MlstmBlockState& start, float* y, const MlstmBlockState& end,
                                const MlstmBlockSaved& saved) {
  Scratch scratch(BlockForward::size(z));
  BlockForward work(z, w, scratch);
  const Borders borders(z, start, saved);
  for (int64_t b = first; b < last; ++b) {
    const Sample s(z, mask, b, work.position);
    const bool is_given = start.c != nullptr;
    float *wide = saved.wide + b * z.S * 2 * z.C, *h = saved.h + b * z.S * z.C;
    const Rows rows = work.rows(wide, start.conv, b);
    double* m = borders.m_before(b, 0);
    for (int64_t head = 0; head < z.NH; ++head)
      m[head] = is_given ? double(start.m[b * z.NH + head]) : -INFINITY;
    if (is_given) work.load_state(borders.c_before(b, 0), borders.n_before(b, 0));
    else if (!s.real) std::memset(work.c, 0, sizeof(float) * z.NH * (z.DH() * work.chunk.VP));
    if (!is_given && !s.real) std::memset(work.n, 0, sizeof(float) * z.NH * work.chunk.KP);
    if (s.real < z.S) std::memset(y + b * z.S * z.D, 0, sizeof(float) * z.S * z.D);
    double* after = work.after;
    for (int64_t j = 0; j < s.chunks; ++j) {
      const int64_t r0 = s.start(j), count = s.count(j);
      float* gates = saved.gates + (b * z.S + r0) * 2 * z.NH;
      work.read(s, x, r0, count);
      packed_product(count, 2 * z.C, z.D, {work.front.normed, z.D, 1}, work.up, wide + r0 * 2 * z.C,
                     2 * z.C, false);
      mix_rows(mix_of(z), rows, work.mix, work.folded, r0, count, work.front.rows, gates);
      open_gates(z, count, gates, work.front);
      m = borders.m_before(b, j);
      work.run_cell(count, j > 0 || is_given, after, m, h + r0 * z.C,
                    saved.denominator + (b * z.S + r0) * z.NH);
      if (j + 1 < s.chunks) {
        work.store_state(borders.c_before(b, j + 1), borders.n_before(b, j + 1));
        std::memcpy(borders.m_before(b, j + 1), after, sizeof(double) * z.NH);
      }
      merge_forward(work.merge_shape(count), 0, count,
                    {h + r0 * z.C, work.front.rows.mixed, wide + r0 * 2 * z.C + z.C, work.scale, w.skip},
                    work.merged);
      float* out = dense_rows(z, s, r0, count, y, work.front.room);
      if (z.residual && out != work.front.room) copy(count * z.D, work.front.x, out);
      packed_product(count, z.D, z.C, {work.merged, z.C, 1}, work.down, out, z.D, z.residual != 0);
      scatter_rows(z, s, r0, count, out, work.front.room, y);
    }
    work.store_state(end.c + b * z.NH * z.DH() * z.DH(), end.n + b * z.NH * z.DH());
    for (int64_t head = 0; head < z.NH; ++head)
      end.m[b * z.NH + head] = float(s.chunks ? after[head] : m[head]);
    store_history(z, rows, b, s.real, end.conv);
  }
}

}  // namespace ISA
