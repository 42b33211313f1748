// The sLSTM block's first half backwards; see slstm_block.h. A group of samples goes from its last steps
// to its first; norms and convolution are computed again.

#pragma once
#include "mlstm_block_backward.h"
#include "slstm_block.h"

namespace ISA {

// Sums over samples of the gradients of the weights, in the order of SlstmBlockWeights.
struct SlstmBlockSums {
  float *norm, *taps, *bias, *convolved, *raw, *recurrent, *gate_bias, *merge;
  SlstmBlockSums(const SlstmBlockShape& z, float* at) {
    norm = at;
    taps = norm + z.D;
    bias = taps + z.D * z.taps;
    convolved = bias + z.D;
    raw = convolved + z.convolved * z.D * z.DH();
    recurrent = raw + (4 - z.convolved) * z.D * z.DH();
    gate_bias = recurrent + 4 * z.D * z.DH();
    merge = gate_bias + 4 * z.D;
  }
};

// Adds the columns' sums.
static void add_columns(int64_t rows, int64_t width, const float* from, float* total) {
  for (int64_t d = 0; d < width; d += VL) {
    const int n = lanes(width - d);
    Vec x = load(total + d, n);
    for (int64_t r = 0; r < rows; ++r) x += load(from + r * width + d, n);
    store(total + d, x, n);
  }
}

// Everything the backward pass works in. Rows are those of (step, sample of the group).
struct SlstmBlockBackward {
  const SlstmBlockShape& z;
  const SlstmBlockWeights& w;
  const SlstmPlaces at;
  const SlstmBlockSums sums;
  SlstmFront front;
  HeadPanels through, direct, recurrent;  // for the gradients of their inputs
  float *raw, *before;    // (NH, STEPS, GROUP, 4 DH): of the gates; (NH, STEPS, GROUP, DH): h
  float *up, *inner;      // (STEPS, GROUP, D): of h from behind the cell; of the normalised rows
  float* pre;             // (STEPS + MAX_TAPS, GROUP, D): of the convolution, later steps' behind
  float *dh, *dc, *dn;    // (NH, GROUP, DH)
  float *h, *taps;        // (D); (taps, D), the current position's first
  SlstmBlockBackward(const SlstmBlockShape& z, const SlstmBlockWeights& w,
                     const SlstmBlockState& start, const SlstmBlockSaved& saved, float* weights,
                     Scratch& scratch)
      : z(z), w(w), at{z, saved}, sums(z, weights), front(z, w, start, scratch, true),
        through(z.NH, z.convolved * z.DH(), z.DH(), w.convolved, z.DH(), 1, scratch),
        direct(z.NH, (4 - z.convolved) * z.DH(), z.DH(), w.raw, z.DH(), 1, scratch),
        recurrent(z.NH, 4 * z.DH(), z.DH(), w.recurrent, 1, 4 * z.DH(), scratch) {
    raw = scratch.take(4 * STEPS * GROUP * z.D);
    for (float** part : {&before, &up, &inner}) *part = scratch.take(STEPS * GROUP * z.D);
    pre = scratch.take((STEPS + MAX_TAPS) * GROUP * z.D);
    for (float** part : {&dh, &dc, &dn}) *part = scratch.take(GROUP * z.D);
    h = scratch.take(z.D);
    taps = scratch.take(MAX_TAPS * z.D);
  }
  static int64_t size(const SlstmBlockShape& z) {
    return SlstmFront::size(z) + 3 * z.NH * panels(4 * z.DH(), z.DH()) +
           (8 * STEPS + MAX_TAPS + 3) * GROUP * z.D + (1 + MAX_TAPS) * z.D + 512;
  }

  // Through what follows the cell: fills up.
  void through_merge(const SampleGroup& s, int64_t t0, int64_t count, const float* grad_y) {
    const int64_t width = z.D / z.groups;
    float* row = up;
    for (int64_t t = t0; t < t0 + count; ++t)
      for (int64_t r = 0; r < s.rows; ++r, row += z.D) {
        if (!s.has(r, t)) {
          std::memset(row, 0, sizeof(float) * z.D);
          continue;
        }
        copy(z.D, grad_y + s.at(z, r, t), row);
        at.gather_h(t + 1, s.b0 + r, h);
        for (int64_t g = 0; w.merge && g < z.D; g += width)
          normalize_backward(1, width, h + g, w.merge + g, z.merge_eps, row + g, sums.merge + g);
      }
  }

  // Through the cell: fills raw, and before for the recurrent weight.
  void through_cell(const SampleGroup& s, int64_t head, int64_t t0, int64_t count) {
    const int64_t DH = z.DH();
    const SlstmBlockSaved& x = at.saved;
    const SlstmShape shape = {z.S, z.NH, z.B, DH, z.sigmoid};
    float *own_raw = raw + head * STEPS * GROUP * 4 * DH, *own_h = dh + head * GROUP * DH;
    for (int64_t t = count - 1; t >= 0; --t) {
      const int64_t from = at.state(t0 + t, head, s.b0), to = at.state(t0 + t + 1, head, s.b0);
      float* rows = own_raw + t * s.rows * 4 * DH;
      for (int64_t r = 0; r < s.rows; ++r) {
        const int64_t f = from + r * DH, e = to + r * DH, own = (head * GROUP + r) * DH;
        float *row = rows + r * 4 * DH, *into = own_h + r * DH;
        copy(DH, x.h + f, before + ((head * STEPS * GROUP) + t * s.rows + r) * DH);
        if (!s.has(r, t0 + t)) {
          std::memset(row, 0, sizeof(float) * 4 * DH);
          continue;  // its dh goes on to the step before
        }
        const float* given = up + (t * s.rows + r) * z.D + head * DH;
        for (int64_t d = 0; d < DH; ++d) into[d] += given[d];
        slstm_row_backward(shape, at.gates(t0 + t, head, s.b0 + r), x.c + f, x.n + f, x.m + f,
                           x.h + e, x.n + e, x.m + e, into, dc + own, dn + own, nullptr, row);
        std::memset(into, 0, sizeof(float) * DH);
      }
      packed_product(s.rows, DH, 4 * DH, {rows, 4 * DH, 1}, recurrent[head], own_h, DH, true);
    }
  }

  // Through the gates' matrices: adds to their sums, fills inner and pre.
  void through_gates(const SampleGroup& s, int64_t head, int64_t count) {
    const int64_t DH = z.DH(), D = z.D, rows = count * s.rows, at_head = head * DH;
    const int64_t convolved = z.convolved * DH, rest = 4 * DH - convolved;
    const float* own = raw + head * STEPS * GROUP * 4 * DH;
    const float* own_before = before + head * STEPS * GROUP * DH;
    product(DH, 4 * DH, rows, {own_before, 1, DH}, own, 4 * DH,
            sums.recurrent + head * DH * 4 * DH, 4 * DH, true);
    add_columns(rows, 4 * DH, own, sums.gate_bias + head * 4 * DH);
    if (convolved) {
      product(convolved, DH, rows, {own, 1, 4 * DH}, front.mixed + at_head, D,
              sums.convolved + head * convolved * DH, DH, true);
      packed_product(rows, DH, convolved, {own, 4 * DH, 1}, through[head], pre + at_head, D, false);
    }
    if (rest) {
      product(rest, DH, rows, {own + convolved, 1, 4 * DH}, front.inner(s) + at_head, D,
              sums.raw + head * rest * DH, DH, true);
      packed_product(rows, DH, rest, {own + convolved, 4 * DH, 1}, direct[head], inner + at_head, D,
                     false);
    }
  }

  // Through the convolution: adds to inner what reaches it there.
  template <int TAPS, bool WHOLE>
  static void through_convolution(const SlstmBlockBackward& g, int64_t group, int64_t count,
                                  bool is_first, int64_t d, int tail) {
    const int n = WHOLE ? VL : tail;
    const int64_t taps = TAPS < 0 ? g.z.taps : TAPS, D = g.z.D, step = group * D;
    constexpr int MOST = TAPS < 0 ? MAX_TAPS : TAPS;
    const float *slope = g.front.slope + d, *x = g.front.rows + g.front.history * step + d;
    float *pre = g.pre + d, *inner = g.inner + d;
    Vec tap[MOST], grad_tap[MOST] = {}, grad_bias{};
    for (int64_t j = 0; j < taps; ++j) tap[j] = g.front.tap(j, d, n);
    for (int64_t i = 0; i < count * step; i += D) {
      const Vec into = load(pre + i, n) * load(slope + i, n);
      store(pre + i, into, n);
      grad_bias += into;
    }
    for (int64_t i = 0; i < count * step; i += D) {
      const Vec own = load(x + i, n);
      Vec into = load(inner + i, n);
      for (int64_t j = 0; j < taps; ++j) {
        const Vec later = load(pre + i + j * step, n);
        into += tap[j] * later;
        grad_tap[j] += later * own;
      }
      store(inner + i, into, n);
    }
    // Rows before the first step were read by the next ones too.
    for (int64_t back = 1; is_first && back < taps; ++back)
      for (int64_t i = 0; i < step; i += D)
        for (int64_t j = back; j < taps; ++j)
          grad_tap[j] += load(pre + i + (j - back) * step, n) * load(x + i - back * step, n);
    for (int64_t j = 0; j < taps; ++j) add_to(g.taps + j * D + d, grad_tap[j], n);
    add_to(g.sums.bias + d, grad_bias, n);
  }

  // The steps t0..t0 + count of a group, the later ones done.
  void run(const SampleGroup& s, int64_t t0, int64_t count, const float* x, const float* grad_y,
           float* grad_x) {
    const int64_t D = z.D, step = s.rows * D;
    front.read(s, x, t0, count);
    through_merge(s, t0, count, grad_y);
    if (z.convolved == 4) std::memset(inner, 0, sizeof(float) * count * step);
    for (int64_t head = 0; head < z.NH; ++head) {
      through_cell(s, head, t0, count);
      through_gates(s, head, count);
    }
    for (int64_t d = 0; z.convolved && d < D; d += VL) {
      const int n = lanes(D - d);
      (z.taps == 4 && n == VL ? through_convolution<4, true> : through_convolution<-1, false>)(
          *this, s.rows, count, t0 == 0, d, n);
    }
    float* row = inner;
    for (int64_t t = t0; t < t0 + count; ++t)
      for (int64_t r = 0; r < s.rows; ++r, row += D) {
        if (!s.has(r, t)) continue;
        const int64_t place = s.at(z, r, t);
        normalize_backward(1, D, x + place, w.norm, z.norm_eps, row, sums.norm);
        for (int64_t d = 0; d < D; ++d)
          grad_x[place + d] = row[d] + (z.residual ? grad_y[place + d] : 0.0f);
      }
    // For the steps before, which are STEPS in number.
    std::memcpy(pre + STEPS * step, pre, sizeof(float) * front.history * step);
  }
};

// Samples first..last; the sums start at 0.
static void slstm_block_backward(const SlstmBlockShape& z, int64_t first, int64_t last,
                                 const SlstmBlockWeights& w, const float* x, const uint8_t* mask,
                                 const SlstmBlockState& start, const SlstmBlockSaved& saved,
                                 const float* grad_y, float* grad_x, float* weights) {
  Scratch scratch(SlstmBlockBackward::size(z) + 2 * GROUP * z.S);
  SlstmBlockBackward work(z, w, start, saved, weights, scratch);
  int64_t* room = reinterpret_cast<int64_t*>(scratch.take(2 * GROUP * z.S));
  for (int64_t b0 = first; b0 < last; b0 += GROUP) {
    const SampleGroup s(z, mask, b0, last, room);
    for (int64_t r = 0; r < s.rows; ++r)
      if (s.real[r] < z.S)
        std::memset(grad_x + (b0 + r) * z.S * z.D, 0, sizeof(float) * z.S * z.D);
    for (float* part : {work.dh, work.dc, work.dn}) std::memset(part, 0, sizeof(float) * GROUP * z.D);
    const int64_t ends = s.most % STEPS ? s.most % STEPS : STEPS;
    std::memset(work.pre + ends * s.rows * z.D, 0, sizeof(float) * MAX_TAPS * s.rows * z.D);
    for (int64_t t0 = s.most - ends; t0 >= 0; t0 -= STEPS)
      work.run(s, t0, s.most - t0 < STEPS ? s.most - t0 : STEPS, x, grad_y, grad_x);
  }
  for (int64_t d = 0; d < z.D; ++d)
    for (int64_t j = 0; j < z.taps; ++j)
      work.sums.taps[d * z.taps + z.taps - 1 - j] += work.taps[j * z.D + d];
}

}  // namespace ISA
