// AVX2 micro-kernels, with FMA and F16C. avx_vnni.cc compiles this file once more; dot_step.h holds what then differs.
//
// A 64-byte block of a tile holds 8 columns of 8 rows. Two shuffles of its halves make registers of 4 columns of all 8
// rows, in the order of by_lane: a lane is then a row, and a sum of one token takes one register.
#if defined(__x86_64__)
#include "dot_step.h"

namespace blockffn {
namespace {

constexpr int kTokenBlock = 8;      // tokens multiplied with a weight that was loaded once
constexpr int kStreamedTokens = 3;  // up to which memory is the limit

INLINE __m256i load(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

INLINE __m256i broadcast8(const void* x, int offset) {
  int64_t v;
  std::memcpy(&v, static_cast<const uint8_t*>(x) + offset, sizeof v);
  return _mm256_set1_epi64x(v);
}

INLINE void prefetch_near(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
INLINE void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T1); }

INLINE __m256i broadcast4(const void* x, int offset) {
  int32_t v;
  std::memcpy(&v, static_cast<const uint8_t*>(x) + offset, sizeof v);
  return _mm256_set1_epi32(v);
}

// Columns 0..3 and 4..7 of the 8 rows of a block, in the order of by_lane.
INLINE __m256i first_columns(__m256i low, __m256i high) {
  return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0x88));
}
INLINE __m256i last_columns(__m256i low, __m256i high) {
  return _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0xdd));
}

// From the order of rows to that of lanes, and back: the permutation is its own inverse.
INLINE __m256i by_lane() { return _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7); }

INLINE __m256 halves(const uint8_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

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

// The compiler must not move the additions of a sum: it would need more registers than there are.
#define IN_ORDER(v) asm("" : "+x"(v))

template <int kTokens, int kTiles>
KERNEL void fp32_block(const TileArgs& a, int tile, int step, int count, int token, ptrdiff_t ahead) {
  const size_t stride = a.tile_bytes * step;
  const float* x[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) x[t] = static_cast<const float*>(a.x[token + t]);
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  for (; count > 0; --count, ++tile, w += a.tile_bytes) {
    __m256 sum[kTokens][kTiles];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm256_setzero_ps();
    for (int k = 0; k < a.cols; ++k) {
      __m256 column[kTiles];
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n)
        column[n] = _mm256_loadu_ps(reinterpret_cast<const float*>(w + stride * n) + k * kTileRows);
      if (kTokens > kStreamedTokens && k % 2 == 0)
#pragma GCC unroll 8
        for (int n = 0; n < kTiles; ++n) prefetch(w + stride * n + static_cast<size_t>(k) * 32 + ahead);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
        for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm256_fmadd_ps(column[n], _mm256_set1_ps(x[t][k]), sum[t][n]);
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) store(a, tile + step * n, token + t, sum[t][n]);
  }
}

template <int kTokens, int kTiles>
KERNEL void int8_block(const TileArgs& a, int tile, int step, int count, int token, ptrdiff_t ahead) {
  const size_t stride = a.tile_bytes * step;
  const int blocks = static_cast<int>(padded_cols(Quant::kInt8, a.cols)) / 8;
  const void* x[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) x[t] = a.x[token + t];
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  for (; count > 0; --count, ++tile, w += a.tile_bytes) {
    __m256i sum[kTokens][kTiles];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm256_set1_epi32(int8_start(a, token + t));
    for (int b = 0; b < blocks; ++b) {
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) {
        const uint8_t* p = w + stride * n + b * 64;
        const __m256i low = load(p), high = load(p + 32);
        if (kTokens > kStreamedTokens) prefetch(p + ahead);
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
          const __m256i weight = i == 0 ? first_columns(low, high) : last_columns(low, high),
                        factor = int8_factor(weight);
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            sum[t][n] = add_int8(sum[t][n], factor, weight, broadcast4(x[t], b * 8 + i * 4));
            IN_ORDER(sum[t][n]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) {
      const __m256 scale = halves(w + stride * n + blocks * 64);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t)
        store(a, tile + step * n, token + t,
              _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_permutevar8x32_epi32(sum[t][n], by_lane()))));
    }
  }
}

// One token: without the shuffles, which only pay where several tokens share them.
template <int kTiles>
KERNEL void int8_alone(const TileArgs& a, int tile, int step, int count, int token, ptrdiff_t) {
  const size_t stride = a.tile_bytes * step;
  const int blocks = static_cast<int>(padded_cols(Quant::kInt8, a.cols)) / 8;
  const void* x = a.x[token];
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  for (; count > 0; --count, ++tile, w += a.tile_bytes) {
    __m256i sum[kTiles][2];  // two lanes of each of 4 rows
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) {
      sum[n][0] = sum[n][1] = _mm256_set1_epi64x(static_cast<uint32_t>(int8_start(a, token)));
    }
    for (int b = 0; b < blocks; ++b) {
      const __m256i column = broadcast8(x, b * 8);
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n)
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
          const __m256i weight = load(w + stride * n + b * 64 + i * 32);
          sum[n][i] = add_int8(sum[n][i], int8_factor(weight), weight, column);
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) {
      const __m256i rows = _mm256_permutevar8x32_epi32(_mm256_hadd_epi32(sum[n][0], sum[n][1]), by_lane());
      store(a, tile + step * n, token, _mm256_mul_ps(halves(w + stride * n + blocks * 64), _mm256_cvtepi32_ps(rows)));
    }
  }
}

// Where memory is the limit: a processor's prefetcher does not cope with int4 weights and scales side by side, so what
// is next of both is asked for. `later_scales` are those of the same group in the next tile.
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
  const __m256i nibble = _mm256_set1_epi8(15);
  const void* x[kTokens];
  const int32_t* starts[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) {
    x[t] = a.x[token + t];
    starts[t] = a.starts[token + t];
  }
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  for (; count > 0; --count, ++tile, w += a.tile_bytes) {
    __m256 sum[kTokens][kTiles];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) sum[t][n] = _mm256_setzero_ps();
    for (int g = 0; g < groups; ++g) {
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) {
        const uint8_t *p = w + stride * n + g * 128, *scales = w + stride * n + groups * 128 + g * 16;
        if (kTokens > kStreamedTokens) {
          prefetch(p + ahead);
          prefetch(p + ahead + 64);
        } else {
          prefetch_streamed(p, scales + a.tile_bytes, g);
        }
        const __m256 scale = _mm256_permutevar8x32_ps(halves(scales), by_lane());
        __m256i products[kTokens];
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {  // columns 4i .. 4i + 3 of the group, and the 16 later ones
          const __m256i low = load(p + i / 2 * 64), high = load(p + i / 2 * 64 + 32);
          const __m256i packed = i % 2 == 0 ? first_columns(low, high) : last_columns(low, high);
          const __m256i first = _mm256_and_si256(packed, nibble),
                        second = _mm256_and_si256(_mm256_srli_epi16(packed, 4), nibble);
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            const int at = g * kGroupCols + i * 4;
            products[t] = add_int4(i == 0 ? begin_int4(starts[t][g]) : products[t], first, broadcast4(x[t], at), second,
                                   broadcast4(x[t], at + 16));
            IN_ORDER(products[t]);
          }
        }
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const __m256i dot = end_int4(products[t], starts[t][g]);
          sum[t][n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sum[t][n]);
          IN_ORDER(sum[t][n]);
        }
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n)
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t)
        store(a, tile + step * n, token + t, _mm256_permutevar8x32_ps(sum[t][n], by_lane()));
  }
}

// One token: the sums of two lanes of a row are added instead of shuffling the weights, with the same result.
template <int kTiles>
KERNEL void int4_alone(const TileArgs& a, int tile, int step, int count, int token, ptrdiff_t) {
  const size_t stride = a.tile_bytes * step;
  const int groups = static_cast<int>(padded_cols(Quant::kInt4, a.cols)) / kGroupCols;
  const __m256i nibble = _mm256_set1_epi8(15);
  const auto* x = static_cast<const uint8_t*>(a.x[token]);
  const int32_t* starts = a.starts[token];
  const uint8_t* w = a.tiles + a.tile_bytes * tile;
  for (; count > 0; --count, ++tile, w += a.tile_bytes) {
    __m256 sum[kTiles];
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) sum[n] = _mm256_setzero_ps();
    for (int g = 0; g < groups; ++g) {
      __m256i column[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) column[i] = broadcast8(x, g * kGroupCols + i * 8);
#pragma GCC unroll 8
      for (int n = 0; n < kTiles; ++n) {
        const uint8_t *p = w + stride * n + g * 128, *scales = w + stride * n + groups * 128 + g * 16;
        prefetch_streamed(p, scales + a.tile_bytes, g);
        __m256i half[2];  // of rows
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
          const __m256i first = load(p + i * 32), second = load(p + i * 32 + 64);
          const __m256i weights[4] = {_mm256_and_si256(first, nibble), _mm256_and_si256(second, nibble),
                                      _mm256_and_si256(_mm256_srli_epi16(first, 4), nibble),
                                      _mm256_and_si256(_mm256_srli_epi16(second, 4), nibble)};
          half[i] = int4_lanes(weights, column);
        }
        const __m256i dot = _mm256_add_epi32(_mm256_hadd_epi32(half[0], half[1]), _mm256_set1_epi32(starts[g]));
        const __m256 scale = _mm256_permutevar8x32_ps(halves(scales), by_lane());
        sum[n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sum[n]);
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < kTiles; ++n) store(a, tile + step * n, token, _mm256_permutevar8x32_ps(sum[n], by_lane()));
  }
}

// One entry for each number of tokens.
constexpr Shape kFp32Shapes[kTokenBlock] = {
    {4, fp32_block<1, 4>, fp32_block<1, 1>}, {4, fp32_block<2, 4>, fp32_block<2, 1>},
    {2, fp32_block<3, 2>, fp32_block<3, 1>}, {2, fp32_block<4, 2>, fp32_block<4, 1>},
    {1, nullptr, fp32_block<5, 1>},          {1, nullptr, fp32_block<6, 1>},
    {1, nullptr, fp32_block<7, 1>},          {1, nullptr, fp32_block<8, 1>},
};
#ifdef BLOCKFFN_AVX_VNNI
// Two tiles where their sums fit the registers: a step waits for the one before it, so several must be on their way.
constexpr Shape kInt8Shapes[kTokenBlock] = {
    {4, int8_alone<4>, int8_alone<1>},       {4, int8_block<2, 4>, int8_block<2, 1>},
    {4, int8_block<3, 4>, int8_block<3, 1>}, {2, int8_block<4, 2>, int8_block<4, 1>},
    {2, int8_block<5, 2>, int8_block<5, 1>}, {2, int8_block<6, 2>, int8_block<6, 1>},
    {1, nullptr, int8_block<7, 1>},          {1, nullptr, int8_block<8, 1>},
};
#else
constexpr Shape kInt8Shapes[kTokenBlock] = {
    {4, int8_alone<4>, int8_alone<1>}, {4, int8_block<2, 4>, int8_block<2, 1>}, {2, int8_block<3, 2>, int8_block<3, 1>},
    {1, nullptr, int8_block<4, 1>},    {1, nullptr, int8_block<5, 1>},          {1, nullptr, int8_block<6, 1>},
    {1, nullptr, int8_block<7, 1>},    {1, nullptr, int8_block<8, 1>},
};
#endif
constexpr Shape kInt4Shapes[kTokenBlock] = {
    {4, int4_alone<4>, int4_alone<1>}, {2, int4_block<2, 2>, int4_block<2, 1>}, {2, int4_block<3, 2>, int4_block<3, 1>},
    {1, nullptr, int4_block<4, 1>},    {1, nullptr, int4_block<5, 1>},          {1, nullptr, int4_block<6, 1>},
    {1, nullptr, int4_block<7, 1>},    {1, nullptr, int4_block<8, 1>},
};

void tiles_int8(const TileArgs& a) { multiply(kInt8Shapes, kTokenBlock, kStreamedTokens, Int8Args{a}.args); }
void tiles_int4(const TileArgs& a) { multiply(kInt4Shapes, kTokenBlock, kStreamedTokens, a); }

KERNEL void quantize_row(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i peaks = _mm256_setzero_si256();  // magnitudes order like their bit patterns, infinity and NaN last
  int k = 0;
  for (; k + 8 <= cols; k += 8)
    peaks = _mm256_max_epi32(peaks,
                             _mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k)), magnitude));
  if (k < cols) {
    const __m256 v = _mm256_maskload_ps(x + k, first_lanes(cols - k));
    peaks = _mm256_max_epi32(peaks, _mm256_and_si256(_mm256_castps_si256(v), magnitude));
  }
  int32_t lane[8], peak = 0;
  std::memcpy(lane, &peaks, sizeof lane);
  for (int32_t bits : lane) peak = bits > peak ? bits : peak;
  float inverse;
  if (!begin_row(peak, padded, q, scale, starts, &inverse)) return;
  const __m256 factor = _mm256_set1_ps(inverse);
  for (k = 0; k + 32 <= cols; k += 32) {
    __m256i rounded[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      rounded[i] = _mm256_cvtps_epi32(_mm256_round_ps(_mm256_mul_ps(_mm256_loadu_ps(x + k + 8 * i), factor),
                                                      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    const __m256i bytes =
        _mm256_packs_epi16(_mm256_packs_epi32(rounded[0], rounded[1]), _mm256_packs_epi32(rounded[2], rounded[3]));
    const __m256i in_order = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + k), in_order);
  }
  for (; k < padded; k += 8) {  // padded is a multiple of 8
    const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + k, first_lanes(cols - k)), factor);
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(q + k), _mm_packs_epi16(words, words));
  }
  if (starts == nullptr) return;
  const __m256i ones = _mm256_set1_epi8(1), wide_ones = _mm256_set1_epi16(1);
  for (int g = 0; g < padded / kGroupCols; ++g) {
    const __m256i v = _mm256_madd_epi16(
        _mm256_maddubs_epi16(ones, load(reinterpret_cast<const uint8_t*>(q) + g * kGroupCols)), wide_ones);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    starts[g] = -8 * _mm_cvtsi128_si32(s);
  }
}

// The sums of the lanes of four vectors.
INLINE __m128 lane_sums(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

// kQueries queries with 4 * kFours keys: enough sums at once that they do not wait for each other, and few enough for
// the registers.
template <int kQueries, int kFours>
KERNEL void dot_block(const float* const* queries, const float* const* keys, int n, float* scores) {
  constexpr int kKeys = 4 * kFours;
  __m256 sum[kQueries][kKeys];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
    for (int r = 0; r < kKeys; ++r) sum[q][r] = _mm256_setzero_ps();
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    __m256 query[kQueries];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) query[q] = _mm256_loadu_ps(queries[q] + i);
#pragma GCC unroll 8
    for (int r = 0; r < kKeys; ++r) {
      const __m256 key = _mm256_loadu_ps(keys[r] + i);
#pragma GCC unroll 8
      for (int q = 0; q < kQueries; ++q) sum[q][r] = _mm256_fmadd_ps(query[q], key, sum[q][r]);
    }
  }
  if (i < n) {
    const __m256i m = first_lanes(n - i);
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
      for (int r = 0; r < kKeys; ++r)
        sum[q][r] =
            _mm256_fmadd_ps(_mm256_maskload_ps(queries[q] + i, m), _mm256_maskload_ps(keys[r] + i, m), sum[q][r]);
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q)
#pragma GCC unroll 8
    for (int f = 0; f < kFours; ++f)
      _mm_storeu_ps(scores + q * kKeyBlock + 4 * f,
                    lane_sums(sum[q][4 * f], sum[q][4 * f + 1], sum[q][4 * f + 2], sum[q][4 * f + 3]));
}

KERNEL float dot(const float* a, const float* b, int n) {
  __m256 sum = _mm256_setzero_ps();
  int i = 0;
  for (; i + 8 <= n; i += 8) sum = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), sum);
  if (i < n) {
    const __m256i m = first_lanes(n - i);
    sum = _mm256_fmadd_ps(_mm256_maskload_ps(a + i, m), _mm256_maskload_ps(b + i, m), sum);
  }
  return _mm_cvtss_f32(lane_sums(sum, sum, sum, sum));
}

void dots(const float* const* queries, int query_count, const float* const* keys, int count, int n, float* scores) {
  int q = 0;
  for (; q + 2 <= query_count; q += 2)
    for (int i = 0; i + 4 <= count; i += 4) dot_block<2, 1>(queries + q, keys + i, n, scores + q * kKeyBlock + i);
  for (; q < query_count; ++q) {
    int i = 0;
    for (; i + 8 <= count; i += 8) dot_block<1, 2>(queries + q, keys + i, n, scores + q * kKeyBlock + i);
    if (i + 4 <= count) dot_block<1, 1>(queries + q, keys + i, n, scores + q * kKeyBlock + i);
  }
  for (int i = count / 4 * 4; i < count; ++i)
    for (q = 0; q < query_count; ++q) scores[q * kKeyBlock + i] = dot(queries[q], keys[i], n);
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

INLINE float largest(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

KERNEL float softmax(float* scores, int count, float scale, float* max, float* sum) {
  const __m256 factor = _mm256_set1_ps(scale), lowest = _mm256_set1_ps(-INFINITY);
  const __m256i m0 = first_lanes(count), m1 = first_lanes(count - 8);
  __m256 s0, s1;
  if (count == kKeyBlock) {
    s0 = _mm256_mul_ps(_mm256_loadu_ps(scores), factor);
    s1 = _mm256_mul_ps(_mm256_loadu_ps(scores + 8), factor);
  } else {
    s0 = _mm256_blendv_ps(lowest, _mm256_mul_ps(_mm256_maskload_ps(scores, m0), factor), _mm256_castsi256_ps(m0));
    s1 = _mm256_blendv_ps(lowest, _mm256_mul_ps(_mm256_maskload_ps(scores + 8, m1), factor), _mm256_castsi256_ps(m1));
  }
  // max() returns its second operand where the first is NaN: those do not count here, but spoil the sum below.
  const float peak = largest(_mm256_max_ps(s0, _mm256_max_ps(s1, lowest)));
  const float shrink = raise_max(peak, max);
  const __m256 shift = _mm256_set1_ps(*max);
  s0 = exp_negative(_mm256_sub_ps(s0, shift));
  s1 = exp_negative(_mm256_sub_ps(s1, shift));
  if (count == kKeyBlock) {
    _mm256_storeu_ps(scores, s0);
    _mm256_storeu_ps(scores + 8, s1);
  } else {
    _mm256_maskstore_ps(scores, m0, s0);
    _mm256_maskstore_ps(scores + 8, m1, s1);
  }
  const __m256 both = _mm256_add_ps(s0, s1), none = _mm256_setzero_ps();
  *sum = *sum * shrink + _mm_cvtss_f32(lane_sums(both, none, none, none));
  return shrink;
}

// With e = exp(-|x|), which cannot overflow: x / (1 + e) for x >= 0 and x * e / (1 + e) below.
INLINE __m256 silu_of(__m256 v) {
  const __m256 e = exp_negative(_mm256_or_ps(v, _mm256_set1_ps(-0.0f)));
  const __m256 negative = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ);
  const __m256 numerator = _mm256_blendv_ps(v, _mm256_mul_ps(v, e), negative);
  return _mm256_div_ps(numerator, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

KERNEL void silu(float* x, int n) {
  int i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(x + i, silu_of(_mm256_loadu_ps(x + i)));
  if (i == n) return;
  const __m256i m = first_lanes(n - i);  // masked stores are slow on some processors
  _mm256_maskstore_ps(x + i, m, silu_of(_mm256_maskload_ps(x + i, m)));
}

}  // namespace

#ifndef BLOCKFFN_AVX_VNNI
void avx2::tiles_fp32(const TileArgs& a) { multiply(kFp32Shapes, kTokenBlock, kStreamedTokens, a); }
#endif

const Kernels KERNELS_TABLE = {KERNELS_NAME, avx2::tiles_fp32, tiles_int8,  tiles_int4, quantize_row, axpy, scale, silu,
                               dots,         softmax,          weighted_sum};

}  // namespace blockffn
#endif
