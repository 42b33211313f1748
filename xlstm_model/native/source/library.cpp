// Entry points for ctypes: sizes and pointers in arrays, so that no binding library is needed.

#include <cmath>

#include "types.h"

namespace plain { extern const Functions functions; }
#if defined(__x86_64__) || defined(__i386__)
namespace avx2 { extern const Functions functions; }
namespace avx512 { extern const Functions functions; }
#endif

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

static const Functions* choose(int widest) {
#if defined(__x86_64__) || defined(__i386__)
  if (widest >= 16 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return &avx512::functions;
  if (widest >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return &avx2::functions;
#endif
  return &plain::functions;
}

static const Functions* chosen = choose(16);

// All kernels take sizes, numbers, pointers, the range of rows to work on, and the number of the part
// that range is, for sums that every part keeps on its own.
#define ENTRY(name)                                                                        \
  EXPORT void name(const int64_t* s, [[maybe_unused]] const double* numbers, void** p,     \
                   int64_t first, int64_t last, [[maybe_unused]] int64_t part)

// Version of these entry points; the caller refuses a library of another one.
EXPORT int32_t xlstm_interface_version() { return 8; }

// Restricts the vectors to at most `widest` floats; returns the width in use. For tests.
EXPORT int32_t xlstm_restrict_vectors(int32_t widest) {
  chosen = choose(widest);
  return chosen->width;
}

template <class T>
static T* as(void* pointer) { return static_cast<T*>(pointer); }

static MlstmShape mlstm_shape(const int64_t* s, double eps) {
  return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], eps};
}

// sizes: B, NH, S, DK, DV, length, chunks, is_empty. pointers: q, k, v, log_i, log_f, m, c, n, then h,
// denominator, m_last.
ENTRY(xlstm_mlstm_forward) {
  chosen->mlstm_forward(mlstm_shape(s, numbers[0]), first, last,
                        {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<double>(p[3]),
                         as<double>(p[4]), as<double>(p[5])},
                        {as<float>(p[6]), as<float>(p[7])}, as<float>(p[8]), as<float>(p[9]),
                        as<double>(p[10]));
}

// pointers: as for the forward up to n, then the fields of MlstmGradient in turn.
ENTRY(xlstm_mlstm_backward) {
  const MlstmGradient gradient = {
      as<float>(p[8]),   as<float>(p[9]),   as<float>(p[10]),  as<float>(p[11]),
      as<float>(p[12]),  as<float>(p[13]),  as<float>(p[14]),  as<float>(p[15]),
      as<double>(p[16]), as<double>(p[17]), as<float>(p[18]),  as<float>(p[19]),
      as<float>(p[20])};
  chosen->mlstm_backward(mlstm_shape(s, numbers[0]), first, last,
                         {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<double>(p[3]),
                          as<double>(p[4]), as<double>(p[5])},
                         {as<float>(p[6]), as<float>(p[7])}, gradient);
}

// sizes: S, NH, B, DH, sigmoid. pointers: raw, weight, mask, h, c, n, m.
ENTRY(xlstm_slstm_forward) {
  chosen->slstm_forward({s[0], s[1], s[2], s[3], s[4]}, first, last, as<float>(p[0]),
                        as<float>(p[1]), as<uint8_t>(p[2]), as<float>(p[3]), as<float>(p[4]),
                        as<float>(p[5]), as<float>(p[6]));
}

// sizes: those of the forward, then the strides of grad_h over samples, positions and heads.
// pointers: those of the forward (the weight transposed), then grad_h, extra, dh, dc, dn, grad_raw.
ENTRY(xlstm_slstm_backward) {
  const SlstmGradient gradient = {as<float>(p[7]),  s[5],
                                  s[6],             s[7],
                                  as<float>(p[8]),  as<float>(p[9]),
                                  as<float>(p[10]), as<float>(p[11]),
                                  as<float>(p[12])};
  chosen->slstm_backward({s[0], s[1], s[2], s[3], s[4]}, first, last, as<float>(p[0]),
                         as<float>(p[1]), as<uint8_t>(p[2]), as<float>(p[3]), as<float>(p[4]),
                         as<float>(p[5]), as<float>(p[6]), gradient);
}

static MixShape mix_shape(const int64_t* s) { return {s[0], s[1], s[2], s[3], s[4], s[5]}; }

static MixInputs mix_inputs(void** p) {
  return {as<float>(p[0]), as<float>(p[1]), as<uint8_t>(p[2])};
}

static MixWeights mix_weights(void** p) {
  return {as<float>(p[3]),
          as<float>(p[4]),
          {as<float>(p[5]), as<float>(p[6]), as<float>(p[7])},
          {as<float>(p[8]), as<float>(p[9])},
          {as<float>(p[10]), as<float>(p[11])}};
}

// sizes: B, S, C, stride, taps, gates. pointers: the fields of MixInputs, MixWeights, MixOutputs.
ENTRY(xlstm_mix_forward) {
  chosen->mix_forward(mix_shape(s), first, last, mix_inputs(p), mix_weights(p),
                      {as<float>(p[12]), as<float>(p[13]), as<float>(p[14]), as<float>(p[15]),
                       as<float>(p[16])});
}

// As the forward, then the size of one part's sums. pointers: the fields of MixInputs, MixWeights,
// MixGradient.
ENTRY(xlstm_mix_backward) {
  chosen->mix_backward(mix_shape(s), first, last, mix_inputs(p), mix_weights(p),
                       {as<float>(p[12]), as<float>(p[13]), as<float>(p[14]), as<float>(p[15]),
                        as<float>(p[16]), as<float>(p[17]), as<float>(p[18]),
                        as<float>(p[19]) + part * s[6]});
}

static MergeShape merge_shape(const int64_t* s, double eps) {
  return {s[0], s[1], s[2], s[3], s[4], s[5], eps};
}

static MergeInputs merge_inputs(void** p) {
  return {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3]), as<float>(p[4])};
}

// sizes: rows, heads, width, mixed_stride, z_stride, has_norm. pointers: the fields of MergeInputs,
// then the result.
ENTRY(xlstm_merge_forward) {
  chosen->merge_forward(merge_shape(s, numbers[0]), first, last, merge_inputs(p), as<float>(p[5]));
}

// pointers: the fields of MergeInputs and MergeGradient.
ENTRY(xlstm_merge_backward) {
  chosen->merge_backward(merge_shape(s, numbers[0]), first, last, merge_inputs(p),
                         {as<float>(p[5]), as<float>(p[6]), as<float>(p[7]), as<float>(p[8]),
                          as<float>(p[9]) + part * 2 * s[1] * s[2], nullptr});
}

// sizes: B, NH, DK, DV. pointers: the fields of MlstmStep.
ENTRY(xlstm_mlstm_step) {
  const MlstmStep step = {s[0],           s[1],           s[2],            s[3],
                          numbers[0],     as<float>(p[0]), as<float>(p[1]), as<float>(p[2]),
                          as<float>(p[3]), as<float>(p[4]), as<float>(p[5]), as<float>(p[6]),
                          as<float>(p[7]), as<float>(p[8]), as<float>(p[9]), as<float>(p[10]),
                          as<float>(p[11])};
  chosen->mlstm_step(step, first, last);
}

// sizes: B, NH, DH, sigmoid. pointers: the fields of SlstmStep.
ENTRY(xlstm_slstm_step) {
  const SlstmStep step = {s[0],            s[1],            s[2],            s[3],
                          as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3]),
                          as<float>(p[4]), as<float>(p[5]), as<float>(p[6]), as<float>(p[7]),
                          as<float>(p[8]), as<float>(p[9]), as<float>(p[10])};
  chosen->slstm_step(step, first, last);
}

static BlockStep block_step(const int64_t* s, const double* n) {
  return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], n[0], n[1], n[2]};
}

static MlstmBlockWeights mlstm_block_weights(void** p) {
  return {as<float>(p[0]),
          as<float>(p[1]),
          {as<float>(p[2]),
           as<float>(p[3]),
           {as<float>(p[4]), as<float>(p[5]), as<float>(p[6])},
           {as<float>(p[7]), as<float>(p[8])},
           {as<float>(p[9]), as<float>(p[10])}},
          as<float>(p[11]),
          as<float>(p[12]),
          as<float>(p[13])};
}

// sizes, numbers: the fields of BlockStep. pointers: those of MlstmBlockWeights, then x,
// MlstmBlockState, y, and the next MlstmBlockState.
ENTRY(xlstm_mlstm_block_step) {
  chosen->mlstm_block_step(
      block_step(s, numbers), first, last, mlstm_block_weights(p), as<float>(p[14]),
      {as<float>(p[15]), as<float>(p[16]), as<float>(p[17]), as<float>(p[18])}, as<float>(p[19]),
      {as<float>(p[20]), as<float>(p[21]), as<float>(p[22]), as<float>(p[23])});
}

static SlstmBlockState slstm_state(void** p) {
  return {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3]), as<float>(p[4])};
}

// The same with SlstmBlockWeights and SlstmBlockState.
ENTRY(xlstm_slstm_block_step) {
  const SlstmBlockWeights weights = {
      as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3]),
      as<float>(p[4]), as<float>(p[5]), as<float>(p[6]), as<float>(p[7]),
      as<float>(p[8]), as<float>(p[9]), as<float>(p[10])};
  chosen->slstm_block_step(
      block_step(s, numbers), first, last, weights, as<float>(p[11]), slstm_state(p + 12),
      as<float>(p[17]), slstm_state(p + 18));
}

static SlstmBlockShape slstm_block_shape(const int64_t* s, const double* n) {
  return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], n[0], n[1]};
}

// Without the feed-forward layer.
static SlstmBlockWeights slstm_block_weights(void** p) {
  return {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3]), as<float>(p[4]),
          as<float>(p[5]), as<float>(p[6]), as<float>(p[7]), nullptr,         nullptr,
          nullptr};
}

static SlstmBlockSaved slstm_block_saved(void** p) {
  return {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3]), as<float>(p[4])};
}

// sizes, numbers: the fields of SlstmBlockShape. pointers: those of SlstmBlockWeights up to the merge,
// then x, mask, the start as SlstmBlockState, SlstmBlockSaved, y and the end as SlstmBlockState.
ENTRY(xlstm_slstm_block_forward) {
  chosen->slstm_block_forward(slstm_block_shape(s, numbers), first, last, slstm_block_weights(p),
                              as<float>(p[8]), as<uint8_t>(p[9]), slstm_state(p + 10),
                              as<float>(p[20]), slstm_state(p + 21), slstm_block_saved(p + 15));
}

// As the forward up to SlstmBlockSaved, then the gradients of y and x and the sums of the weights';
// the last size is that of one part's sums.
ENTRY(xlstm_slstm_block_backward) {
  chosen->slstm_block_backward(slstm_block_shape(s, numbers), first, last, slstm_block_weights(p),
                               as<float>(p[8]), as<uint8_t>(p[9]), slstm_state(p + 10),
                               slstm_block_saved(p + 15), as<float>(p[20]), as<float>(p[21]),
                               as<float>(p[22]) + part * s[9]);
}

static MlstmBlockShape block_shape(const int64_t* s, const double* n) {
  return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], n[0], n[1], n[2]};
}

static MlstmBlockState block_state(void** p) {
  return {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3])};
}

static MlstmBlockSaved block_saved(void** p) {
  return {as<float>(p[0]), as<float>(p[1]), as<float>(p[2]), as<float>(p[3]),
          as<float>(p[4]), as<float>(p[5]), as<double>(p[6])};
}

// sizes, numbers: the fields of MlstmBlockShape. pointers: those of MlstmBlockWeights, then x, mask,
// the start as MlstmBlockState, MlstmBlockSaved, y and the end as MlstmBlockState.
ENTRY(xlstm_mlstm_block_forward) {
  chosen->mlstm_block_forward(block_shape(s, numbers), first, last, mlstm_block_weights(p),
                              as<float>(p[14]), as<uint8_t>(p[15]), block_state(p + 16),
                              as<float>(p[27]), block_state(p + 28), block_saved(p + 20));
}

// As the forward up to MlstmBlockSaved, then the gradients of y and x and the sums of the weights';
// the last size is that of one part's sums.
ENTRY(xlstm_mlstm_block_backward) {
  chosen->mlstm_block_backward(block_shape(s, numbers), first, last, mlstm_block_weights(p),
                               as<float>(p[14]), as<uint8_t>(p[15]), block_state(p + 16),
                               block_saved(p + 20), as<float>(p[27]), as<float>(p[28]),
                               as<float>(p[29]) + part * s[11]);
}

// sizes, numbers: the fields of FeedForwardShape. pointers: those of FeedForwardWeights, x, y.
ENTRY(xlstm_feed_forward) {
  chosen->feed_forward({s[0], s[1], s[2], s[3], numbers[0]}, first, last,
                       {as<float>(p[0]), as<float>(p[1]), as<float>(p[2])}, as<float>(p[3]),
                       as<float>(p[4]));
}

// pointers: the fields of FeedForwardWeights, x, the gradients of y and x, the sums of the weights';
// the last size is that of one part's sums.
ENTRY(xlstm_feed_forward_backward) {
  chosen->feed_forward_backward({s[0], s[1], s[2], s[3], numbers[0]}, first, last,
                                {as<float>(p[0]), as<float>(p[1]), as<float>(p[2])},
                                as<float>(p[3]), as<float>(p[4]), as<float>(p[5]),
                                as<float>(p[6]) + part * s[4]);
}
