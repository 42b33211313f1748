// The sLSTM block's first half over whole sequences: norm, convolution, gates, cell, norm of the heads,
// residual.
//
// A group of samples goes through it together, a few steps at a time, so that a step's products have
// rows enough and what stands between its layers stays in the second cache. A sample's steps are its
// real positions in turn; one with fewer steps than others of its group keeps its state from then on.

#pragma once
#include "block_step.h"

namespace ISA {

static const int64_t STEPS = 16;  // at a time; more than the rows a convolution looks back

// Samples b0..b0 + rows, and the positions of their steps.
struct SampleGroup {
  int64_t b0, rows, most;  // most: steps of the longest
  int64_t real[GROUP];
  const int64_t* position[GROUP];
  SampleGroup(const SlstmBlockShape& z, const uint8_t* mask, int64_t b0, int64_t last, int64_t* room)
      : b0(b0), rows(last - b0 < GROUP ? last - b0 : GROUP), most(0) {
    for (int64_t r = 0; r < rows; ++r) {
      real[r] = real_positions(mask ? mask + (b0 + r) * z.S : nullptr, z.S, room + r * z.S);
      position[r] = room + r * z.S;
      most = real[r] > most ? real[r] : most;
    }
  }
  bool has(int64_t r, int64_t t) const { return t < real[r]; }
  // Where a step's row stands in (B, S, D).
  int64_t at(const SlstmBlockShape& z, int64_t r, int64_t t) const {
    return ((b0 + r) * z.S + position[r][t]) * z.D;
  }
};

// Matrices in panels, one after another for each head.
struct HeadPanels {
  float* data;
  int64_t size;
  HeadPanels(int64_t heads, int64_t K, int64_t N, const float* from, int64_t row, int64_t column,
             Scratch& scratch)
      : data(scratch.take(heads * panels(K, N))), size(panels(K, N)) {
    for (int64_t head = 0; from && head < heads; ++head)
      pack(K, N, from + head * K * N, row, column, data + head * size);
  }
  const float* operator[](int64_t head) const { return data + head * size; }
};

// Places in what is saved.
struct SlstmPlaces {
  const SlstmBlockShape& z;
  const SlstmBlockSaved& saved;
  int64_t row(int64_t t, int64_t head, int64_t b) const { return (t * z.NH + head) * z.B + b; }
  int64_t state(int64_t t, int64_t head, int64_t b) const { return row(t, head, b) * z.DH(); }
  float* gates(int64_t t, int64_t head, int64_t b) const {
    return saved.gates + row(t, head, b) * 4 * z.DH();
  }
  // The heads' outputs of one sample before a step, side by side.
  void gather_h(int64_t t, int64_t b, float* to) const {
    for (int64_t head = 0; head < z.NH; ++head)
      copy(z.DH(), saved.h + state(t, head, b), to + head * z.DH());
  }
};

// What stands before the cell; rows are those of (step, sample of the group).
struct SlstmFront {
  const SlstmBlockShape& z;
  const SlstmBlockWeights& w;
  const SlstmBlockState& start;
  int64_t history;
  float *rows;           // (history + STEPS, GROUP, D): normalised; those of earlier steps first
  float *mixed, *slope;  // (STEPS, GROUP, D): convolved; derivative of its SiLU, or null
  SlstmFront(const SlstmBlockShape& z, const SlstmBlockWeights& w, const SlstmBlockState& start,
             Scratch& scratch, bool slopes)
      : z(z), w(w), start(start), history(z.taps > 1 ? z.taps - 1 : 0),
        rows(scratch.take((history + STEPS) * GROUP * z.D)),
        mixed(scratch.take(STEPS * GROUP * z.D)),
        slope(slopes ? scratch.take(STEPS * GROUP * z.D) : nullptr) {}
  static int64_t size(const SlstmBlockShape& z) {
    return (MAX_TAPS + 3 * STEPS) * GROUP * z.D + 64;
  }
  // One sample's row at a step, which may be one before its first.
  void row(const SampleGroup& s, const float* x, int64_t r, int64_t t, float* to) const {
    if (t >= 0 && s.has(r, t))
      normalize(1, z.D, x + s.at(z, r, t), w.norm, z.norm_eps, to);
    else if (t < 0 && start.conv)
      copy(z.D, start.conv + ((s.b0 + r) * history + history + t) * z.D, to);
    else
      std::memset(to, 0, sizeof(float) * z.D);
  }
  void read(const SampleGroup& s, const float* x, int64_t t0, int64_t count) {
    float* to = rows;
    for (int64_t t = t0 - history; t < t0 + count; ++t)
      for (int64_t r = 0; r < s.rows; ++r, to += z.D) row(s, x, r, t, to);
    if (!z.convolved) return;
    for (int64_t d = 0; d < z.D; d += VL) {
      const int n = lanes(z.D - d);
      (z.taps == 4 && n == VL ? convolve<4, true> : convolve<-1, false>)(*this, s.rows, count, d, n);
    }
  }
  const float* inner(const SampleGroup& s) const { return rows + history * s.rows * z.D; }

  template <int TAPS, bool WHOLE>
  static void convolve(SlstmFront f, int64_t group, int64_t count, int64_t d, int tail) {
    const int n = WHOLE ? VL : tail;
    const int64_t taps = TAPS < 0 ? f.z.taps : TAPS, D = f.z.D, step = group * D;
    Vec tap[TAPS < 0 ? MAX_TAPS : TAPS];  // tap[j] multiplies the row j steps back
    for (int64_t j = 0; j < taps; ++j) tap[j] = f.tap(j, d, n);
    const Vec bias = f.w.bias ? load(f.w.bias + d, n) : Vec{};
    const float* newest = f.rows + f.history * step + d;
    for (int64_t i = d; i < count * step; i += D, newest += D) {
      Vec pre = bias;
      for (int64_t j = 0; j < taps; ++j) pre += tap[j] * load(newest - j * step, n);
      const Vec open = sigmoid(pre), mixed = pre * open;
      store(f.mixed + i, mixed, n);
      if (f.slope) store(f.slope + i, open + mixed * (1.0f - open), n);
    }
  }
  Vec tap(int64_t j, int64_t d, int n) const {
    float found[VL] = {};
    for (int l = 0; l < n; ++l) found[l] = w.taps[(d + l) * z.taps + z.taps - 1 - j];
    return load(found);
  }
};

// Everything the forward pass works in.
struct SlstmBlockForward {
  const SlstmBlockShape& z;
  const SlstmBlockWeights& w;
  const SlstmPlaces at;
  SlstmFront front;
  HeadPanels through, direct, recurrent;
  float *h, *merged;  // (D)
  SlstmBlockForward(const SlstmBlockShape& z, const SlstmBlockWeights& w,
                    const SlstmBlockState& start, const SlstmBlockSaved& saved, Scratch& scratch)
      : z(z), w(w), at{z, saved}, front(z, w, start, scratch, false),
        through(z.NH, z.DH(), z.convolved * z.DH(), w.convolved, 1, z.DH(), scratch),
        direct(z.NH, z.DH(), (4 - z.convolved) * z.DH(), w.raw, 1, z.DH(), scratch),
        recurrent(z.NH, z.DH(), 4 * z.DH(), w.recurrent, 4 * z.DH(), 1, scratch),
        h(scratch.take(z.D)), merged(scratch.take(z.D)) {}
  static int64_t size(const SlstmBlockShape& z) {
    return SlstmFront::size(z) + 3 * z.NH * panels(z.DH(), 4 * z.DH()) + 2 * z.D + 128;
  }
  // One step of all heads from its inputs (rows, D).
  void run(const SampleGroup& s, int64_t t, const float* mixed, const float* inner) {
    const int64_t DH = z.DH(), D = z.D, convolved = z.convolved * DH;
    const SlstmBlockSaved& x = at.saved;
    for (int64_t head = 0; head < z.NH; ++head) {
      float* gates = at.gates(t, head, s.b0);
      const int64_t before = at.state(t, head, s.b0), after = at.state(t + 1, head, s.b0);
      for (int64_t r = 0; r < s.rows; ++r)
        copy(4 * DH, w.gate_bias + head * 4 * DH, gates + r * 4 * DH);
      if (convolved)
        packed_product(s.rows, convolved, DH, {mixed + head * DH, D, 1}, through[head], gates,
                       4 * DH, true);
      if (convolved < 4 * DH)
        packed_product(s.rows, 4 * DH - convolved, DH, {inner + head * DH, D, 1}, direct[head],
                       gates + convolved, 4 * DH, true);
      packed_product(s.rows, 4 * DH, DH, {x.h + before, DH, 1}, recurrent[head], gates, 4 * DH,
                     true);
      for (int64_t r = 0; r < s.rows; ++r) {
        const int64_t from = before + r * DH, to = after + r * DH;
        if (s.has(r, t))
          advance(DH, z.sigmoid, gates + r * 4 * DH, x.c + from, x.n + from, x.m + from, x.h + to,
                  x.c + to, x.n + to, x.m + to);
        else
          for (float* part : {x.h, x.c, x.n, x.m}) copy(DH, part + from, part + to);
      }
    }
  }
  // What follows the cell, of one step of one sample.
  void finish(const SampleGroup& s, int64_t r, int64_t t, const float* x, float* y) {
    const int64_t row = s.at(z, r, t);
    at.gather_h(t + 1, s.b0 + r, h);
    normalize(z.groups, z.D / z.groups, h, w.merge, z.merge_eps, merged);
    for (int64_t d = 0; d < z.D; d += VL) {
      const int n = lanes(z.D - d);
      store(y + row + d, load(merged + d, n) + (z.residual ? load(x + row + d, n) : Vec{}), n);
    }
  }
};

// The states before the first step, (B, NH, DH) or null for an empty one, to where they are saved.
static void open_states(const SlstmPlaces& at, const SampleGroup& s, const SlstmBlockState& start) {
  const int64_t DH = at.z.DH();
  const float* const given[] = {start.h, start.c, start.n, start.m};
  float* const saved[] = {at.saved.h, at.saved.c, at.saved.n, at.saved.m};
  for (int part = 0; part < 4; ++part)
    for (int64_t head = 0; head < at.z.NH; ++head)
      for (int64_t r = 0; r < s.rows; ++r) {
        float* to = saved[part] + at.state(0, head, s.b0 + r);
        if (given[part])
          copy(DH, given[part] + ((s.b0 + r) * at.z.NH + head) * DH, to);
        else
          for (int64_t d = 0; d < DH; ++d) to[d] = part == 3 ? -INFINITY : 0.0f;
      }
}

static void close_states(const SlstmPlaces& at, const SampleGroup& s, const SlstmBlockState& end) {
  const int64_t DH = at.z.DH();
  const float* const saved[] = {at.saved.h, at.saved.c, at.saved.n, at.saved.m};
  float* const results[] = {end.h, end.c, end.n, end.m};
  for (int part = 0; part < 4; ++part)
    for (int64_t head = 0; head < at.z.NH; ++head)
      for (int64_t r = 0; r < s.rows; ++r)
        copy(DH, saved[part] + at.state(s.most, head, s.b0 + r),
             results[part] + ((s.b0 + r) * at.z.NH + head) * DH);
}

// Samples first..last. What is `saved` is written, for the backward pass too.
static void slstm_block_forward(const SlstmBlockShape& z, int64_t first, int64_t last,
                                const SlstmBlockWeights& w, const float* x, const uint8_t* mask,
                                const SlstmBlockState& start, float* y, const SlstmBlockState& end,
                                const SlstmBlockSaved& saved) {
  Scratch scratch(SlstmBlockForward::size(z) + 2 * GROUP * z.S);
  SlstmBlockForward work(z, w, start, saved, scratch);
  int64_t* room = reinterpret_cast<int64_t*>(scratch.take(2 * GROUP * z.S));
  for (int64_t b0 = first; b0 < last; b0 += GROUP) {
    const SampleGroup s(z, mask, b0, last, room);
    open_states(work.at, s, start);
    for (int64_t r = 0; r < s.rows; ++r)
      if (s.real[r] < z.S)
        std::memset(y + (b0 + r) * z.S * z.D, 0, sizeof(float) * z.S * z.D);
    for (int64_t t0 = 0; t0 < s.most; t0 += STEPS) {
      const int64_t count = s.most - t0 < STEPS ? s.most - t0 : STEPS;
      work.front.read(s, x, t0, count);
      for (int64_t t = 0; t < count; ++t)
        work.run(s, t0 + t, work.front.mixed + t * s.rows * z.D,
                 work.front.inner(s) + t * s.rows * z.D);
      for (int64_t r = 0; r < s.rows; ++r)
        for (int64_t t = t0; t < t0 + count && s.has(r, t); ++t) work.finish(s, r, t, x, y);
    }
    close_states(work.at, s, end);
    const int64_t history = work.front.history;
    for (int64_t r = 0; r < s.rows; ++r)
      for (int64_t i = 0; i < history; ++i)
        work.front.row(s, x, r, s.real[r] - history + i,
                       end.conv + ((b0 + r) * history + i) * z.D);
  }
}

}  // namespace ISA
