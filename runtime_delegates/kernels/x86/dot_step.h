// The steps in which avx2.cc and avx_vnni.cc, the same loops compiled once more, differ: how products of bytes are
// added up. Both multiply unsigned by signed bytes; the sums are exact, so the two give the same bits.
//
// AVX2 adds two products in 16 bits, which must not overflow. int8: |weight| * (x with the weight's sign) = weight * x;
// the magnitudes are at most 128 and 127. int4: 16 * 15 * 127 < 2^15, so a group is added up before it is widened.
// AVX-VNNI adds four products to 32 bits in one instruction. int8: the weights are offset by 128, and sums start
// at what that adds too much; they wrap around modulo 2^32 and the result fits again.
// int4 weights are 0..15 as they are stored, in both; TileArgs::starts makes up for it.
#pragma once

#include <immintrin.h>

#include "avx2.h"

#ifdef BLOCKFFN_AVX_VNNI
#define KERNEL __attribute__((target("avx2,fma,f16c,avxvnni")))
#define KERNELS_TABLE kAvxVnniKernels
#define KERNELS_NAME "avx_vnni"
#else
#define KERNEL __attribute__((target("avx2,fma,f16c")))
#define KERNELS_TABLE kAvx2Kernels
#define KERNELS_NAME "avx2"
#endif
#define INLINE KERNEL inline __attribute__((always_inline))

namespace blockffn {
namespace {

#ifdef BLOCKFFN_AVX_VNNI

// Four products each of the bytes u = 0..255 and s = -128..127.
INLINE __m256i add_products(__m256i sum, __m256i u, __m256i s) { return _mm256_dpbusd_avx_epi32(sum, u, s); }

// TileArgs whose starts are those of the sums of int8_block, -128 * the sum of the activations.
struct Int8Args {
  TileArgs args;
  int32_t starts[kMaxTokens];
  const int32_t* of_token[kMaxTokens];

  KERNEL explicit Int8Args(const TileArgs& a) : args(a) {
    const int padded = static_cast<int>(padded_cols(Quant::kInt8, a.cols));
    for (int t = 0; t < a.tokens; ++t) {
      const auto* x = static_cast<const int8_t*>(a.x[t]);
      __m256i sums = _mm256_setzero_si256();
      int k = 0;
      for (; k + 32 <= padded; k += 32)
        sums = add_products(sums, _mm256_set1_epi8(1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k)));
      int32_t lane[8], sum = 0;
      std::memcpy(lane, &sums, sizeof lane);
      for (int32_t v : lane) sum += v;
      for (; k < padded; ++k) sum += x[k];
      starts[t] = -128 * sum;
      of_token[t] = starts + t;
    }
    args.starts = of_token;
  }
};
INLINE int32_t int8_start(const TileArgs& a, int token) { return a.starts[token][0]; }

INLINE __m256i int8_factor(__m256i weight) { return _mm256_xor_si256(weight, _mm256_set1_epi8(-128)); }
INLINE __m256i add_int8(__m256i sum, __m256i factor, __m256i, __m256i column) {
  return add_products(sum, factor, column);
}

INLINE __m256i begin_int4(int32_t start) { return _mm256_set1_epi32(start); }
INLINE __m256i add_int4(__m256i sum, __m256i w0, __m256i x0, __m256i w1, __m256i x1) {
  return add_products(add_products(sum, w0, x0), w1, x1);
}
INLINE __m256i end_int4(__m256i sum, int32_t) { return sum; }

// Sums of the lanes of four registers of columns.
INLINE __m256i int4_lanes(const __m256i w[4], const __m256i x[4]) {
  return add_int4(add_int4(_mm256_setzero_si256(), w[0], x[0], w[1], x[1]), w[2], x[2], w[3], x[3]);
}

#else

struct Int8Args {
  const TileArgs& args;
};
INLINE int32_t int8_start(const TileArgs&, int) { return 0; }

INLINE __m256i int8_factor(__m256i weight) { return _mm256_abs_epi8(weight); }
INLINE __m256i add_int8(__m256i sum, __m256i factor, __m256i weight, __m256i column) {
  const __m256i products = _mm256_maddubs_epi16(factor, _mm256_sign_epi8(column, weight));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}

INLINE __m256i begin_int4(int32_t) { return _mm256_setzero_si256(); }
INLINE __m256i add_int4(__m256i sum, __m256i w0, __m256i x0, __m256i w1, __m256i x1) {
  const __m256i p0 = _mm256_maddubs_epi16(w0, x0), p1 = _mm256_maddubs_epi16(w1, x1);
  return _mm256_add_epi16(_mm256_add_epi16(sum, p0), p1);
}
INLINE __m256i end_int4(__m256i sum, int32_t start) {
  return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), _mm256_set1_epi32(start));
}

INLINE __m256i int4_lanes(const __m256i w[4], const __m256i x[4]) {
  const __m256i products =
      _mm256_add_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(w[0], x[0]), _mm256_maddubs_epi16(w[1], x[1])),
                       _mm256_add_epi16(_mm256_maddubs_epi16(w[2], x[2]), _mm256_maddubs_epi16(w[3], x[3])));
  return _mm256_madd_epi16(products, _mm256_set1_epi16(1));
}

#endif

}  // namespace
}  // namespace blockffn
