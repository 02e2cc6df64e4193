// ARMv8.0 (Cortex-A53, A57, A72, A73): what every 64-bit ARM processor has. fp32 and the vector functions
// here serve the later instruction sets too.
#if defined(__aarch64__)

#include <cmath>
#include <initializer_list>

#include "arm.h"

namespace blockffn {
namespace arm {
namespace {

inline int8x16_t load(const uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
inline int8x16_t load_twice(const int8_t* p) {
  int8x16_t v = vreinterpretq_s8_s64(vld1q_dup_s64(reinterpret_cast<const int64_t*>(p)));
  asm("" : "+w"(v));  // clang must not see that the halves are equal: it would give up smull2 for ext and smull
  return v;
}

template <int kColumn, int kTokens>
inline void add_column(const float* w, const float32x4_t* columns, float32x4_t (*sum)[2]) {
  const float32x4_t low = vld1q_f32(w + 8 * kColumn), high = vld1q_f32(w + 8 * kColumn + 4);
  for (int t = 0; t < kTokens; ++t) {
    sum[t][0] = vfmaq_laneq_f32(sum[t][0], low, columns[t], kColumn);
    sum[t][1] = vfmaq_laneq_f32(sum[t][1], high, columns[t], kColumn);
  }
}

// Columns [0, cols), a multiple of 4.
template <int kTokens, int kTiles>
void fp32_columns(const float* const* rows, const float* const* x, int cols, float32x4_t (*memory)[kTokens][2]) {
  float32x4_t sum[kTiles][kTokens][2] = {};
  for (int k = 0; k < cols; k += 4) {
    float32x4_t columns[kTokens];
    for (int t = 0; t < kTokens; ++t) columns[t] = vld1q_f32(x[t] + k);
    for (int i = 0; i < kTiles; ++i) {
      add_column<0, kTokens>(rows[i] + 8 * k, columns, sum[i]);
      add_column<1, kTokens>(rows[i] + 8 * k, columns, sum[i]);
      add_column<2, kTokens>(rows[i] + 8 * k, columns, sum[i]);
      add_column<3, kTokens>(rows[i] + 8 * k, columns, sum[i]);
    }
  }
  std::memcpy(memory, sum, sizeof sum);
}

// kTokens tokens times kTiles tiles: enough independent sums to hide the latency of an addition. Every
// sum runs over the columns in ascending order, whatever the block.
template <int kTokens, int kTiles>
void fp32_block(const TileArgs& a, int tile, int first) {
  const float* w[kTiles];
  const float* x[kTokens];
  for (int i = 0; i < kTiles; ++i) w[i] = reinterpret_cast<const float*>(a.tiles + a.tile_bytes * (tile + i));
  for (int t = 0; t < kTokens; ++t) x[t] = static_cast<const float*>(a.x[first + t]);
  float32x4_t sum[kTiles][kTokens][2];
  int k = a.cols / 4 * 4;
  fp32_columns<kTokens, kTiles>(w, x, k, sum);
  for (; k < a.cols; ++k)
    for (int i = 0; i < kTiles; ++i) {
      const float32x4_t low = vld1q_f32(w[i] + 8 * k), high = vld1q_f32(w[i] + 8 * k + 4);
      for (int t = 0; t < kTokens; ++t) {
        sum[i][t][0] = vfmaq_n_f32(sum[i][t][0], low, x[t][k]);
        sum[i][t][1] = vfmaq_n_f32(sum[i][t][1], high, x[t][k]);
      }
    }
  for (int i = 0; i < kTiles; ++i)
    for (int t = 0; t < kTokens; ++t) store(a, tile + i, first + t, sum[i][t][0], sum[i][t][1]);
}

// Products of two columns fit 16 bits together (2 * 128 * 127), and are added to 32-bit sums in pairs.
template <int kTokens>
void int8_block(const TileArgs& a, int tile, int first, int cols) {
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  const int8_t* x[kTokens];
  for (int t = 0; t < kTokens; ++t) x[t] = static_cast<const int8_t*>(a.x[first + t]);
  int32x4_t sum[kTokens][kTileRows] = {};
  int k = 0;
  for (; k + 16 <= cols; k += 16, w += 128) {
    prefetch<128>(w);
    int8x16_t x0[kTokens], x1[kTokens];
    for (int t = 0; t < kTokens; ++t) x0[t] = load_twice(x[t] + k), x1[t] = load_twice(x[t] + k + 8);
    for (int i = 0; i < 4; ++i) {
      const int8x16_t w0 = load(w + 16 * i), w1 = load(w + 64 + 16 * i);
      for (int t = 0; t < kTokens; ++t) {
        const int16x8_t even =
            vmlal_s8(vmull_s8(vget_low_s8(w0), vget_low_s8(x0[t])), vget_low_s8(w1), vget_low_s8(x1[t]));
        const int16x8_t odd = vmlal_high_s8(vmull_high_s8(w0, x0[t]), w1, x1[t]);
        sum[t][2 * i] = vpadalq_s16(sum[t][2 * i], even);
        sum[t][2 * i + 1] = vpadalq_s16(sum[t][2 * i + 1], odd);
      }
    }
  }
  if (k < cols) {
    for (int i = 0; i < 4; ++i) {
      const int8x16_t w0 = load(w + 16 * i);
      for (int t = 0; t < kTokens; ++t) {
        const int8x16_t x0 = load_twice(x[t] + k);
        sum[t][2 * i] = vpadalq_s16(sum[t][2 * i], vmull_s8(vget_low_s8(w0), vget_low_s8(x0)));
        sum[t][2 * i + 1] = vpadalq_s16(sum[t][2 * i + 1], vmull_high_s8(w0, x0));
      }
    }
    w += 64;
  }
  float32x4_t scale[2];
  load_scales(w, scale);
  for (int t = 0; t < kTokens; ++t) {
    float32x4_t value[2];
    for (int h = 0; h < 2; ++h) {
      const int32x4_t* s = sum[t] + 4 * h;
      value[h] = vmulq_f32(scale[h], vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]))));
    }
    store(a, tile, first + t, value[0], value[1]);
  }
}

// A group's products are added in 16 bits: values 0..15 times -127..127, at most 16 of them in one lane.
template <int kTokens>
void int4_block(const TileArgs& a, int tile, int first, int groups) {
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  const uint8_t* scales = w + static_cast<size_t>(groups) * 128;
  const uint8x16_t nibble = vdupq_n_u8(15);
  float32x4_t total[kTokens][2] = {};
  for (int g = 0; g < groups; ++g, w += 128, scales += 16) {
    prefetch<128>(w);
    int8x16_t x[kTokens][4];
    for (int t = 0; t < kTokens; ++t)
      for (int i = 0; i < 4; ++i)
        x[t][i] = load_twice(static_cast<const int8_t*>(a.x[first + t]) + g * kGroupCols + 8 * i);
    int16x8_t pair[kTokens][4];  // of rows: four partial sums of each
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t w0 = vld1q_u8(w + 16 * i), w1 = vld1q_u8(w + 64 + 16 * i);
      const int8x16_t value[4] = {vreinterpretq_s8_u8(vandq_u8(w0, nibble)), vreinterpretq_s8_u8(vandq_u8(w1, nibble)),
                                  vreinterpretq_s8_u8(vshrq_n_u8(w0, 4)), vreinterpretq_s8_u8(vshrq_n_u8(w1, 4))};
      for (int t = 0; t < kTokens; ++t) {
        int16x8_t even = vmull_s8(vget_low_s8(value[0]), vget_low_s8(x[t][0]));
        int16x8_t odd = vmull_high_s8(value[0], x[t][0]);
        for (int j = 1; j < 4; ++j) {
          even = vmlal_s8(even, vget_low_s8(value[j]), vget_low_s8(x[t][j]));
          odd = vmlal_high_s8(odd, value[j], x[t][j]);
        }
        pair[t][i] = vpaddq_s16(even, odd);
      }
    }
    float32x4_t scale[2];
    load_scales(scales, scale);
    for (int t = 0; t < kTokens; ++t) {
      const int32x4_t start = vdupq_n_s32(shifted_start(a.starts[first + t][g]));
      for (int h = 0; h < 2; ++h) {
        const int32x4_t dot = vpadalq_s16(start, vpaddq_s16(pair[t][2 * h], pair[t][2 * h + 1]));
        total[t][h] = vfmaq_f32(total[t][h], scale[h], shifted_to_float(dot));
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) store(a, tile, first + t, total[t][0], total[t][1]);
}

void tiles_int8(const TileArgs& a) {
  const int cols = static_cast<int>(padded_cols(Quant::kInt8, a.cols));
  for (int tile = 0; tile < a.tile_count; ++tile)
    for (int t = 0; t < a.tokens; t += 2)
      dispatch<2>(a.tokens - t, [&](auto count) { int8_block<count>(a, tile, t, cols); });
}

void tiles_int4(const TileArgs& a) {
  const int groups = static_cast<int>(padded_cols(Quant::kInt4, a.cols)) / kGroupCols;
  for (int tile = 0; tile < a.tile_count; ++tile)
    for (int t = 0; t < a.tokens; t += 2)
      dispatch<2>(a.tokens - t, [&](auto count) { int4_block<count>(a, tile, t, groups); });
}

inline float32x4_t times_power_of_two(float32x4_t x, int32x4_t n) {  // n in [-126, 0]
  return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)));
}

// exp(z) * factor for z <= 0, as p * 2^n with n in [-151, 0]: p = exp(r), |r| <= ln(2)/2, is its series to the 7th
// power, off by less than 2^-24 of p before the roundings. ln(2) comes in two pieces, the first of which is exact times
// n. The power of two is applied in halves: results down to the smallest subnormal are right. Keeps NaN.
struct Exponential {
  float32x4_t p;
  int32x4_t half, rest;
  explicit Exponential(float32x4_t z) {
    const float32x4_t n = vrndnq_f32(vmulq_n_f32(z, 1.44269504f));
    float32x4_t r = vfmaq_f32(z, n, vdupq_n_f32(-0.693359375f));
    r = vfmaq_f32(r, n, vdupq_n_f32(2.12194440e-4f));
    p = vdupq_n_f32(1.0f / 5040);
    for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
      p = vfmaq_f32(vdupq_n_f32(c), p, r);
    const int32x4_t power = vcvtq_s32_f32(n);
    half = vshrq_n_s32(power, 1);
    rest = vsubq_s32(power, half);
  }
  float32x4_t scaled(float32x4_t v) const { return times_power_of_two(times_power_of_two(v, half), rest); }
};
inline float32x4_t at_least_smallest_exponent(float32x4_t z) { return vmaxq_f32(z, vdupq_n_f32(-104.0f)); }

// With z = -|x| and e = exp(z): x / (1 + e), or z e / (1 + e) where x < 0, so that nothing overflows. Relative error
// < 4 * 2^-24; infinities give NaN.
inline float32x4_t silu(float32x4_t x) {
  const float32x4_t z = at_least_smallest_exponent(vnegq_f32(vabsq_f32(x)));
  const Exponential e(z);
  const float32x4_t one = vaddq_f32(vdupq_n_f32(1.0f), vsubq_f32(x, x));  // NaN if x is infinite
  const float32x4_t numerator = vbslq_f32(vcltzq_f32(x), e.scaled(vmulq_f32(z, e.p)), x);
  return vdivq_f32(numerator, vaddq_f32(one, e.scaled(e.p)));
}

// Applies f to x[0..n) by fours. The rest goes through the same instructions: where a token's values end must not
// change them.
template <class F>
inline void for_fours(float* x, int n, const F& f) {
  int i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(x + i, f(vld1q_f32(x + i)));
  if (i == n) return;
  float rest[4] = {};
  std::memcpy(rest, x + i, sizeof(float) * (n - i));
  vst1q_f32(rest, f(vld1q_f32(rest)));
  std::memcpy(x + i, rest, sizeof(float) * (n - i));
}

// kQueries queries with kKeys keys: enough sums at once that they do not wait for each other, and few enough for the
// registers.
template <int kQueries, int kKeys>
inline void dot_block(const float* const* queries, const float* const* keys, int n, float* scores) {
  float32x4_t sum[kQueries][kKeys][2] = {};
  int i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 2; ++j) {
      float32x4_t query[kQueries];
      for (int q = 0; q < kQueries; ++q) query[q] = vld1q_f32(queries[q] + i + 4 * j);
      for (int r = 0; r < kKeys; ++r) {
        const float32x4_t key = vld1q_f32(keys[r] + i + 4 * j);
        for (int q = 0; q < kQueries; ++q) sum[q][r][j] = vfmaq_f32(sum[q][r][j], query[q], key);
      }
    }
  for (int q = 0; q < kQueries; ++q)
    for (int r = 0; r < kKeys; ++r) {
      float rest = 0;
      for (int k = i; k < n; ++k) rest = std::fma(queries[q][k], keys[r][k], rest);
      scores[q * kKeyBlock + r] = vaddvq_f32(vaddq_f32(sum[q][r][0], sum[q][r][1])) + rest;
    }
}

// kVectors vectors of y stay in registers while all rows are added to them.
template <int kVectors>
inline void add_rows(const float* weights, const float* const* rows, int count, float* y, int first) {
  float32x4_t sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = vld1q_f32(y + first + 4 * v);
  for (int r = 0; r < count; ++r)
    for (int v = 0; v < kVectors; ++v) sum[v] = vfmaq_n_f32(sum[v], vld1q_f32(rows[r] + first + 4 * v), weights[r]);
  for (int v = 0; v < kVectors; ++v) vst1q_f32(y + first + 4 * v, sum[v]);
}

}  // namespace

void tiles_fp32(const TileArgs& a) {
  int tile = 0;
  if (a.tokens == 1)
    for (; tile + 4 <= a.tile_count; tile += 4) fp32_block<1, 4>(a, tile, 0);
  for (; tile < a.tile_count; ++tile)
    for (int t = 0; t < a.tokens; t += kTokenBlock)
      dispatch(a.tokens - t, [&](auto count) { fp32_block<count, 1>(a, tile, t); });
}

void quantize_row(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts) {
  const auto magnitude = [](float32x4_t v) { return vreinterpretq_s32_f32(vabsq_f32(v)); };
  int32x4_t largest[4] = {};  // magnitudes order like their bit patterns, with infinity and NaN last
  int k = 0;
  for (; k + 16 <= cols; k += 16)
    for (int i = 0; i < 4; ++i) largest[i] = vmaxq_s32(largest[i], magnitude(vld1q_f32(x + k + 4 * i)));
  for (; k < cols; ++k) largest[0] = vmaxq_s32(largest[0], magnitude(vdupq_n_f32(x[k])));
  const int32_t peak_bits = vmaxvq_s32(vmaxq_s32(vmaxq_s32(largest[0], largest[1]), vmaxq_s32(largest[2], largest[3])));
  float inverse;
  if (!begin_row(peak_bits, padded, q, scale, starts, &inverse)) return;
  for (k = 0; k + 8 <= cols; k += 8) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + k), inverse)),
                    high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + k + 4), inverse));
    vst1_s8(q + k, vmovn_s16(vcombine_s16(vmovn_s32(low), vmovn_s32(high))));
  }
  for (; k < cols; ++k) q[k] = static_cast<int8_t>(vcvtns_s32_f32(x[k] * inverse));
  for (; k < padded; ++k) q[k] = 0;
  if (starts == nullptr) return;
  for (int g = 0; g < padded / kGroupCols; ++g)
    starts[g] = -8 * vaddlvq_s16(vaddq_s16(vpaddlq_s8(vld1q_s8(q + g * kGroupCols)),
                                           vpaddlq_s8(vld1q_s8(q + g * kGroupCols + 16))));
}

void dots(const float* const* queries, int query_count, const float* const* keys, int count, int n, float* scores) {
  for (int q = 0; q < query_count; q += 2) {
    const bool two = q + 2 <= query_count;
    float* to = scores + q * kKeyBlock;
    int i = 0;
    for (; i + 4 <= count; i += 4)
      two ? dot_block<2, 4>(queries + q, keys + i, n, to + i) : dot_block<1, 4>(queries + q, keys + i, n, to + i);
    for (; i < count; ++i)
      two ? dot_block<2, 1>(queries + q, keys + i, n, to + i) : dot_block<1, 1>(queries + q, keys + i, n, to + i);
  }
}

void weighted_sum(const float* weights, const float* const* rows, int count, float* y, int n) {
  int i = 0;
  for (; i + 64 <= n; i += 64) add_rows<16>(weights, rows, count, y, i);
  for (; i + 4 <= n; i += 4) add_rows<1>(weights, rows, count, y, i);
  for (; i < n; ++i)
    for (int r = 0; r < count; ++r) y[i] = std::fma(rows[r][i], weights[r], y[i]);
}

void axpy(float a, const float* x, float* y, int n) {
  int i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(y + i, vfmaq_n_f32(vld1q_f32(y + i), vld1q_f32(x + i), a));
  for (; i < n; ++i) y[i] = std::fma(x[i], a, y[i]);
}

void scale(float a, float* y, int n) {
  int i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(y + i, vmulq_n_f32(vld1q_f32(y + i), a));
  for (; i < n; ++i) y[i] *= a;
}

void silu(float* x, int n) {
  for_fours(x, n, [](float32x4_t v) { return silu(v); });
}

float softmax(float* scores, int count, float scale, float* max, float* sum) {
  float block[kKeyBlock];
  std::memcpy(block, scores, sizeof(float) * count);
  for (int i = count; i < kKeyBlock; ++i) block[i] = -INFINITY;
  float32x4_t s[4], peaks = vdupq_n_f32(-INFINITY);
  for (int j = 0; j < 4; ++j) {
    s[j] = vmulq_n_f32(vld1q_f32(block + 4 * j), scale);
    peaks = vmaxnmq_f32(peaks, s[j]);  // passes over NaN, which spoils the sum below
  }
  const float peak = vmaxnmvq_f32(peaks);
  const float shrink = raise_max(peak, max);
  for (int j = 0; j < 4; ++j) {
    const Exponential e(at_least_smallest_exponent(vsubq_f32(s[j], vdupq_n_f32(*max))));
    s[j] = e.scaled(e.p);
    vst1q_f32(block + 4 * j, s[j]);
  }
  std::memcpy(scores, block, sizeof(float) * count);
  *sum = *sum * shrink + vaddvq_f32(vaddq_f32(vaddq_f32(s[0], s[1]), vaddq_f32(s[2], s[3])));
  return shrink;
}

}  // namespace arm

const Kernels kNeonKernels = {"neon",           arm::tiles_fp32, arm::tiles_int8, arm::tiles_int4, arm::quantize_row,
                              arm::axpy,        arm::scale,      arm::silu,       arm::dots,       arm::softmax,
                              arm::weighted_sum};

}  // namespace blockffn
#endif
