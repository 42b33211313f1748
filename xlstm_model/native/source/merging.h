// What stands after the mLSTM cell in its block, fused: norm of each head, learnable skip, output
// gate.

#pragma once
#include <cmath>

#include "vector.h"

namespace ISA {

struct Moments {
  float mean, inverse;  // of the deviation
};

// WHOLE, here and below: the width is a multiple of VL.
template <bool WHOLE>
static inline Moments moments(const float* x, int64_t width, double eps) {
  Vec total{};
  for (int64_t d = 0; d < width; d += VL) total += load(x + d, WHOLE ? VL : lanes(width - d));
  const float mean = sum(total) / float(width);
  Vec squares{};
  for (int64_t d = 0; d < width; d += VL) {
    const int count = WHOLE ? VL : lanes(width - d);
    Vec deviation = load(x + d, count) - mean;
    if (count < VL) {
      Vec kept{};
      std::memcpy(&kept, &deviation, sizeof(float) * count);
      deviation = kept;
    }
    squares += deviation * deviation;
  }
  return {mean, 1.0f / std::sqrt(sum(squares) / float(width) + float(eps))};
}

// By value, as what is stored could otherwise change it for all that the compiler knows.
template <bool WHOLE>
static void merge_rows(MergeShape z, int64_t first, int64_t last, MergeInputs in, float* out) {
  const int64_t C = z.heads * z.width;
  for (int64_t row = first; row < last; ++row)
    for (int64_t head = 0; head < z.heads; ++head) {
      const int64_t start = head * z.width;
      const float* h = in.h + row * C + start;
      const Moments m = z.has_norm ? moments<WHOLE>(h, z.width, z.eps) : Moments{0.0f, 1.0f};
      for (int64_t d = 0; d < z.width; d += VL) {
        const int count = WHOLE ? VL : lanes(z.width - d);
        const int64_t c = start + d;
        Vec merged = (load(h + d, count) - m.mean) * m.inverse;
        if (z.has_norm) merged = merged * load(in.scale + c, count);
        merged += load(in.skip + c, count) * load(in.mixed + row * z.mixed_stride + c, count);
        const Vec gate = load(in.z + row * z.z_stride + c, count);
        store(out + row * C + c, merged * gate * sigmoid(gate), count);
      }
    }
}

// Rows first..last.
static void merge_forward(const MergeShape& z, int64_t first, int64_t last, const MergeInputs& in,
                          float* out) {
  (z.width % VL ? merge_rows<false> : merge_rows<true>)(z, first, last, in, out);
}

template <bool WHOLE>
static void merge_rows_backward(MergeShape z, int64_t first, int64_t last, MergeInputs in,
                                MergeGradient g) {
  const int64_t C = z.heads * z.width;
  float *grad_scale = g.weights, *grad_skip = g.weights + C;
  for (int64_t row = first; row < last; ++row)
    for (int64_t head = 0; head < z.heads; ++head) {
      const int64_t start = head * z.width, base = row * C + start;
      const float* h = in.h + base;
      const Moments m = z.has_norm ? moments<WHOLE>(h, z.width, z.eps) : Moments{0.0f, 1.0f};
      Vec total{}, products{};
      for (int64_t d = 0; d < z.width; d += VL) {
        const int count = WHOLE ? VL : lanes(z.width - d);
        const int64_t c = start + d;
        const Vec x = (load(h + d, count) - m.mean) * m.inverse;
        const Vec scale = z.has_norm ? load(in.scale + c, count) : splat(1.0f);
        const Vec skip = load(in.skip + c, count);
        const Vec mixed = load(in.mixed + row * z.mixed_stride + c, count);
        const Vec gate = load(in.z + row * z.z_stride + c, count), open = sigmoid(gate);
        const Vec up = load(g.out + base + d, count), into = up * gate * open;
        const Vec merged = x * scale + skip * mixed;
        store(g.z + base + d, up * merged * open * (1.0f + gate * (1.0f - open)), count);
        store(g.mixed + base + d, into * skip, count);
        if (g.merged) store(g.merged + base + d, merged * gate * open, count);
        store(grad_skip + c, load(grad_skip + c, count) + into * mixed, count);
        store(grad_scale + c, load(grad_scale + c, count) + into * x, count);
        // Beyond the width `up` is 0, and with it all of what is summed.
        const Vec into_x = into * scale;
        total += into_x;
        products += into_x * x;
        store(g.h + base + d, into_x, count);
      }
      if (!z.has_norm) continue;
      const float mean = sum(total) / float(z.width), slope = sum(products) / float(z.width);
      for (int64_t d = 0; d < z.width; d += VL) {
        const int count = WHOLE ? VL : lanes(z.width - d);
        const Vec x = (load(h + d, count) - m.mean) * m.inverse;
        store(g.h + base + d, (load(g.h + base + d, count) - mean - x * slope) * m.inverse, count);
      }
    }
}

// Rows first..last; the sums of one part start at 0.
static void merge_backward(const MergeShape& z, int64_t first, int64_t last, const MergeInputs& in,
                           const MergeGradient& g) {
  (z.width % VL ? merge_rows_backward<false> : merge_rows_backward<true>)(z, first, last, in, g);
}

}  // namespace ISA
