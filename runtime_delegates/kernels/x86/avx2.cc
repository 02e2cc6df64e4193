// AVX2 micro-kernels, with FMA and F16C. A 64-byte block of a tile is two registers of 4 rows by 8
// columns; lanes 2r and 2r+1 of a register hold its row r.
#if defined(__x86_64__)
#include "avx2.h"

#include <immintrin.h>

#define KERNEL __attribute__((target("avx2,fma,f16c")))
#define INLINE KERNEL inline __attribute__((always_inline))

namespace blockffn {
namespace {

constexpr int kTokenBlock = 4;  // tokens multiplied with a weight that was loaded once

INLINE __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

INLINE __m256i broadcast8(const void* x, int offset) {
  int64_t v;
  std::memcpy(&v, static_cast<const uint8_t*>(x) + offset, sizeof v);
  return _mm256_set1_epi64x(v);
}

INLINE __m256 halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

INLINE void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1); }

// All ones in the first n of 8 lanes.
INLINE __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE void store(const TileArgs& a, int tile, int token, __m256 rows) {
  float* y = a.y[token] + tile * kTileRows;
  const int left = a.rows - tile * kTileRows;
  __m256 v = _mm256_mul_ps(_mm256_set1_ps(a.factor[token]), rows);
  if (left >= kTileRows) {
    if (a.accumulate) v = _mm256_add_ps(_mm256_loadu_ps(y), v);
    _mm256_storeu_ps(y, v);
  } else {
    const __m256i valid = first_lanes(left);
    if (a.accumulate) v = _mm256_add_ps(_mm256_maskload_ps(y, valid), v);
    _mm256_maskstore_ps(y, valid, v);
  }
}

template <int kTokens, int kTiles>
KERNEL void fp32_block(const TileArgs& a, int tile, int token, const uint8_t* ahead) {
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  const float* x[kTokens];
  __m256 sum[kTokens][kTiles];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    x[t] = static_cast<const float*>(a.x[token + t]);
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm256_setzero_ps();
  }
  for (int k = 0; k < a.cols; ++k) {
    __m256 column[kTiles];
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) {
      column[n] = _mm256_loadu_ps(reinterpret_cast<const float*>(w + a.tile_bytes * n) + k * kTileRows);
      if (kTokens == 1 || k % 2 == 0) prefetch(ahead + a.tile_bytes * n + static_cast<size_t>(k) * 32);
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm256_fmadd_ps(column[n], _mm256_set1_ps(x[t][k]), sum[t][n]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) store(a, tile + n, token + t, sum[t][n]);
}

// One register of 8 row pairs of lanes from the registers of rows 0..3 and 4..7.
INLINE __m256i rows_of(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
}

// |weight| * (x with the weight's sign) = weight * x. The magnitudes are at most 128 and 127, so that
// two products fit into 16 bits.
template <int kTokens, int kTiles>
KERNEL void int8_block(const TileArgs& a, int tile, int token, const uint8_t* ahead) {
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  const int blocks = static_cast<int>(padded_cols(Quant::kInt8, a.cols)) / 8;
  const __m256i ones = _mm256_set1_epi16(1);
  const void* x[kTokens];
  __m256i sum[kTokens][kTiles][2];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    x[t] = a.x[token + t];
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) sum[t][n][0] = sum[t][n][1] = _mm256_setzero_si256();
  }
  for (int b = 0; b < blocks; ++b) {
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) {
      prefetch(ahead + a.tile_bytes * n + b * 64);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const __m256i weight = load(w + a.tile_bytes * n + b * 64 + i * 32), magnitude = _mm256_abs_epi8(weight);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const __m256i products = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(broadcast8(x[t], b * 8), weight));
          sum[t][n][i] = _mm256_add_epi32(sum[t][n][i], _mm256_madd_epi16(products, ones));
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < kTiles; ++n) {
    const __m256 scale = halves(w + a.tile_bytes * n + blocks * 64);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
      store(a, tile + n, token + t,
            _mm256_mul_ps(scale, _mm256_cvtepi32_ps(rows_of(sum[t][n][0], sum[t][n][1]))));
  }
}

// The weights are multiplied as 0..15, which adds 8 * sum of the activations. Four products of 8
// columns stay within 16 bits: 2 * 15 * 127 * 4 < 2^15.
template <int kTokens, int kTiles>
KERNEL void int4_block(const TileArgs& a, int tile, int token, const uint8_t* ahead) {
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  const int groups = static_cast<int>(padded_cols(Quant::kInt4, a.cols)) / kGroupCols;
  const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  const void* x[kTokens];
  const int32_t* group_sums[kTokens];
  __m256 sum[kTokens][kTiles][2];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    x[t] = a.x[token + t];
    group_sums[t] = a.group_sums[token + t];
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) sum[t][n][0] = sum[t][n][1] = _mm256_setzero_ps();
  }
  for (int g = 0; g < groups; ++g) {
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) {
      const uint8_t* p = w + a.tile_bytes * n;
      const uint8_t* later = ahead + a.tile_bytes * n + g * 128;
      prefetch(later);
      prefetch(later + 64);
      const __m256 scale8 = halves(p + groups * 128 + g * 16);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const __m256i first = load(p + g * 128 + i * 32), second = load(p + g * 128 + i * 32 + 64);
        // Columns 0..7, 8..15, 16..23 and 24..31 of the group.
        const __m256i c0 = _mm256_and_si256(first, nibble), c1 = _mm256_and_si256(second, nibble),
                      c2 = _mm256_and_si256(_mm256_srli_epi16(first, 4), nibble),
                      c3 = _mm256_and_si256(_mm256_srli_epi16(second, 4), nibble);
        const __m256i twice =
            _mm256_add_epi32(_mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3), _mm256_set1_epi32(4 * i));
        const __m256 scale = _mm256_permutevar8x32_ps(scale8, twice);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const int at = g * kGroupCols;
          const __m256i products = _mm256_add_epi16(
              _mm256_add_epi16(_mm256_maddubs_epi16(c0, broadcast8(x[t], at)),
                               _mm256_maddubs_epi16(c1, broadcast8(x[t], at + 8))),
              _mm256_add_epi16(_mm256_maddubs_epi16(c2, broadcast8(x[t], at + 16)),
                               _mm256_maddubs_epi16(c3, broadcast8(x[t], at + 24))));
          // Each of the two lanes of a row takes off one half of 8 * sum.
          const __m256i dot = _mm256_sub_epi32(_mm256_madd_epi16(products, ones),
                                               _mm256_set1_epi32(4 * group_sums[t][g]));
          sum[t][n][i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sum[t][n][i]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < kTiles; ++n)
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const __m256 pairs = _mm256_hadd_ps(sum[t][n][0], sum[t][n][1]);
      store(a, tile + n, token + t,
            _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), 0xd8)));
    }
}

// One entry for each number of tokens.
constexpr Shape kFp32Shapes[kTokenBlock] = {
    {8, fp32_block<1, 8>, fp32_block<1, 1>}, {4, fp32_block<2, 4>, fp32_block<2, 1>},
    {4, fp32_block<3, 4>, fp32_block<3, 1>}, {2, fp32_block<4, 2>, fp32_block<4, 1>},
};
constexpr Shape kInt8Shapes[kTokenBlock] = {
    {4, int8_block<1, 4>, int8_block<1, 1>}, {2, int8_block<2, 2>, int8_block<2, 1>},
    {1, int8_block<3, 1>, int8_block<3, 1>}, {1, int8_block<4, 1>, int8_block<4, 1>},
};
constexpr Shape kInt4Shapes[kTokenBlock] = {
    {4, int4_block<1, 4>, int4_block<1, 1>}, {1, int4_block<2, 1>, int4_block<2, 1>},
    {1, int4_block<3, 1>, int4_block<3, 1>}, {1, int4_block<4, 1>, int4_block<4, 1>},
};

void tiles_int8(const TileArgs& a) { multiply(kInt8Shapes, kTokenBlock, a); }
void tiles_int4(const TileArgs& a) { multiply(kInt4Shapes, kTokenBlock, a); }

KERNEL void quantize_row(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* sums) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i peaks = _mm256_setzero_si256();  // magnitudes order like their bit patterns, infinity and NaN last
  for (int k = 0; k < cols; k += 8) {
    const __m256 v = _mm256_maskload_ps(x + k, first_lanes(cols - k));
    peaks = _mm256_max_epi32(peaks, _mm256_and_si256(_mm256_castps_si256(v), magnitude));
  }
  int32_t lane[8], peak = 0;
  std::memcpy(lane, &peaks, sizeof lane);
  for (int32_t bits : lane) peak = bits > peak ? bits : peak;
  float inverse;
  if (!quantized_scale(peak, scale, &inverse)) {
    std::memset(q, 0, padded);
    if (sums != nullptr) std::memset(sums, 0, sizeof(int32_t) * (padded / kGroupCols));
    return;
  }
  const __m256 factor = _mm256_set1_ps(inverse);
  for (int k = 0; k < padded; k += 8) {  // padded is a multiple of 8
    const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + k, first_lanes(cols - k)), factor);
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(q + k), _mm_packs_epi16(words, words));
  }
  if (sums == nullptr) return;
  const __m256i ones = _mm256_set1_epi8(1), wide_ones = _mm256_set1_epi16(1);
  for (int g = 0; g < padded / kGroupCols; ++g) {
    const __m256i v = _mm256_madd_epi16(
        _mm256_maddubs_epi16(ones, load(reinterpret_cast<const uint8_t*>(q) + g * kGroupCols)), wide_ones);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    sums[g] = _mm_cvtsi128_si32(s);
  }
}

// Products of a with kRows rows, so that a is loaded once for all of them.
template <int kRows>
KERNEL void dot_rows(const float* a, const float* const* rows, int n, float* out) {
  __m256 s0[kRows], s1[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) s0[r] = s1[r] = _mm256_setzero_ps();
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256 a0 = _mm256_loadu_ps(a + i), a1 = _mm256_loadu_ps(a + i + 8);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      s0[r] = _mm256_fmadd_ps(a0, _mm256_loadu_ps(rows[r] + i), s0[r]);
      s1[r] = _mm256_fmadd_ps(a1, _mm256_loadu_ps(rows[r] + i + 8), s1[r]);
    }
  }
  for (; i < n; i += 8) {
    const __m256i m = first_lanes(n - i);
    const __m256 a0 = _mm256_maskload_ps(a + i, m);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) s0[r] = _mm256_fmadd_ps(a0, _mm256_maskload_ps(rows[r] + i, m), s0[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const __m256 v = _mm256_add_ps(s0[r], s1[r]);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    out[r] = _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
}

float dot(const float* a, const float* b, int n) {
  float out;
  dot_rows<1>(a, &b, n, &out);
  return out;
}

void dots(const float* a, const float* const* rows, int count, int n, float* out) {
  int i = 0;
  for (; i + 4 <= count; i += 4) dot_rows<4>(a, rows + i, n, out + i);
  for (; i < count; ++i) dot_rows<1>(a, rows + i, n, out + i);
}

// Eight vectors of y stay in registers while all rows are added to them; the rest of y one by one.
KERNEL void weighted_sum(const float* weights, const float* const* rows, int count, float* y, int n) {
  int i = 0;
  for (; i + 64 <= n; i += 64) {
    __m256 sum[8];
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) sum[v] = _mm256_loadu_ps(y + i + v * 8);
    for (int r = 0; r < count; ++r) {
      const __m256 weight = _mm256_set1_ps(weights[r]);
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) sum[v] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(rows[r] + i + v * 8), sum[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < 8; ++v) _mm256_storeu_ps(y + i + v * 8, sum[v]);
  }
  for (; i < n; i += 8) {
    const __m256i m = first_lanes(n - i);
    __m256 sum = _mm256_maskload_ps(y + i, m);
    for (int r = 0; r < count; ++r)
      sum = _mm256_fmadd_ps(_mm256_set1_ps(weights[r]), _mm256_maskload_ps(rows[r] + i, m), sum);
    _mm256_maskstore_ps(y + i, m, sum);
  }
}

KERNEL void axpy(float a, const float* x, float* y, int n) {
  const __m256 factor = _mm256_set1_ps(a);
  int i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(y + i, _mm256_fmadd_ps(factor, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
  if (i == n) return;
  const __m256i m = first_lanes(n - i);
  _mm256_maskstore_ps(y + i, m, _mm256_fmadd_ps(factor, _mm256_maskload_ps(x + i, m), _mm256_maskload_ps(y + i, m)));
}

KERNEL void scale(float a, float* y, int n) {
  const __m256 factor = _mm256_set1_ps(a);
  int i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(y + i, _mm256_mul_ps(factor, _mm256_loadu_ps(y + i)));
  if (i == n) return;
  const __m256i m = first_lanes(n - i);
  _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(factor, _mm256_maskload_ps(y + i, m)));
}

// 2^k for an integer k >= -126.
INLINE __m256 power_of_two(__m256 k) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(k), _mm256_set1_epi32(127)), 23));
}

// exp(z) for z <= 0. exp(-126) is below every float; max() returns its second operand where that is NaN.
INLINE __m256 exp_negative(__m256 z) {
  z = _mm256_max_ps(_mm256_set1_ps(-126.0f), z);
  const __m256 k =
      _mm256_round_ps(_mm256_mul_ps(z, _mm256_set1_ps(kLog2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 r = _mm256_fnmadd_ps(k, _mm256_set1_ps(kLn2Low), _mm256_fnmadd_ps(k, _mm256_set1_ps(kLn2High), z));
  __m256 p = _mm256_set1_ps(kExp[0]);
  for (int j = 1; j < kExpTerms; ++j) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(kExp[j]));
  // k goes down to -182, below the exponents of floats: in two steps.
  const __m256 half = _mm256_round_ps(_mm256_mul_ps(k, _mm256_set1_ps(0.5f)), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
  return _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(half)), power_of_two(_mm256_sub_ps(k, half)));
}

KERNEL void exp_minus(float shift, float* x, int n) {
  for (int i = 0; i < n; i += 8) {
    const __m256i m = first_lanes(n - i);
    const __m256 z = _mm256_sub_ps(_mm256_maskload_ps(x + i, m), _mm256_set1_ps(shift));
    _mm256_maskstore_ps(x + i, m, exp_negative(z));
  }
}

// With e = exp(-|x|), which cannot overflow: x / (1 + e) for x >= 0 and x * e / (1 + e) below.
KERNEL void silu(float* x, int n) {
  for (int i = 0; i < n; i += 8) {
    const __m256i m = first_lanes(n - i);
    const __m256 v = _mm256_maskload_ps(x + i, m);
    const __m256 e = exp_negative(_mm256_or_ps(v, _mm256_set1_ps(-0.0f)));
    const __m256 negative = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ);
    const __m256 numerator = _mm256_blendv_ps(v, _mm256_mul_ps(v, e), negative);
    _mm256_maskstore_ps(x + i, m, _mm256_div_ps(numerator, _mm256_add_ps(_mm256_set1_ps(1.0f), e)));
  }
}

}  // namespace

void avx2::tiles_fp32(const TileArgs& a) { multiply(kFp32Shapes, kTokenBlock, a); }

const Kernels kAvx2Kernels = {"avx2", avx2::tiles_fp32, tiles_int8, tiles_int4, quantize_row, dot, axpy, scale, silu,
                              dots,   weighted_sum,     exp_minus};

}  // namespace blockffn
#endif
