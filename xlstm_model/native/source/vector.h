// Vectors of VL floats in the compiler's own extension, and the elementary functions of the cells.
//
// Each instruction set includes these files once, in a namespace of its own, with VL and the size of
// the register block set; see variants/.

#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#include "types.h"

// Called for every few numbers: never worth a call of their own.
#define SMALL static inline __attribute__((always_inline))

namespace ISA {

typedef float Vec __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef int32_t IVec __attribute__((vector_size(4 * VL), aligned(4), may_alias));

static inline Vec splat(float x) { return Vec{} + x; }
SMALL Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
SMALL void store(float* p, Vec x) { *reinterpret_cast<Vec*>(p) = x; }

// The first `count` of VL numbers; the others are 0.
SMALL Vec load(const float* p, int count) {
  if (count >= VL) return load(p);
  Vec x{};
  std::memcpy(&x, p, sizeof(float) * count);
  return x;
}
SMALL void store(float* p, Vec x, int count) {
  if (count >= VL)
    store(p, x);
  else
    std::memcpy(p, &x, sizeof(float) * count);
}

// Lanes of a vector that the last `left` numbers of a row fill.
static inline int lanes(int64_t left) { return left < VL ? int(left) : VL; }

template <int... L>
SMALL IVec numbered(std::integer_sequence<int, L...>) {
  return IVec{L...};
}

// The first `count` lanes of x, at most all of them; the others are 0.
SMALL Vec first_lanes(Vec x, int64_t count) {
  const IVec lane = numbered(std::make_integer_sequence<int, VL>{});
  return lane < IVec{} + int32_t(count < VL ? count : VL) ? x : Vec{};
}

// Row of D numbers from one place to another.
SMALL void copy(int64_t D, const float* from, float* to) {
  int64_t d = 0;
  for (; d + VL <= D; d += VL) store(to + d, load(from + d));
  if (d < D) std::memcpy(to + d, from + d, sizeof(float) * (D - d));
}

static inline Vec maximum(Vec a, Vec b) { return a > b ? a : b; }
static inline Vec minimum(Vec a, Vec b) { return a < b ? a : b; }
static inline Vec absolute(Vec x) { return x < 0.0f ? -x : x; }

// Lane l of the result is lane INDEX::at(l) of the lanes of a and then b. The indices are a pack, as
// GCC sets a vector that a loop filled lane by lane wherever it is used.
template <class INDEX, int... L>
SMALL Vec shuffled(Vec a, Vec b, std::integer_sequence<int, L...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, INDEX::at(L)...);
#else
  return __builtin_shuffle(a, b, IVec{INDEX::at(L)...});
#endif
}
template <class INDEX>
SMALL Vec shuffled(Vec a, Vec b) {
  return shuffled<INDEX>(a, b, std::make_integer_sequence<int, VL>{});
}

template <int DISTANCE>
struct Opposite {  // places change in pairs
  static constexpr int at(int l) { return l ^ DISTANCE; }
};

// Every lane holds the sum over the lanes that differ in the bits of FROM, FROM / 2, ..., TO.
template <int FROM, int TO>
SMALL Vec folded(Vec x) {
  if constexpr (FROM < TO)
    return x;
  else
    return folded<FROM / 2, TO>(x + shuffled<Opposite<FROM>>(x, x));
}

SMALL float sum(Vec x) { return folded<VL / 2, 1>(x)[0]; }

template <int SIZE, int SECOND>
struct Take {  // of each 2 * SIZE lanes the first or second SIZE of a, then of b
  static constexpr int at(int l) {
    const int within = l % (2 * SIZE);
    return l - within + within % SIZE + SECOND * SIZE + (within < SIZE ? 0 : VL);
  }
};
template <int SIZE>
SMALL Vec added_in_turn(Vec a, Vec b) {
  return shuffled<Take<SIZE, 0>>(a, b) + shuffled<Take<SIZE, 1>>(a, b);
}

// Sums of four vectors, one after another.
SMALL void sums(Vec a, Vec b, Vec c, Vec d, float* to) {
  const Vec x = added_in_turn<2>(added_in_turn<1>(a, b), added_in_turn<1>(c, d));
  const Vec all = folded<VL / 2, 4>(x);
  std::memcpy(to, &all, 4 * sizeof(float));
}

// exp(x), relative error below 2e-7; 0 below -87.3, where floats become denormal.
SMALL Vec exponential(Vec x) {
  const Vec capped = minimum(x, splat(88.0f));
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer
  const Vec shifted = capped * 1.44269504088896341f + magic;
  const Vec n = shifted - magic;
  const Vec r = (capped - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  IVec bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits - 0x4B400000 + 127) << 23;  // 0x4B400000 are the bits of magic
  Vec scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return x < -87.3f ? Vec{} : p * scale;
}

SMALL Vec sigmoid(Vec x) {
  // exp of a negative number only, so that nothing overflows and small results stay exact.
  const Vec e = exponential(-absolute(x));
  const Vec inverse = 1.0f / (1.0f + e);
  return x < 0.0f ? e * inverse : inverse;
}

// log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|)), the logarithm by 2 atanh(e / (2 + e)).
SMALL Vec log_sigmoid(Vec x) {
  const Vec e = exponential(-absolute(x));
  const Vec s = e / (2.0f + e);  // at most 1/3
  const Vec q = s * s;
  Vec p = splat(2.0f / 15.0f);
  p = p * q + 2.0f / 13.0f;
  p = p * q + 2.0f / 11.0f;
  p = p * q + 2.0f / 9.0f;
  p = p * q + 2.0f / 7.0f;
  p = p * q + 2.0f / 5.0f;
  p = p * q + 2.0f / 3.0f;
  p = p * q + 2.0f;
  return minimum(x, Vec{}) - s * p;
}

SMALL Vec hyperbolic_tangent(Vec x) {
  const Vec magnitude = absolute(x);
  const Vec e = exponential(-2.0f * magnitude);
  const Vec far = (1.0f - e) / (1.0f + e);
  // Near 0 the difference above loses digits; odd Taylor-like polynomial up to 0.625 (Cephes).
  const Vec q = x * x;
  Vec p = splat(-5.70498872745e-3f);
  p = p * q + 2.06390887954e-2f;
  p = p * q - 5.37397155531e-2f;
  p = p * q + 1.33314422036e-1f;
  p = p * q - 3.33332819422e-1f;
  const Vec near = p * q * x + x;
  return magnitude < 0.625f ? near : (x < 0.0f ? -far : far);
}

// The standard normal distribution at x, and its density. The tail's share beyond exp(-x^2 / 2) is a
// polynomial in t = 1 / (1 + 0.35 |x|), fitted to a relative error of 3e-8.
struct Normal {
  Vec below, density;
};

SMALL Normal normal(Vec x) {
  const Vec y = absolute(x), t = 1.0f / (1.0f + 0.35f * y), bell = exponential(-0.5f * (x * x));
  Vec p = splat(-0.02914631f);
  p = p * t + 0.14397351f;
  p = p * t - 0.2557175f;
  p = p * t + 0.15917675f;
  p = p * t - 0.02311051f;
  p = p * t + 0.10550769f;
  p = p * t + 0.11983313f;
  p = p * t + 0.1398618f;
  p = p * t + 0.1396214f;
  const Vec tail = p * t * bell;
  return {x < 0.0f ? tail : 1.0f - tail, 0.3989422804f * bell};
}

}  // namespace ISA
