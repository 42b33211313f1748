// Weights of what stands before a cell, from the layout of the layers to that of the kernels and, for
// gradients, back.

#pragma once
#include "scratch.h"

namespace ISA {

// A 4 x 4 matrix per group of channels as factors of rotations: factor j of output o belongs to
// input (o + j) mod 4 of the group.
static inline int64_t group_entry(int64_t channel, int64_t j) {
  return channel * 4 + (channel + j) % 4;  // within (C / 4, 4 out, 4 in)
}

// What the kernels read, and sums of gradients in the same layout.
struct Packed {
  float *taps, *bias;   // (taps, C), the last row the current position; (C)
  float* projections;   // (3, 4, C): q, k, v as factors of rotations
  float* turned;        // (3, 4, C): their transposes
  float *gates, *gate_bias;  // (gates, 3, C), (gates)
  Packed(const MixShape& z, Scratch& scratch)
      : taps(scratch.take(z.taps * z.C)),
        bias(scratch.take(z.C)),
        projections(scratch.take(12 * z.C)),
        turned(scratch.take(12 * z.C)),
        gates(scratch.take(z.gates * 3 * z.C)),
        gate_bias(scratch.take(z.gates)) {}
  static int64_t size(const MixShape& z) {
    return z.C * (z.taps + 25 + 3 * z.gates) + z.gates + 128;
  }
};

static void pack_weights(const MixShape& z, const MixWeights& from, Packed& to) {
  for (int64_t c = 0; c < z.C; ++c) {
    for (int64_t j = 0; j < z.taps; ++j) to.taps[j * z.C + c] = from.taps[c * z.taps + j];
    if (from.bias) to.bias[c] = from.bias[c];
  }
  if (!z.gates) return;
  for (int64_t p = 0; p < 3; ++p)
    for (int64_t j = 0; j < 4; ++j)
      for (int64_t c = 0; c < z.C; ++c) {
        // The transpose's factor j of channel c is the entry (c + j, c) of the matrix.
        const int64_t other = c / 4 * 4 + (c + j) % 4;
        to.projections[(p * 4 + j) * z.C + c] = from.projections[p][group_entry(c, j)];
        to.turned[(p * 4 + j) * z.C + c] = from.projections[p][other * 4 + c % 4];
      }
  const int64_t half = z.gates / 2, size = half * 3 * z.C;
  for (int64_t i = 0; i < 2; ++i) {
    std::memcpy(to.gates + i * size, from.gates[i], sizeof(float) * size);
    std::memcpy(to.gate_bias + i * half, from.gate_bias[i], sizeof(float) * half);
  }
}

// Sums to `to`: taps, bias, projections of q, k, v, gates, gate biases, one after another.
static void unpack_sums(const MixShape& z, const Packed& from, float* to) {
  for (int64_t c = 0; c < z.C; ++c)
    for (int64_t j = 0; j < z.taps; ++j) to[c * z.taps + j] = from.taps[j * z.C + c];
  to += z.taps * z.C;
  std::memcpy(to, from.bias, sizeof(float) * z.C);
  to += z.C;
  if (!z.gates) return;
  for (int64_t p = 0; p < 3; ++p, to += 4 * z.C)
    for (int64_t j = 0; j < 4; ++j)
      for (int64_t c = 0; c < z.C; ++c)
        to[group_entry(c, j)] = from.projections[(p * 4 + j) * z.C + c];
  std::memcpy(to, from.gates, sizeof(float) * z.gates * 3 * z.C);
  std::memcpy(to + z.gates * 3 * z.C, from.gate_bias, sizeof(float) * z.gates);
}

}  // namespace ISA
