// Arguments of the kernels, and the table of what one instruction set offers.

#pragma once
#include <cstdint>

struct MlstmShape {
  int64_t B, NH, S, DK, DV;
  int64_t length, chunks;  // positions of a chunk, number of chunks
  int64_t is_empty;        // whether the memory before the first chunk is empty
  double eps;
};

struct MlstmInputs {
  const float *q, *k, *v;                // (B, S, NH, D)
  const double *log_i, *log_f;           // (B, NH, S); log_i = -inf marks padding
  const double* m;                       // (B, NH)
};

struct MlstmMemory {
  float *c, *n;  // (chunks + 1, B * NH, DK, DV) and (chunks + 1, B * NH, DK), entry 0 given
};

struct MlstmGradient {
  const float *h, *grad_h;       // (B, S, NH, DV)
  const float* denominator;      // (B, NH, S)
  const float *end_c, *end_n;    // (B * NH, DK, DV), (B * NH, DK): of the final memory, or null
  float *q, *k, *v;              // (B, S, NH, D)
  double *log_i, *share;         // (B, NH, S): k · dk, and q · dq - k · dk
  float* path;                   // (B, NH, S): of the stabilisers, or null
  float *start_c, *start_n;      // (B * NH, DK, DV), (B * NH, DK), or null
};

struct SlstmShape {
  int64_t S, NH, B, DH;
  int64_t sigmoid;  // whether the input gate is a sigmoid
};

struct SlstmGradient {
  const float* grad_h;  // element (b, t, head, d) at b * stride_b + t * stride_t + head * stride_h + d
  int64_t stride_b, stride_t, stride_h;
  const float* extra;   // further gradient of the pre-activations (S, NH, B, 4, DH) or null
  float *dh, *dc, *dn;  // (NH, B, DH): gradients of the state, of the last and then the first
  float* grad_raw;      // (S, NH, B, 4, DH)
};

// Convolution with SiLU and what may follow it in an mLSTM block.
struct MixShape {
  int64_t B, S, C;
  int64_t stride;  // from one position of x to the next
  int64_t taps;    // width of the convolution, 0 for none
  int64_t gates;   // gate pre-activations per position, 0 for no projections at all
};

struct MixWeights {  // as the layers hold them; null where there is none
  const float *taps, *bias;       // (C, taps), the last tap the current position; (C)
  const float* projections[3];    // of q, k, v: (C / 4, 4 out, 4 in)
  const float* gates[2];          // of input and forget gate: (gates / 2, 3 C)
  const float* gate_bias[2];      // (gates / 2)
};

struct MixInputs {
  const float *x, *state;  // (B, S, C) with strides; (B, taps - 1, C), oldest first
  const uint8_t* mask;     // (B, S) or null
};

struct MixOutputs {
  float* mixed;            // (B, S, C), 0 at padding
  float *q, *k, *v;        // (B, S, C), 0 at padding, or null
  float* gates;            // (B, S, gates)
};

struct MixGradient {
  const float *mixed, *q, *k, *v, *gates;  // as MixOutputs
  float *x, *state;                        // (B, S, C), (B, taps - 1, C)
  float* weights;  // of one part, as MixWeights, one after another, the two gates' after both
};

// (norm(h) * scale + skip * mixed) * silu(z), the norm over each head.
struct MergeShape {
  int64_t rows, heads, width;  // width of a head
  int64_t mixed_stride, z_stride;
  int64_t has_norm;
  double eps;
};

struct MergeInputs {
  const float *h, *mixed, *z, *scale, *skip;
};

struct MergeGradient {
  const float* out;
  float *h, *mixed, *z;  // (rows, C)
  float* weights;        // of one part: of scale and of skip, (2, C)
  float* merged;         // the forward's result once more (rows, C), or null
};

// One position of either cell, for B samples; results beside the state they come from.
struct MlstmStep {
  int64_t B, NH, DK, DV;
  double eps;
  const float *q, *k, *v, *igate, *fgate, *c, *n, *m;  // (B, NH, ...)
  float *h, *next_c, *next_n, *next_m;
};

struct SlstmStep {
  int64_t B, NH, DH, sigmoid;
  const float *gates, *weight, *bias;  // (B, 4, NH, DH), (NH, DH, 4, DH), (NH, 4, DH)
  const float *h, *c, *n, *m;          // (B, NH, DH)
  float *next_h, *next_c, *next_n, *next_m;
};

// A whole block, one position of B samples, without a gradient.
struct BlockStep {
  int64_t B, D, C, NH, taps;   // C: channels of convolution and cell
  int64_t groups;              // of the norm after the cell
  int64_t residual, sigmoid;   // flags
  int64_t convolved;           // sLSTM: how many gates read the convolution
  int64_t inner;               // sLSTM: inner width of the feed-forward layer, 0 for none
  double norm_eps, merge_eps, cell_eps;
};

struct MlstmBlockWeights {  // as the layers hold them; null where there is none
  const float *norm, *up;        // (D), (2 C, D)
  MixWeights mix;
  const float *merge, *skip;     // (C), (C)
  const float* down;             // (D, C)
};

struct MlstmBlockState {
  float *conv, *c, *n, *m;  // (B, taps - 1, C), (B, NH, DH, DH), (B, NH, DH), (B, NH)
};

// A whole block over sequences.
struct MlstmBlockShape {
  int64_t B, S, D, C, NH, taps;
  int64_t length, chunks;     // most positions in a chunk, most chunks of a sample
  int64_t groups;             // of the norm after the cell
  int64_t residual, sigmoid;  // flags
  double norm_eps, merge_eps, cell_eps;
  int64_t DH() const { return C / NH; }
};

// What the forward pass leaves for the backward pass; rows are a sample's real positions.
struct MlstmBlockSaved {
  float *wide, *h;     // (B, S, 2 C): up-projection; (B, S, C)
  float* denominator;  // (B, S, NH), within each chunk (NH, count)
  float* gates;        // (B, S, 2 NH)
  float *c, *n;        // memory before all chunks but the first, see Borders
  double* m;           // (B, chunks, NH)
};

struct SlstmBlockWeights {
  const float *norm, *taps, *bias;         // (D), (D, taps), (D)
  const float *convolved, *raw;            // (NH, gates, DH, DH): out, in
  const float *recurrent, *gate_bias;      // (NH, DH, 4, DH), (NH, 4, DH)
  const float *merge, *inner_norm;         // (D), (D)
  const float *up, *down;                  // (2 inner, D), (D, inner)
};

struct SlstmBlockState {
  float *conv, *h, *c, *n, *m;  // (B, taps - 1, D), (B, NH, DH)
};

// The block's first half over sequences: all but the feed-forward layer.
struct SlstmBlockShape {
  int64_t B, S, D, NH, taps;
  int64_t convolved;          // how many gates read the convolution
  int64_t groups;             // of the norm after the cell
  int64_t residual, sigmoid;  // flags
  double norm_eps, merge_eps;
  int64_t DH() const { return D / NH; }
};

// What the forward pass leaves for the backward pass; steps are a sample's real positions.
struct SlstmBlockSaved {
  float* gates;           // (S, NH, B, 4, DH): pre-activations
  float *h, *c, *n, *m;   // (S + 1, NH, B, DH): before each step, and after the last
};

struct FeedForwardShape {
  int64_t rows, D, F;  // F: inner width
  int64_t residual;
  double eps;
};

struct FeedForwardWeights {
  const float *norm, *up, *down;  // (D) or null, (2 F, D), (D, F)
};

struct Functions {
  int width;  // floats of a vector
  void (*mlstm_forward)(const MlstmShape&, int64_t first, int64_t last, const MlstmInputs&,
                        const MlstmMemory&, float* h, float* denominator, double* m_last);
  void (*mlstm_backward)(const MlstmShape&, int64_t first, int64_t last, const MlstmInputs&,
                         const MlstmMemory&, const MlstmGradient&);
  void (*slstm_forward)(const SlstmShape&, int64_t first, int64_t last, float* raw,
                        const float* weight, const uint8_t* mask, float* h, float* c, float* n,
                        float* m);
  void (*slstm_backward)(const SlstmShape&, int64_t first, int64_t last, const float* raw,
                         const float* transposed, const uint8_t* mask, const float* h,
                         const float* c, const float* n, const float* m, const SlstmGradient&);
  void (*mix_forward)(const MixShape&, int64_t first, int64_t last, const MixInputs&,
                      const MixWeights&, const MixOutputs&);
  void (*mix_backward)(const MixShape&, int64_t first, int64_t last, const MixInputs&,
                       const MixWeights&, const MixGradient&);
  void (*mlstm_step)(const MlstmStep&, int64_t first, int64_t last);
  void (*slstm_step)(const SlstmStep&, int64_t first, int64_t last);
  void (*merge_forward)(const MergeShape&, int64_t first, int64_t last, const MergeInputs&,
                        float* out);
  void (*merge_backward)(const MergeShape&, int64_t first, int64_t last, const MergeInputs&,
                         const MergeGradient&);
  void (*mlstm_block_step)(const BlockStep&, int64_t first, int64_t last,
                           const MlstmBlockWeights&, const float* x, const MlstmBlockState&,
                           float* y, const MlstmBlockState& next);
  void (*mlstm_block_forward)(const MlstmBlockShape&, int64_t first, int64_t last,
                              const MlstmBlockWeights&, const float* x, const uint8_t* mask,
                              const MlstmBlockState& start, float* y, const MlstmBlockState& end,
                              const MlstmBlockSaved&);
  void (*mlstm_block_backward)(const MlstmBlockShape&, int64_t first, int64_t last,
                               const MlstmBlockWeights&, const float* x, const uint8_t* mask,
                               const MlstmBlockState& start, const MlstmBlockSaved&,
                               const float* grad_y, float* grad_x, float* weights);
  void (*feed_forward)(const FeedForwardShape&, int64_t first, int64_t last,
                       const FeedForwardWeights&, const float* x, float* y);
  void (*feed_forward_backward)(const FeedForwardShape&, int64_t first, int64_t last,
                                const FeedForwardWeights&, const float* x, const float* grad_y,
                                float* grad_x, float* sums);
  void (*slstm_block_forward)(const SlstmBlockShape&, int64_t first, int64_t last,
                              const SlstmBlockWeights&, const float* x, const uint8_t* mask,
                              const SlstmBlockState& start, float* y, const SlstmBlockState& end,
                              const SlstmBlockSaved&);
  void (*slstm_block_backward)(const SlstmBlockShape&, int64_t first, int64_t last,
                               const SlstmBlockWeights&, const float* x, const uint8_t* mask,
                               const SlstmBlockState& start, const SlstmBlockSaved&,
                               const float* grad_y, float* grad_x, float* weights);
  void (*slstm_block_step)(const BlockStep&, int64_t first, int64_t last,
                           const SlstmBlockWeights&, const float* x, const SlstmBlockState&,
                           float* y, const SlstmBlockState& next);
};
