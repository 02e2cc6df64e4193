// ARMv8.6 with SMMLA (Cortex-A510, A710, X2 and later; Apple M2 and later): one instruction multiplies 8 columns of
// 2 rows with 8 activations of 2 tokens.
//
// The activations of a block of tokens are laid out in pairs once for a batch of tiles. An odd last token is
// paired with itself; a token alone goes to the dot-product kernels, which give the same bits.
#if defined(__aarch64__)

#include "arm.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("i8mm"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+i8mm")  // to the end of the file: templates are instantiated there
#endif

namespace blockffn {
namespace arm {
namespace {

inline int8x16_t load(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }

// [columns / 8][pairs]: 8 columns of a pair's first token, then of its second.
template <int kTokens>
void prepare(const void* const* x, int first_col, int cols, int8x16_t* out) {
  for (int k = first_col; k < first_col + cols; k += 8)
    for (int t = 0; t < kTokens; t += 2) {
      const int other = t + 1 < kTokens ? t + 1 : t;
      *out++ =
          vcombine_s8(vld1_s8(static_cast<const int8_t*>(x[t]) + k), vld1_s8(static_cast<const int8_t*>(x[other]) + k));
    }
}

// Sums of a pair come as [row 2i token 0, row 2i token 1, row 2i+1 token 0, row 2i+1 token 1].
template <int kTokens>
void store_pairs(const TileArgs& a, int tile, int first, const float32x4_t (*total)[4]) {
  for (int t = 0; t < kTokens; ++t) {
    const float32x4_t* v = total[t / 2];
    if (t % 2 == 0)
      store(a, tile, first + t, vuzp1q_f32(v[0], v[1]), vuzp1q_f32(v[2], v[3]));
    else
      store(a, tile, first + t, vuzp2q_f32(v[0], v[1]), vuzp2q_f32(v[2], v[3]));
  }
}

template <int kPairs>
void int8_segment(const uint8_t* w, const int8x16_t* x, int blocks, int32x4_t (*memory)[4]) {
  int32x4_t sum[kPairs][4];
  std::memcpy(sum, memory, sizeof sum);
  for (int b = 0; b < blocks; ++b, w += 64, x += kPairs) {
    prefetch<64>(w);
    const int8x16_t rows[4] = {load(w), load(w + 16), load(w + 32), load(w + 48)};
    for (int p = 0; p < kPairs; ++p)
      for (int i = 0; i < 4; ++i) sum[p][i] = vmmlaq_s32(sum[p][i], rows[i], x[p]);
  }
  std::memcpy(memory, sum, sizeof sum);
}

template <int kTokens>
void int8_tokens(const TileArgs& a, int first, int cols) {
  constexpr int kPairs = (kTokens + 1) / 2;
  int8x16_t x[kSegmentCols / 8 * kPairs];
  for (int tile = 0; tile < a.tile_count; tile += kTileBatch) {
    const int tiles = a.tile_count - tile < kTileBatch ? a.tile_count - tile : kTileBatch;
    int32x4_t sum[kTileBatch][kPairs][4] = {};
    for (int k = 0; k < cols; k += kSegmentCols) {
      const int n = cols - k < kSegmentCols ? cols - k : kSegmentCols;
      prepare<kTokens>(a.x + first, k, n, x);
      for (int i = 0; i < tiles; ++i)
        int8_segment<kPairs>(a.tiles + a.tile_bytes * (tile + i) + static_cast<size_t>(k) * kTileRows, x, n / 8,
                             sum[i]);
    }
    for (int i = 0; i < tiles; ++i) {
      float32x4_t scale[2], total[kPairs][4];
      load_scales(a.tiles + a.tile_bytes * (tile + i) + static_cast<size_t>(cols) * kTileRows, scale);
      for (int p = 0; p < kPairs; ++p)
        for (int h = 0; h < 2; ++h) {
          const float32x4_t low = vzip1q_f32(scale[h], scale[h]), high = vzip2q_f32(scale[h], scale[h]);
          total[p][2 * h] = vmulq_f32(low, vcvtq_f32_s32(sum[i][p][2 * h]));
          total[p][2 * h + 1] = vmulq_f32(high, vcvtq_f32_s32(sum[i][p][2 * h + 1]));
        }
      store_pairs<kTokens>(a, tile + i, first, total);
    }
  }
}

// Four rows at a time, so that nothing leaves the registers; the second time the weights come from the first cache.
template <int kPairs>
void int4_segment(const uint8_t* w, const uint8_t* scales, const int8x16_t* x, const int32x4_t* start, int groups,
                  float32x4_t (*total)[4]) {
  const uint8x16_t nibble = vdupq_n_u8(15);
  for (int half = 0; half < 2; ++half, w += 32, scales += 8) {
    float32x4_t sum[kPairs][2];
    for (int p = 0; p < kPairs; ++p) sum[p][0] = total[p][2 * half], sum[p][1] = total[p][2 * half + 1];
    for (int g = 0; g < groups; ++g) {
      prefetch<128>(w + 128 * g);
      const float32x4_t once = load_4_scales(scales + 16 * g);
      const float32x4_t scale[2] = {vzip1q_f32(once, once), vzip2q_f32(once, once)};  // for the two tokens of a pair
      for (int i = 0; i < 2; ++i) {
        const uint8x16_t w0 = vld1q_u8(w + 128 * g + 16 * i), w1 = vld1q_u8(w + 128 * g + 64 + 16 * i);
        const int8x16_t columns[4] = {vreinterpretq_s8_u8(vandq_u8(w0, nibble)),
                                      vreinterpretq_s8_u8(vandq_u8(w1, nibble)), vreinterpretq_s8_u8(vshrq_n_u8(w0, 4)),
                                      vreinterpretq_s8_u8(vshrq_n_u8(w1, 4))};
        int32x4_t dot[kPairs];
        for (int p = 0; p < kPairs; ++p) dot[p] = start[g * kPairs + p];
        for (int j = 0; j < 4; ++j)
          for (int p = 0; p < kPairs; ++p) dot[p] = vmmlaq_s32(dot[p], columns[j], x[(g * 4 + j) * kPairs + p]);
        for (int p = 0; p < kPairs; ++p) sum[p][i] = vfmaq_f32(sum[p][i], scale[i], shifted_to_float(dot[p]));
      }
    }
    for (int p = 0; p < kPairs; ++p) total[p][2 * half] = sum[p][0], total[p][2 * half + 1] = sum[p][1];
  }
}

template <int kTokens>
void int4_tokens(const TileArgs& a, int first, int cols) {
  constexpr int kPairs = (kTokens + 1) / 2;
  int8x16_t x[kSegmentCols / 8 * kPairs];
  int32x4_t start[kSegmentGroups * kPairs];
  for (int tile = 0; tile < a.tile_count; tile += kTileBatch) {
    const int tiles = a.tile_count - tile < kTileBatch ? a.tile_count - tile : kTileBatch;
    float32x4_t total[kTileBatch][kPairs][4] = {};
    for (int k = 0; k < cols; k += kSegmentCols) {
      const int n = cols - k < kSegmentCols ? cols - k : kSegmentCols;
      prepare<kTokens>(a.x + first, k, n, x);
      for (int g = 0; g < n / kGroupCols; ++g)
        for (int t = 0; t < kTokens; t += 2) {
          const int other = t + 1 < kTokens ? t + 1 : t, group = k / kGroupCols + g;
          const int32_t s0 = shifted_start(a.starts[first + t][group]),
                        s1 = shifted_start(a.starts[first + other][group]);
          start[g * kPairs + t / 2] = int32x4_t{s0, s1, s0, s1};
        }
      for (int i = 0; i < tiles; ++i) {
        const uint8_t* w = a.tiles + a.tile_bytes * (tile + i);
        const uint8_t* scales = w + static_cast<size_t>(cols) * kTileRows / 2;
        int4_segment<kPairs>(w + static_cast<size_t>(k) * kTileRows / 2, scales + k / kGroupCols * kTileRows * 2, x,
                             start, n / kGroupCols, total[i]);
      }
    }
    for (int i = 0; i < tiles; ++i) store_pairs<kTokens>(a, tile + i, first, total[i]);
  }
}

// Blocks of up to 8 tokens; a last block of one goes to `alone`.
template <class Block>
void for_token_blocks(const TileArgs& a, void (*alone)(const TileArgs&), const Block& block) {
  for (int t = 0; t < a.tokens; t += kTokenBlock)
    dispatch(a.tokens - t, [&](auto count) {
      if constexpr (count > 1) {
        block(t, count);
      } else {
        TileArgs last = a;
        last.tokens = 1;
        last.x += t;
        last.starts += t;
        last.factor += t;
        last.y += t;
        alone(last);
      }
    });
}

void tiles_int8(const TileArgs& a) {
  const int cols = static_cast<int>(padded_cols(Quant::kInt8, a.cols));
  for_token_blocks(a, tiles_int8_dotprod, [&](int t, auto count) { int8_tokens<count>(a, t, cols); });
}

void tiles_int4(const TileArgs& a) {
  const int cols = static_cast<int>(padded_cols(Quant::kInt4, a.cols));
  for_token_blocks(a, tiles_int4_dotprod, [&](int t, auto count) { int4_tokens<count>(a, t, cols); });
}

}  // namespace
}  // namespace arm

const Kernels kI8mmKernels = {"i8mm",           arm::tiles_fp32, arm::tiles_int8, arm::tiles_int4, arm::quantize_row,
                              arm::axpy,        arm::scale,      arm::silu,       arm::dots,       arm::softmax,
                              arm::weighted_sum};

}  // namespace blockffn

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
