// What the ARM micro-kernels share. 64-bit only; every file here is empty on other architectures.
//
// All variants do the same float operations in the same order, fused multiply-adds included, and their
// integer sums are exact: neon, dotprod and i8mm give the same bits.
#pragma once

#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "../contract.h"

namespace blockffn {

namespace arm {

// The functions that the later instruction sets leave as they are.
void tiles_fp32(const TileArgs& a);
void quantize_row(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts);
void axpy(float a, const float* x, float* y, int n);
void scale(float a, float* y, int n);
void silu(float* x, int n);
void dots(const float* const* queries, int query_count, const float* const* keys, int count, int n, float* scores);
float softmax(float* scores, int count, float scale, float* max, float* sum);
void weighted_sum(const float* weights, const float* const* rows, int count, float* y, int n);
// One token: a second row of activations would only be padding for smmla.
void tiles_int8_dotprod(const TileArgs& a);
void tiles_int4_dotprod(const TileArgs& a);

namespace {

constexpr int kTokenBlock = 8;  // tokens that share one pass over the weights

// Activations are laid out for kTileBatch tiles at once, kSegmentCols columns at a time: as many as fit the stack and
// the first cache, and enough for the whole row of most models, whose weights then stream without a jump.
constexpr int kTileBatch = 8, kSegmentCols = 2048, kSegmentGroups = kSegmentCols / kGroupCols;

// An int4 group's sum starts at kShift's bits more than TileArgs::starts. With the products of weights + 8 it becomes
// the bits of kShift + dot, as long as |dot| < 2^22, and a subtraction makes it a float. A conversion would take
// two slots of one of the vector units, and a start that is loaded takes none.
constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
constexpr int32_t kShiftBits = 0x4b400000;
inline int32_t shifted_start(int32_t start) { return kShiftBits + start; }
inline float32x4_t shifted_to_float(int32x4_t sum) {
  return vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(kShift));
}

// Asks for the lines that a loop multiplies a while later. A processor's own prefetcher follows the tiles, but only to
// the end of a page, and anew from the start of the next one.
template <int kBytes>
inline void prefetch(const uint8_t* weights) {
  constexpr int kAhead = 1024;
  for (int i = 0; i < kBytes; i += 64) __builtin_prefetch(weights + kAhead + i);
}

// Calls block(n) with n = min(count, kCount) as a constant, 1..kCount.
template <int kCount = kTokenBlock, class Block>
inline void dispatch(int count, const Block& block) {
  if constexpr (kCount > 0) {
    if (count >= kCount) return block(std::integral_constant<int, kCount>());
    dispatch<kCount - 1>(count, block);
  }
}

// The 8 scales of a row tile, or of one int4 group of it.
inline void load_scales(const uint8_t* p, float32x4_t scale[2]) {
  uint16x8_t bits;
  std::memcpy(&bits, p, sizeof bits);
  const float16x8_t half = vreinterpretq_f16_u16(bits);
  scale[0] = vcvt_f32_f16(vget_low_f16(half));
  scale[1] = vcvt_high_f32_f16(half);
}

inline float32x4_t load_4_scales(const uint8_t* p) {
  uint16x4_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

// Stores the 8 results of one tile for one token, leaving out rows past the end of the matrix.
inline void store(const TileArgs& a, int tile, int token, float32x4_t low, float32x4_t high) {
  float* y = a.y[token] + tile * kTileRows;
  const int valid = a.rows - tile * kTileRows;
  low = vmulq_n_f32(low, a.factor[token]);
  high = vmulq_n_f32(high, a.factor[token]);
  if (valid >= kTileRows) {
    if (a.accumulate) {
      low = vaddq_f32(vld1q_f32(y), low);
      high = vaddq_f32(vld1q_f32(y + 4), high);
    }
    vst1q_f32(y, low);
    vst1q_f32(y + 4, high);
    return;
  }
  float value[kTileRows];
  vst1q_f32(value, low);
  vst1q_f32(value + 4, high);
  for (int r = 0; r < valid; ++r) y[r] = a.accumulate ? y[r] + value[r] : value[r];
}

}  // namespace
}  // namespace arm
}  // namespace blockffn
