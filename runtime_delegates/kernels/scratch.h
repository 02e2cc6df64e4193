// Scratch memory and activation rows shared by the operators.
#pragma once

#include <cstdlib>

#include "packed.h"

namespace blockffn {

// Memory at a multiple of kAlign, or null; std::free releases it. (std::aligned_alloc came to Android with API 28
// and to macOS with 10.15.)
inline uint8_t* aligned_memory(size_t bytes) {
  void* memory = nullptr;
  return posix_memalign(&memory, kAlign, bytes) == 0 ? static_cast<uint8_t*>(memory) : nullptr;
}

// Hands out 64-byte aligned pieces of a buffer. With a null base it only measures.
class Scratch {
 public:
  explicit Scratch(uint8_t* base) : base_(base) {}
  template <class T>
  T* take(size_t n) {
    uint8_t* p = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(n * sizeof(T), kAlign);
    return reinterpret_cast<T*>(p);
  }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

// Activation rows, dynamically quantized to int8 with one scale per row (empty for fp32 weights).
class QuantizedRows {
 public:
  QuantizedRows(Scratch& scratch, Quant quant, size_t rows, int cols)
      : quant_(quant), cols_(cols), padded_(padded_cols(quant, cols)) {
    if (quant == Quant::kFp32) return;
    q_ = scratch.take<int8_t>(rows * padded_);
    scale_ = scratch.take<float>(rows);
    if (quant == Quant::kInt4) starts_ = scratch.take<int32_t>(rows * (padded_ / kGroupCols));
  }
  void set(const Kernels& kernels, size_t row, const float* x) {
    kernels.quantize_row(x, cols_, static_cast<int>(padded_), q_ + row * padded_, scale_ + row, starts(row));
  }
  Quant quant() const { return quant_; }
  const int8_t* q(size_t row) const { return q_ + row * padded_; }
  float scale(size_t row) const { return scale_[row]; }
  int32_t* starts(size_t row) const { return starts_ == nullptr ? nullptr : starts_ + row * (padded_ / kGroupCols); }

 private:
  Quant quant_;
  int cols_;
  size_t padded_;
  int8_t* q_ = nullptr;
  float* scale_ = nullptr;
  int32_t* starts_ = nullptr;
};

inline size_t quantized_rows_bytes(Quant quant, size_t rows, int cols) {
  Scratch measure(nullptr);
  QuantizedRows(measure, quant, rows, cols);
  return measure.used();
}

// Consecutive tiles that one work item multiplies: long runs, which memory delivers fastest, but several items a
// thread, so that a slow core does not hold up the others. A multiple of what the micro-kernels read side by side.
inline int tiles_per_item(const Parallel& parallel, int tiles) {
  constexpr int kItemsPerThread = 4, kLeast = 8;
  if (parallel.run == nullptr || parallel.threads <= 1) return tiles;
  const int share = static_cast<int>(round_up(tiles / (kItemsPerThread * parallel.threads) + 1, 4));
  return share < kLeast ? kLeast : share;
}

// The argument arrays of one micro-kernel call, up to 64 tokens, on the stack of the work item.
class TileBatch {
 public:
  // fp32_row is used where the weights are fp32, quantized row `row` elsewhere.
  void add(const QuantizedRows& rows, size_t row, const float* fp32_row, float factor, float* y) {
    const bool fp32 = rows.quant() == Quant::kFp32;
    x_[n_] = fp32 ? static_cast<const void*>(fp32_row) : rows.q(row);
    starts_[n_] = fp32 ? nullptr : rows.starts(row);
    factor_[n_] = fp32 ? factor : factor * rows.scale(row);
    y_[n_++] = y;
  }
  void multiply(const Kernels& kernels, Quant quant, const uint8_t* tiles, size_t tile_bytes, int tile_count, int rows,
                int cols, bool accumulate, const uint8_t* next) const {
    const TileArgs args{tiles, tile_bytes, tile_count, rows, cols, n_, x_, starts_, factor_, y_, accumulate, next};
    switch (quant) {
      case Quant::kFp32:
        kernels.tiles_fp32(args);
        break;
      case Quant::kInt8:
        kernels.tiles_int8(args);
        break;
      case Quant::kInt4:
        kernels.tiles_int4(args);
        break;
    }
  }

 private:
  int n_ = 0;
  const void* x_[kMaxTokens];
  const int32_t* starts_[kMaxTokens];
  float factor_[kMaxTokens];
  float* y_[kMaxTokens];
};

}  // namespace blockffn
