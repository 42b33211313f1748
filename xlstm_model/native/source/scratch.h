// Memory for what a kernel needs while it runs.

#pragma once
#include <cstdlib>

#include "vector.h"

namespace ISA {

static inline int64_t padded(int64_t width) { return (width + VL - 1) / VL * VL; }

// Aligned scratch memory, handed out piece by piece.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : at_(0) {
    data_ = static_cast<float*>(std::aligned_alloc(64, (sizeof(float) * floats + 4096) / 64 * 64));
    if (data_) std::memset(data_, 0, sizeof(float) * floats);
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* take(int64_t floats) {
    float* piece = data_ + at_;
    at_ += (floats + 15) / 16 * 16;
    return piece;
  }

 private:
  float* data_;
  int64_t at_;
};

}  // namespace ISA
