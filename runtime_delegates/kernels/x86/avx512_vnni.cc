// AVX-512 VNNI micro-kernels: one 64-byte load brings 8 columns of the 8 rows of a tile, and vpdpbusd
// multiplies them with 8 activations that are broadcast to all rows. Lanes 2r and 2r+1 hold row r.
//
// vpdpbusd multiplies unsigned by signed bytes. int8: the weights are offset by 128, which adds 128 * sum of the
// activations; sums wrap around modulo 2^32 and the result fits again. int4: the weights are 0..15 as they are
// stored, which adds 8 * sum of the activations.
#if defined(__x86_64__)
#include <immintrin.h>

#include "avx2.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // of GCC 12's own intrinsics
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define KERNEL __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c")))
#define INLINE KERNEL inline __attribute__((always_inline))

namespace blockffn {
namespace {

constexpr int kTokenBlock = 8;      // tokens multiplied with a weight that was loaded once
constexpr int kStreamedTokens = 3;  // up to which memory is the limit

INLINE __m512i broadcast8(const void* x, int offset) {
  int64_t v;
  std::memcpy(&v, static_cast<const uint8_t*>(x) + offset, sizeof v);
  return _mm512_set1_epi64(v);
}

INLINE void prefetch_near(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
INLINE void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1); }

INLINE __m512i even_lanes() { return _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30); }
INLINE __m512i odd_lanes() { return _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31); }

// The 8 float16 at a and the 8 at b.
INLINE __m512 halves(const uint8_t* a, const uint8_t* b) {
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a)),
                high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b));
  return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1));
}

INLINE void store(const TileArgs& a, int tile, int token, __m256 rows) {
  float* y = a.y[token] + tile * kTileRows;
  const int left = a.rows - tile * kTileRows;
  const __mmask8 valid = static_cast<__mmask8>(left >= kTileRows ? 0xff : (1u << left) - 1);
  __m256 v = _mm256_mul_ps(_mm256_set1_ps(a.factor[token]), rows);
  if (a.accumulate) v = _mm256_add_ps(_mm256_maskz_loadu_ps(valid, y), v);
  _mm256_mask_storeu_ps(y, valid, v);
}

// The rows of two tiles, or twice those of one.
template <int kTiles>
INLINE void store_pair(const TileArgs& a, int tile, int step, int token, __m512 rows) {
  store(a, tile, token, _mm512_castps512_ps256(rows));
  if (kTiles > 1) store(a, tile + step, token, _mm512_extractf32x8_ps(rows, 1));
}

template <int kTokens, int kTiles>
KERNEL void int8_block(const TileArgs& a, int tile, int step, int count, int token, ptrdiff_t ahead) {
  const size_t stride = a.tile_bytes * step;
  const int blocks = static_cast<int>(padded_cols(Quant::kInt8, a.cols)) / 8;
  const __m512i offset = _mm512_set1_epi8(-128);
  const void* x[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) x[t] = a.x[token + t];
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  for (; count > 0; --count, ++tile, w += a.tile_bytes) {
    __m512i sum[kTokens][kTiles];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm512_setzero_si512();
    for (int b = 0; b < blocks; ++b) {
      __m512i weight[kTiles];
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) {
        const uint8_t* p = w + stride * n + b * 64;
        weight[n] = _mm512_xor_si512(_mm512_loadu_si512(p), offset);
        if (kTokens > kStreamedTokens) prefetch(p + ahead);
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const __m512i column = broadcast8(x[t], b * 8);
#pragma GCC unroll 8
        for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm512_dpbusd_epi32(sum[t][n], weight[n], column);
      }
    }
    constexpr int kStep = kTiles == 1 ? 1 : 2;
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; n += kStep) {
      const uint8_t *first = w + stride * n + blocks * 64, *last = first + stride * (kStep - 1);
      const __m512 scale = halves(first, last);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const __m512i p = sum[t][n], q = sum[t][n + kStep - 1];
        const __m512i total = _mm512_add_epi32(_mm512_permutex2var_epi32(p, even_lanes(), q),
                                               _mm512_permutex2var_epi32(p, odd_lanes(), q));
        const __m512i start = _mm512_set1_epi32(a.starts[token + t][0]);
        store_pair<kStep>(a, tile + step * n, step, token + t,
                          _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_add_epi32(total, start))));
      }
    }
  }
}

// As in avx2.cc: weights and scales side by side are more than the processor's prefetcher follows.
INLINE void prefetch_streamed(const uint8_t* group, const uint8_t* later_scales, int g) {
  constexpr int kAhead = 512;
  prefetch_near(group + kAhead);
  prefetch_near(group + kAhead + 64);
  if (g % 4 == 0) prefetch_near(later_scales);
}

template <int kTokens, int kTiles>
KERNEL void int4_block(const TileArgs& a, int tile, int step, int count, int token, ptrdiff_t ahead) {
  const size_t stride = a.tile_bytes * step;
  const int groups = static_cast<int>(padded_cols(Quant::kInt4, a.cols)) / kGroupCols;
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const void* x[kTokens];
  const int32_t* starts[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    x[t] = a.x[token + t];
    starts[t] = a.starts[token + t];
  }
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  for (; count > 0; --count, ++tile, w += a.tile_bytes) {
    __m512 sum[kTokens][kTiles];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm512_setzero_ps();
    // For one or two tokens the activations stay in registers, for more the weights of kTiles tiles.
    constexpr int kTogether = kTokens > 2 ? kTiles : 1;
    for (int g = 0; g < groups; ++g) {
#pragma GCC unroll 8
      for (int first_tile = 0; first_tile < kTiles; first_tile += kTogether) {
        __m512i columns[kTogether][4];  // 0..7, 8..15, 16..23 and 24..31 of the group
        __m512 scale[kTogether];
#pragma GCC unroll 8
        for (int n = 0; n < kTogether; ++n) {
          const uint8_t* p = w + stride * (first_tile + n);
          const __m512i first = _mm512_loadu_si512(p + g * 128), second = _mm512_loadu_si512(p + g * 128 + 64);
          if (kTokens > kStreamedTokens) {
            prefetch(p + g * 128 + ahead);
            prefetch(p + g * 128 + ahead + 64);
          } else {
            prefetch_streamed(p + g * 128, p + a.tile_bytes + groups * 128 + g * 16, g);
          }
          columns[n][0] = _mm512_and_si512(first, nibble);
          columns[n][1] = _mm512_and_si512(second, nibble);
          columns[n][2] = _mm512_and_si512(_mm512_srli_epi16(first, 4), nibble);
          columns[n][3] = _mm512_and_si512(_mm512_srli_epi16(second, 4), nibble);
          const __m256 scale8 =
              _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + groups * 128 + g * 16)));
          scale[n] = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(scale8));
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          __m512i dot[kTogether];
          dot[0] = _mm512_maskz_set1_epi32(0x5555, starts[t][g]);  // one of the two lanes of a row
#pragma GCC unroll 8
          for (int n = 1; n < kTogether; ++n) dot[n] = dot[0];
#pragma GCC unroll 4
          for (int c = 0; c < 4; ++c) {
            const __m512i column = broadcast8(x[t], g * kGroupCols + c * 8);
#pragma GCC unroll 8
            for (int n = 0; n < kTogether; ++n) dot[n] = _mm512_dpbusd_epi32(dot[n], columns[n][c], column);
          }
#pragma GCC unroll 8
          for (int n = 0; n < kTogether; ++n) {
            __m512& total = sum[t][first_tile + n];
            total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[n]), scale[n], total);
          }
        }
      }
    }
    constexpr int kStep = kTiles == 1 ? 1 : 2;
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; n += kStep)
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const __m512 p = sum[t][n], q = sum[t][n + kStep - 1];
        store_pair<kStep>(
            a, tile + step * n, step, token + t,
            _mm512_add_ps(_mm512_permutex2var_ps(p, even_lanes(), q), _mm512_permutex2var_ps(p, odd_lanes(), q)));
      }
  }
}

// One entry for each number of tokens.
constexpr Shape kInt8Shapes[kTokenBlock] = {
    {4, int8_block<1, 4>, int8_block<1, 1>}, {4, int8_block<2, 4>, int8_block<2, 1>},
    {4, int8_block<3, 4>, int8_block<3, 1>}, {4, int8_block<4, 4>, int8_block<4, 1>},
    {2, int8_block<5, 2>, int8_block<5, 1>}, {2, int8_block<6, 2>, int8_block<6, 1>},
    {2, int8_block<7, 2>, int8_block<7, 1>}, {2, int8_block<8, 2>, int8_block<8, 1>},
};
constexpr Shape kInt4Shapes[kTokenBlock] = {
    {4, int4_block<1, 4>, int4_block<1, 1>}, {4, int4_block<2, 4>, int4_block<2, 1>},
    {2, int4_block<3, 2>, int4_block<3, 1>}, {2, int4_block<4, 2>, int4_block<4, 1>},
    {2, int4_block<5, 2>, int4_block<5, 1>}, {2, int4_block<6, 2>, int4_block<6, 1>},
    {2, int4_block<7, 2>, int4_block<7, 1>}, {2, int4_block<8, 2>, int4_block<8, 1>},
};

// With starts that take off what the offset of the weights adds.
KERNEL void tiles_int8(const TileArgs& a) {
  const int blocks = static_cast<int>(padded_cols(Quant::kInt8, a.cols)) / 8;
  int32_t starts[kMaxTokens];
  const int32_t* of_token[kMaxTokens];
  for (int t = 0; t < a.tokens; ++t) {
    const auto* x = static_cast<const uint8_t*>(a.x[t]);
    __m512i sum = _mm512_setzero_si512();
    for (int b = 0; b < blocks; b += 8) {
      const __mmask8 valid = static_cast<__mmask8>(blocks - b >= 8 ? 0xff : (1u << (blocks - b)) - 1);
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi64(valid, x + b * 8));
    }
    starts[t] = -128 * _mm512_reduce_add_epi32(sum);
    of_token[t] = starts + t;
  }
  TileArgs with_starts = a;
  with_starts.starts = of_token;
  multiply(kInt8Shapes, kTokenBlock, kStreamedTokens, with_starts);
}
void tiles_int4(const TileArgs& a) { multiply(kInt4Shapes, kTokenBlock, kStreamedTokens, a); }

KERNEL void quantize_row(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i peaks = _mm512_setzero_si512();  // magnitudes order like their bit patterns, infinity and NaN last
  for (int k = 0; k < cols; k += 16) {
    const __mmask16 valid = static_cast<__mmask16>(cols - k < 16 ? (1u << (cols - k)) - 1 : 0xffff);
    peaks = _mm512_max_epi32(peaks, _mm512_and_si512(_mm512_maskz_loadu_epi32(valid, x + k), magnitude));
  }
  float inverse;
  if (!begin_row(_mm512_reduce_max_epi32(peaks), padded, q, scale, starts, &inverse)) return;
  const __m512 factor = _mm512_set1_ps(inverse);
  for (int k = 0; k < padded; k += 16) {
    const __mmask16 valid = static_cast<__mmask16>(cols - k < 16 ? cols <= k ? 0 : (1u << (cols - k)) - 1 : 0xffff),
                    stored = static_cast<__mmask16>(padded - k < 16 ? (1u << (padded - k)) - 1 : 0xffff);
    const __m512i rounded = _mm512_cvt_roundps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(valid, x + k), factor),
                                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm512_mask_cvtepi32_storeu_epi8(q + k, stored, rounded);
  }
  if (starts == nullptr) return;
  const __m256i ones = _mm256_set1_epi8(1);
  for (int g = 0; g < padded / kGroupCols; ++g) {
    const __m256i v = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones,
                                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + g * kGroupCols)));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    starts[g] = -8 * _mm_cvtsi128_si32(s);
  }
}

INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1); }

// kQueries queries with kKeys keys: enough sums at once that they do not wait for each other.
template <int kQueries, int kKeys>
KERNEL void dot_block(const float* const* queries, const float* const* keys, int n, float* scores) {
  __m512 sum[kQueries][kKeys];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
    for (int r = 0; r < kKeys; ++r) sum[q][r] = _mm512_setzero_ps();
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    __m512 query[kQueries];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) query[q] = _mm512_maskz_loadu_ps(m, queries[q] + i);
#pragma GCC unroll 8
    for (int r = 0; r < kKeys; ++r) {
      const __m512 key = _mm512_maskz_loadu_ps(m, keys[r] + i);
#pragma GCC unroll 8
      for (int q = 0; q < kQueries; ++q) sum[q][r] = _mm512_fmadd_ps(query[q], key, sum[q][r]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
    for (int r = 0; r < kKeys; ++r) scores[q * kKeyBlock + r] = _mm512_reduce_add_ps(sum[q][r]);
}

void dots(const float* const* queries, int query_count, const float* const* keys, int count, int n, float* scores) {
  int q = 0;
  for (; q + 2 <= query_count; q += 2) {
    int i = 0;
    for (; i + 8 <= count; i += 8) dot_block<2, 8>(queries + q, keys + i, n, scores + q * kKeyBlock + i);
    for (; i < count; ++i) dot_block<2, 1>(queries + q, keys + i, n, scores + q * kKeyBlock + i);
  }
  if (q == query_count) return;
  int i = 0;
  for (; i + 8 <= count; i += 8) dot_block<1, 8>(queries + q, keys + i, n, scores + q * kKeyBlock + i);
  for (; i < count; ++i) dot_block<1, 1>(queries + q, keys + i, n, scores + q * kKeyBlock + i);
}

// kVectors vectors of y stay in registers while all rows are added to them.
template <int kVectors>
KERNEL void add_rows(const float* weights, const float* const* rows, int count, float* y, int first, __mmask16 last) {
  __m512 sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v)
    sum[v] = _mm512_maskz_loadu_ps(v + 1 < kVectors ? 0xffff : last, y + first + v * 16);
  for (int r = 0; r < count; ++r) {
    const __m512 weight = _mm512_set1_ps(weights[r]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      sum[v] = _mm512_fmadd_ps(
          weight, _mm512_maskz_loadu_ps(v + 1 < kVectors ? 0xffff : last, rows[r] + first + v * 16), sum[v]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v)
    _mm512_mask_storeu_ps(y + first + v * 16, v + 1 < kVectors ? 0xffff : last, sum[v]);
}

KERNEL void weighted_sum(const float* weights, const float* const* rows, int count, float* y, int n) {
  int i = 0;
  for (; i + 128 <= n; i += 128) add_rows<8>(weights, rows, count, y, i, 0xffff);
  for (; i < n; i += 16) add_rows<1>(weights, rows, count, y, i, first_lanes(n - i));
}

KERNEL void axpy(float a, const float* x, float* y, int n) {
  const __m512 factor = _mm512_set1_ps(a);
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    _mm512_mask_storeu_ps(y + i, m,
                          _mm512_fmadd_ps(factor, _mm512_maskz_loadu_ps(m, x + i), _mm512_maskz_loadu_ps(m, y + i)));
  }
}

KERNEL void scale(float a, float* y, int n) {
  const __m512 factor = _mm512_set1_ps(a);
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(m, y + i)));
  }
}

// exp(z) for z <= 0. exp(-126) is below every float; max() returns its second operand where that is NaN.
INLINE __m512 exp_negative(__m512 z) {
  z = _mm512_max_ps(_mm512_set1_ps(-126.0f), z);
  const __m512 k = _mm512_roundscale_ps(_mm512_mul_ps(z, _mm512_set1_ps(kLog2E)), _MM_FROUND_TO_NEAREST_INT);
  const __m512 r = _mm512_fnmadd_ps(k, _mm512_set1_ps(kLn2Low), _mm512_fnmadd_ps(k, _mm512_set1_ps(kLn2High), z));
  __m512 p = _mm512_set1_ps(kExp[0]);
  for (int j = 1; j < kExpTerms; ++j) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kExp[j]));
  return _mm512_scalef_ps(p, k);
}

KERNEL float softmax(float* scores, int count, float scale, float* max, float* sum) {
  const __mmask16 m = first_lanes(count);
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  const __m512 s = _mm512_mask_mul_ps(lowest, m, _mm512_maskz_loadu_ps(m, scores), _mm512_set1_ps(scale));
  // max() returns its second operand where the first is NaN: those do not count here, but spoil the sum below.
  const float peak = _mm512_reduce_max_ps(_mm512_max_ps(s, lowest));
  const float shrink = raise_max(peak, max);
  const __m512 e = exp_negative(_mm512_sub_ps(s, _mm512_set1_ps(*max)));
  _mm512_mask_storeu_ps(scores, m, e);
  *sum = *sum * shrink + _mm512_reduce_add_ps(e);
  return shrink;
}

// With e = exp(-|x|), which cannot overflow: x / (1 + e) for x >= 0 and x * e / (1 + e) below.
KERNEL void silu(float* x, int n) {
  for (int i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
    const __m512 e = exp_negative(_mm512_or_ps(v, _mm512_set1_ps(-0.0f)));
    const __mmask16 negative = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LT_OQ);
    const __m512 numerator = _mm512_mask_mul_ps(v, negative, v, e);
    _mm512_mask_storeu_ps(x + i, m, _mm512_div_ps(numerator, _mm512_add_ps(_mm512_set1_ps(1.0f), e)));
  }
}

}  // namespace

const Kernels kAvx512VnniKernels = {
    "avx512_vnni", avx2::tiles_fp32, tiles_int8,  tiles_int4, quantize_row, axpy, scale, silu,
    dots,          softmax,          weighted_sum};

}  // namespace blockffn
#endif
