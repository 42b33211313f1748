// What stands before the mLSTM cell in its block, fused: causal convolution with SiLU, block-diagonal
// projections with groups of four, gates. Without projections, what stands before the sLSTM cell.
//
// A padded position does not exist for the convolution: it runs over the list of a sample's real
// positions. Channels are handled a vector at a time over a tile of positions, so that what belongs
// to a channel is loaded once per tile.

#pragma once
#include "matrix.h"
#include "mixing_weights.h"

namespace ISA {

static const int64_t TILE = 64, MAX_TAPS = 8;

template <int J>
struct Rotated {  // within groups of four lanes
  static constexpr int at(int l) { return (l & ~3) | ((l + J) & 3); }
};
template <int J>
SMALL Vec rotate(Vec x) {
  return shuffled<Rotated<J>>(x, x);
}

// Four coefficients per channel: a 4 x 4 matrix per group, as factors of the rotations.
struct Group {
  Vec factor[4];
  Group(const float* from, int64_t stride, int count) {
    for (int j = 0; j < 4; ++j) factor[j] = load(from + j * stride, count);
  }
  __attribute__((always_inline)) Vec operator()(Vec x) const {
    return factor[0] * x + factor[1] * rotate<1>(x) + factor[2] * rotate<2>(x) +
           factor[3] * rotate<3>(x);
  }
};

struct GroupGradient {
  Vec factor[4] = {};
  __attribute__((always_inline)) void add(Vec up, Vec x) {
    factor[0] += up * x;
    factor[1] += up * rotate<1>(x);
    factor[2] += up * rotate<2>(x);
    factor[3] += up * rotate<3>(x);
  }
};

static inline void add_to(float* total, Vec x, int count) {
  store(total, load(total, count) + x, count);
}

// One sample's rows as the convolution sees them: `position` lists the real ones; negative numbers
// count back into the state, whose last row is -1.
struct Rows {
  const float *x, *state;
  const int64_t* position;
  int64_t stride, taps, channels;
  const float* at(int64_t r) const {
    return r >= 0 ? x + position[r] * stride : state + (taps - 1 + r) * channels;
  }
};

static int64_t real_positions(const uint8_t* mask, int64_t S, int64_t* position) {
  int64_t count = 0;
  for (int64_t t = 0; t < S; ++t)
    if (!mask || mask[t]) position[count++] = t;
  return count;
}

// The convolution of one vector of channels; tap[j] multiplies the row j positions back.
struct Convolution {
  Vec tap[MAX_TAPS], bias{};
  int64_t taps;
  Convolution(const MixShape& z, const Packed& w, int64_t c, int count) : taps(z.taps) {
    for (int64_t j = 0; j < taps; ++j) tap[j] = load(w.taps + (taps - 1 - j) * z.C + c, count);
    bias = load(w.bias + c, count);
  }
  Vec operator()(const Rows& rows, int64_t r, int64_t c, int count) const {
    if (!taps) return load(rows.at(r) + c, count);
    Vec total = bias;
    for (int64_t j = 0; j < taps; ++j) total += tap[j] * load(rows.at(r - j) + c, count);
    return total;
  }
};

static Rows rows_of(const MixShape& z, const MixInputs& in, int64_t b, const int64_t* position) {
  return {in.x + b * z.S * z.stride, in.state + b * (z.taps > 0 ? z.taps - 1 : 0) * z.C, position,
          z.stride, z.taps, z.C};
}

// Positions r0..r1 of one sample and one vector of channels; adds to the gates' sums (r, gate, VL).
static inline void mix_tile(const MixShape& z, const Rows& rows, const Packed& w,
                            const MixOutputs& out, int64_t offset, int64_t r0, int64_t r1,
                            int64_t c, int count, float* sums) {
  const Convolution convolution(z, w, c, count);
  const bool projects = z.gates > 0;
  const float* p = projects ? w.projections + c : nullptr;
  const Group q(p, z.C, projects ? count : 0), k(p + 4 * z.C, z.C, projects ? count : 0),
      v(p + 8 * z.C, z.C, projects ? count : 0);
  for (int64_t r = r0; r < r1; ++r) {
    const int64_t at = offset + rows.position[r] * z.C + c;
    const Vec pre = convolution(rows, r, c, count), mixed = pre * sigmoid(pre);
    store(out.mixed + at, mixed, count);
    if (!projects) continue;
    const Vec query = q(mixed), key = k(mixed), value = v(load(rows.at(r) + c, count));
    store(out.q + at, query, count);
    store(out.k + at, key, count);
    store(out.v + at, value, count);
    for (int64_t g = 0; g < z.gates; ++g) {
      const float* gate = w.gates + g * 3 * z.C + c;
      float* sum_of_gate = sums + ((r - r0) * z.gates + g) * VL;
      store(sum_of_gate, load(sum_of_gate) + load(gate, count) * query +
                             load(gate + z.C, count) * key + load(gate + 2 * z.C, count) * value);
    }
  }
}

// Samples first..last.
static void mix_forward(const MixShape& z, int64_t first, int64_t last, const MixInputs& in,
                        const MixWeights& weights, const MixOutputs& out) {
  Scratch scratch(Packed::size(z) + 2 * z.S + TILE * z.gates * VL + 256);
  Packed w(z, scratch);
  pack_weights(z, weights, w);
  int64_t* position = reinterpret_cast<int64_t*>(scratch.take(2 * z.S));
  float* sums = scratch.take(TILE * z.gates * VL);
  for (int64_t b = first; b < last; ++b) {
    const int64_t offset = b * z.S * z.C;
    const int64_t real = real_positions(in.mask ? in.mask + b * z.S : nullptr, z.S, position);
    float* const results[] = {out.mixed, out.q, out.k, out.v};
    if (real < z.S)
      for (float* result : results)
        if (result) std::memset(result + offset, 0, sizeof(float) * z.S * z.C);
    float* gates = out.gates + b * z.S * z.gates;
    for (int64_t i = 0; i < z.S * z.gates; ++i) gates[i] = w.gate_bias[i % z.gates];
    const Rows rows = rows_of(z, in, b, position);
    for (int64_t r0 = 0; r0 < real; r0 += TILE) {
      const int64_t r1 = real - r0 < TILE ? real : r0 + TILE;
      std::memset(sums, 0, sizeof(float) * (r1 - r0) * z.gates * VL);
      for (int64_t c = 0; c < z.C; c += VL)
        mix_tile(z, rows, w, out, offset, r0, r1, c, z.C - c < VL ? int(z.C - c) : VL, sums);
      for (int64_t r = r0; r < r1; ++r)
        for (int64_t g = 0; g < z.gates; ++g)
          gates[position[r] * z.gates + g] += sum(load(sums + ((r - r0) * z.gates + g) * VL));
    }
  }
}

// As mix_tile, backwards. `later` holds the gradients of the pre-activations of the positions after
// the tile, nearest first, (taps, VL).
static inline void mix_tile_backward(const MixShape& z, const Rows& rows, const Packed& w,
                                     const MixGradient& g, int64_t b, int64_t r0, int64_t r1,
                                     int64_t c, int count, float* later, Packed& sums) {
  const Convolution convolution(z, w, c, count);
  const bool projects = z.gates > 0;
  const int given = projects ? count : 0;
  const float *p = projects ? w.projections + c : nullptr, *t = projects ? w.turned + c : nullptr;
  const Group q(p, z.C, given), k(p + 4 * z.C, z.C, given), v(p + 8 * z.C, z.C, given);
  const Group q_back(t, z.C, given), k_back(t + 4 * z.C, z.C, given), v_back(t + 8 * z.C, z.C, given);
  GroupGradient grad_q, grad_k, grad_v;
  Vec grad_tap[MAX_TAPS] = {}, grad_bias{};
  for (int64_t r = r1 - 1; r >= r0; --r) {
    const int64_t place = b * z.S + rows.position[r], at = place * z.C + c;
    const Vec x = load(rows.at(r) + c, count);
    const Vec pre = convolution(rows, r, c, count), open = sigmoid(pre), mixed = pre * open;
    Vec up = load(g.mixed + at, count), into_x{};
    if (projects) {
      const Vec query = q(mixed), key = k(mixed), value = v(x);
      Vec dq = load(g.q + at, count), dk = load(g.k + at, count), dv = load(g.v + at, count);
      for (int64_t i = 0; i < z.gates; ++i) {
        const float through = g.gates[place * z.gates + i];
        const float* gate = w.gates + i * 3 * z.C + c;
        float* total = sums.gates + i * 3 * z.C + c;
        dq += through * load(gate, count);
        dk += through * load(gate + z.C, count);
        dv += through * load(gate + 2 * z.C, count);
        add_to(total, through * query, count);
        add_to(total + z.C, through * key, count);
        add_to(total + 2 * z.C, through * value, count);
      }
      grad_q.add(dq, mixed);
      grad_k.add(dk, mixed);
      grad_v.add(dv, x);
      up += q_back(dq) + k_back(dk);
      into_x = v_back(dv);
    }
    const Vec into_pre = up * open * (1.0f + pre * (1.0f - open));
    if (!z.taps) {
      store(g.x + at, into_x + into_pre, count);
      continue;
    }
    grad_bias += into_pre;
    into_x += convolution.tap[0] * into_pre;
    grad_tap[0] += into_pre * x;
    for (int64_t j = 1; j < z.taps; ++j) {
      into_x += convolution.tap[j] * load(later + (j - 1) * VL);
      grad_tap[j] += into_pre * load(rows.at(r - j) + c, count);
    }
    for (int64_t j = z.taps - 1; j > 0; --j) store(later + j * VL, load(later + (j - 1) * VL));
    store(later, into_pre);
    store(g.x + at, into_x, count);
  }
  for (int64_t j = 0; j < z.taps; ++j)
    add_to(sums.taps + (z.taps - 1 - j) * z.C + c, grad_tap[j], count);
  if (z.taps) add_to(sums.bias + c, grad_bias, count);
  for (int j = 0; projects && j < 4; ++j) {
    add_to(sums.projections + j * z.C + c, grad_q.factor[j], count);
    add_to(sums.projections + (4 + j) * z.C + c, grad_k.factor[j], count);
    add_to(sums.projections + (8 + j) * z.C + c, grad_v.factor[j], count);
  }
}

// Samples first..last.
static void mix_backward(const MixShape& z, int64_t first, int64_t last, const MixInputs& in,
                         const MixWeights& weights, const MixGradient& g) {
  const int64_t vectors = (z.C + VL - 1) / VL;
  Scratch scratch(2 * Packed::size(z) + 2 * z.S + vectors * MAX_TAPS * VL + 256);
  Packed w(z, scratch), sums(z, scratch);
  pack_weights(z, weights, w);
  int64_t* position = reinterpret_cast<int64_t*>(scratch.take(2 * z.S));
  float* later = scratch.take(vectors * MAX_TAPS * VL);
  for (int64_t b = first; b < last; ++b) {
    const int64_t real = real_positions(in.mask ? in.mask + b * z.S : nullptr, z.S, position);
    if (real < z.S) std::memset(g.x + b * z.S * z.C, 0, sizeof(float) * z.S * z.C);
    const Rows rows = rows_of(z, in, b, position);
    std::memset(later, 0, sizeof(float) * vectors * MAX_TAPS * VL);
    for (int64_t r0 = (real - 1) / TILE * TILE; real > 0 && r0 >= 0; r0 -= TILE) {
      const int64_t r1 = real - r0 < TILE ? real : r0 + TILE;
      for (int64_t c = 0; c < z.C; c += VL)
        mix_tile_backward(z, rows, w, g, b, r0, r1, c, z.C - c < VL ? int(z.C - c) : VL,
                          later + c * MAX_TAPS, sums);
    }
    // The state's row -i was read by the first positions.
    for (int64_t i = 1; i < z.taps; ++i)
      for (int64_t c = 0; c < z.C; c += VL) {
        const int count = z.C - c < VL ? int(z.C - c) : VL;
        const Convolution convolution(z, w, c, count);
        Vec total{};
        for (int64_t j = i; j < z.taps; ++j)
          total += convolution.tap[j] * load(later + c * MAX_TAPS + (j - i) * VL);
        store(g.state + (b * (z.taps - 1) + z.taps - 1 - i) * z.C + c, total, count);
      }
    for (int64_t i = 0; i < z.S * z.gates; ++i)
      sums.gate_bias[i % z.gates] += g.gates[b * z.S * z.gates + i];
  }
  unpack_sums(z, sums, g.weights);
}

}  // namespace ISA
