// ARMv8.2 with SDOT (Cortex-A55, A75/A76 and later; Apple A12 and later).
//
// One token: a 16-byte load holds 8 columns of 2 rows; sdot with the activations doubled leaves two halves of
// every row's sum, added at the end. Several tokens: the same registers are first unzipped to 4 columns
// of 4 rows, so that sdot takes 4 activations by lane and an accumulator holds 4 rows: no doubling, half as
// many accumulators, and eight tokens fit the register file.
#if defined(__aarch64__)

#include <type_traits>

#include "arm.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")  // to the end of the file: templates are instantiated there
#endif

namespace blockffn {
namespace arm {
namespace {

inline int8x16_t load(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
inline int8x16_t load_twice(const int8_t* p) {
  return vreinterpretq_s8_s64(vld1q_dup_s64(reinterpret_cast<const int64_t*>(p)));
}

// 4 columns of 4 rows from 8 columns of rows 0, 1 and of rows 2, 3.
inline int8x16_t first_columns(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vuzp1q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}
inline int8x16_t last_columns(int8x16_t a, int8x16_t b) {
  return vreinterpretq_s8_s32(vuzp2q_s32(vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b)));
}

void int8_one_token(const TileArgs& a, int tile, int token, int cols) {
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  const auto* x = static_cast<const int8_t*>(a.x[token]);
  int32x4_t sum[8] = {};  // two sets, so that an addition need not wait for the one before
  int k = 0;
  for (; k + 16 <= cols; k += 16, w += 128) {
    prefetch<128>(w);
    const int8x16_t x0 = load_twice(x + k), x1 = load_twice(x + k + 8);
    for (int i = 0; i < 4; ++i) {
      sum[i] = vdotq_s32(sum[i], load(w + 16 * i), x0);
      sum[4 + i] = vdotq_s32(sum[4 + i], load(w + 64 + 16 * i), x1);
    }
  }
  if (k < cols) {
    const int8x16_t x0 = load_twice(x + k);
    for (int i = 0; i < 4; ++i) sum[i] = vdotq_s32(sum[i], load(w + 16 * i), x0);
    w += 64;
  }
  for (int i = 0; i < 4; ++i) sum[i] = vaddq_s32(sum[i], sum[4 + i]);
  float32x4_t scale[2];
  load_scales(w, scale);
  store(a, tile, token, vmulq_f32(scale[0], vcvtq_f32_s32(vpaddq_s32(sum[0], sum[1]))),
        vmulq_f32(scale[1], vcvtq_f32_s32(vpaddq_s32(sum[2], sum[3]))));
}

template <int kTokens>
void int8_tokens(const TileArgs& a, int tile, int first, int cols) {
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  const int8_t* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = static_cast<const int8_t*>(a.x[first + t]);
  int32x4_t sum[kTokens][2] = {};
  for (int k = 0; k < cols; k += 8, w += 64) {
    prefetch<64>(w);
    const int8x16_t w01 = load(w), w23 = load(w + 16), w45 = load(w + 32), w67 = load(w + 48);
    const int8x16_t low0 = first_columns(w01, w23), low1 = last_columns(w01, w23);
    const int8x16_t high0 = first_columns(w45, w67), high1 = last_columns(w45, w67);
    for (int t = 0; t < kTokens; ++t) {
      const int8x8_t xt = vld1_s8(x[t] + k);
      sum[t][0] = vdotq_lane_s32(sum[t][0], low0, xt, 0);
      sum[t][1] = vdotq_lane_s32(sum[t][1], high0, xt, 0);
      sum[t][0] = vdotq_lane_s32(sum[t][0], low1, xt, 1);
      sum[t][1] = vdotq_lane_s32(sum[t][1], high1, xt, 1);
    }
  }
  float32x4_t scale[2];
  load_scales(w, scale);
  for (int t = 0; t < kTokens; ++t)
    store(a, tile, first + t, vmulq_f32(scale[0], vcvtq_f32_s32(sum[t][0])),
          vmulq_f32(scale[1], vcvtq_f32_s32(sum[t][1])));
}

// int4 with one token. Doubled activations and the starts of sums are laid out once for a batch of tiles: they then
// cost loads only, and the vector units are what limits this loop.
struct PreparedGroup {
  int8x16_t x[4];      // columns 0..7 twice, 8..15 twice, ...
  int32x4_t start[4];  // of the sums [row 2i, row 2i, row 2i+1, row 2i+1], one each: a load is cheaper than a copy
};

void prepare(const int8_t* x, const int32_t* starts, int groups, PreparedGroup* out) {
  for (int g = 0; g < groups; ++g, x += kGroupCols) {
    for (int i = 0; i < 4; ++i) out[g].x[i] = load_twice(x + 8 * i);
    for (int i = 0; i < 4; ++i) out[g].start[i] = int32x4_t{shifted_start(starts[g]), 0, shifted_start(starts[g]), 0};
  }
}

void int4_segment(const uint8_t* w, const uint8_t* scales, const PreparedGroup* x, int groups, float32x4_t* total) {
  float32x4_t low = total[0], high = total[1];
  const uint8x16_t nibble = vdupq_n_u8(15);
  for (int g = 0; g < groups; ++g, w += 128, scales += 16) {
    prefetch<128>(w);
    int32x4_t sum[4];
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t w0 = vld1q_u8(w + 16 * i), w1 = vld1q_u8(w + 64 + 16 * i);
      sum[i] = vdotq_s32(x[g].start[i], vreinterpretq_s8_u8(vandq_u8(w0, nibble)), x[g].x[0]);
      sum[i] = vdotq_s32(sum[i], vreinterpretq_s8_u8(vandq_u8(w1, nibble)), x[g].x[1]);
      sum[i] = vdotq_s32(sum[i], vreinterpretq_s8_u8(vshrq_n_u8(w0, 4)), x[g].x[2]);
      sum[i] = vdotq_s32(sum[i], vreinterpretq_s8_u8(vshrq_n_u8(w1, 4)), x[g].x[3]);
    }
    float32x4_t scale[2];
    load_scales(scales, scale);
    low = vfmaq_f32(low, scale[0], shifted_to_float(vpaddq_s32(sum[0], sum[1])));
    high = vfmaq_f32(high, scale[1], shifted_to_float(vpaddq_s32(sum[2], sum[3])));
  }
  total[0] = low;
  total[1] = high;
}

// A group of int4 columns with up to four tokens, whose sums advance together: processors that run in order would
// wait for each addition of a single one.
template <int kTokens>
inline void int4_group(const int8x16_t* low, const int8x16_t* high, const int8_t* const* x, int first_col,
                       const int32x4_t* start, float32x4_t scale, float32x4_t* sum) {
  int8x16_t columns[kTokens];
  int32x4_t dot[kTokens];
  for (int t = 0; t < kTokens; ++t) columns[t] = vld1q_s8(x[t] + first_col), dot[t] = start[t];
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], low[0], columns[t], 0);
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], low[1], columns[t], 1);
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], low[2], columns[t], 2);
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], low[3], columns[t], 3);
  for (int t = 0; t < kTokens; ++t) columns[t] = vld1q_s8(x[t] + first_col + 16);
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], high[0], columns[t], 0);
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], high[1], columns[t], 1);
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], high[2], columns[t], 2);
  for (int t = 0; t < kTokens; ++t) dot[t] = vdotq_laneq_s32(dot[t], high[3], columns[t], 3);
  for (int t = 0; t < kTokens; ++t) sum[t] = vfmaq_f32(sum[t], scale, shifted_to_float(dot[t]));
}

// int4 with several tokens: the packed bytes are unzipped, then spread. Four rows at a time, so that nothing leaves the
// registers; the second time the weights come from the first cache.
template <int kTokens>
void int4_segment(const uint8_t* w, const uint8_t* scales, const int8_t* const* rows, const int32x4_t* start,
                  int groups, float32x4_t (*total)[2]) {
  const uint8x16_t nibble = vdupq_n_u8(15);
  for (int half = 0; half < 2; ++half, w += 32, scales += 8) {
    const int8_t* x[kTokens];
    float32x4_t sum[kTokens];
    for (int t = 0; t < kTokens; ++t) x[t] = rows[t], sum[t] = total[t][half];
    for (int g = 0; g < groups; ++g) {
      prefetch<128>(w + 128 * g);
      int8x16_t low[4], high[4];  // columns 0..3, 4..7, 8..11, 12..15 and 16 more
      for (int h = 0; h < 2; ++h) {
        const int8x16_t w0 = load(w + 128 * g + 64 * h), w1 = load(w + 128 * g + 64 * h + 16);
        const int8x16_t columns[2] = {first_columns(w0, w1), last_columns(w0, w1)};
        for (int i = 0; i < 2; ++i) {
          low[2 * h + i] = vandq_s8(columns[i], vreinterpretq_s8_u8(nibble));
          high[2 * h + i] = vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(columns[i]), 4));
        }
      }
      const float32x4_t scale = load_4_scales(scales + 16 * g);
      constexpr int kFirst = kTokens < 4 ? kTokens : 4, kRest = kTokens - kFirst;
      int4_group<kFirst>(low, high, x, g * kGroupCols, start + g * kTokens, scale, sum);
      if constexpr (kRest > 2)  // a compiler would mix the two parts, and registers would not do
        for (int t = 0; t < kFirst; ++t) asm volatile("" : "+w"(sum[t]) : : "memory");
      if constexpr (kRest > 0)
        int4_group<kRest>(low, high, x + kFirst, g * kGroupCols, start + g * kTokens + kFirst, scale, sum + kFirst);
    }
    for (int t = 0; t < kTokens; ++t) total[t][half] = sum[t];
  }
}

template <int kTokens>
void int4_tokens(const TileArgs& a, int token, int groups) {
  std::conditional_t<kTokens == 1, PreparedGroup[kSegmentGroups], int32x4_t[kSegmentGroups * kTokens]> prepared;
  for (int tile = 0; tile < a.tile_count; tile += kTileBatch) {
    const int tiles = a.tile_count - tile < kTileBatch ? a.tile_count - tile : kTileBatch;
    float32x4_t total[kTileBatch][kTokens][2] = {};
    for (int first = 0; first < groups; first += kSegmentGroups) {
      const int n = groups - first < kSegmentGroups ? groups - first : kSegmentGroups;
      const int8_t* x[kTokens];
      for (int t = 0; t < kTokens; ++t) x[t] = static_cast<const int8_t*>(a.x[token + t]) + first * kGroupCols;
      if constexpr (kTokens == 1)
        prepare(x[0], a.starts[token] + first, n, prepared);
      else
        for (int g = 0; g < n; ++g)
          for (int t = 0; t < kTokens; ++t)
            prepared[g * kTokens + t] = vdupq_n_s32(shifted_start(a.starts[token + t][first + g]));
      for (int i = 0; i < tiles; ++i) {
        const uint8_t* w = a.tiles + a.tile_bytes * (tile + i);
        const uint8_t* scales = w + static_cast<size_t>(groups) * 128 + static_cast<size_t>(first) * 16;
        w += static_cast<size_t>(first) * 128;
        if constexpr (kTokens == 1)
          int4_segment(w, scales, prepared, n, total[i][0]);
        else
          int4_segment<kTokens>(w, scales, x, prepared, n, total[i]);
      }
    }
    for (int i = 0; i < tiles; ++i)
      for (int t = 0; t < kTokens; ++t) store(a, tile + i, token + t, total[i][t][0], total[i][t][1]);
  }
}

}  // namespace

void tiles_int8_dotprod(const TileArgs& a) {
  const int cols = static_cast<int>(padded_cols(Quant::kInt8, a.cols));
  for (int tile = 0; tile < a.tile_count; ++tile)
    for (int t = 0; t < a.tokens; t += kTokenBlock)
      dispatch(a.tokens - t, [&](auto count) {
        if constexpr (count == 1)
          int8_one_token(a, tile, t, cols);
        else
          int8_tokens<count>(a, tile, t, cols);
      });
}

void tiles_int4_dotprod(const TileArgs& a) {
  const int groups = static_cast<int>(padded_cols(Quant::kInt4, a.cols)) / kGroupCols;
  for (int t = 0; t < a.tokens; t += kTokenBlock)
    dispatch(a.tokens - t, [&](auto count) { int4_tokens<count>(a, t, groups); });
}

}  // namespace arm

const Kernels kDotprodKernels = {"dotprod",
                                 arm::tiles_fp32,
                                 arm::tiles_int8_dotprod,
                                 arm::tiles_int4_dotprod,
                                 arm::quantize_row,
                                 arm::axpy,
                                 arm::scale,
                                 arm::silu,
                                 arm::dots,
                                 arm::softmax,
                                 arm::weighted_sum};

}  // namespace blockffn

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
