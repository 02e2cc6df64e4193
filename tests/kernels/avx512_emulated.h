// Intrinsics of AVX-512 and AVX-VNNI for processors without them: SIMDe's, and those that its version in Debian 12 lacks or gets wrong.
// test_avx512_emulated.py compiles avx512_vnni.cc and avx_vnni.cc with it, to check results. Slow and plain on purpose.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

template <class To, class From>
inline To as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a register is reinterpreted");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
template <class T, int kLanes>
struct Lanes {
  T v[kLanes];
};
using F16 = Lanes<float, 16>;
using I16 = Lanes<int32_t, 16>;

// A register from a function of the lane's number.
template <class Register, class L, class F>
inline Register each(const F& f) {
  L out;
  for (size_t i = 0; i < sizeof out.v / sizeof out.v[0]; ++i) out.v[i] = f(i);
  return as<Register>(out);
}
template <class Register, class T, int kLanes>
inline Register masked_load(uint32_t mask, const void* p) {
  return each<Register, Lanes<T, kLanes>>([&](size_t i) {
    T v = 0;
    if (mask >> i & 1) std::memcpy(&v, static_cast<const T*>(p) + i, sizeof v);
    return v;
  });
}
template <class T, int kLanes, class Register>
inline void masked_store(void* p, uint32_t mask, Register value) {
  const auto lanes = as<Lanes<T, kLanes>>(value);
  for (int i = 0; i < kLanes; ++i)
    if (mask >> i & 1) std::memcpy(static_cast<T*>(p) + i, lanes.v + i, sizeof(T));
}
template <int kLanes, class Register>
inline Register dpbusd(Register sum, Register u, Register s) {
  const auto start = as<Lanes<int32_t, kLanes>>(sum);
  const auto a = as<Lanes<uint8_t, kLanes * 4>>(u);
  const auto b = as<Lanes<int8_t, kLanes * 4>>(s);
  return each<Register, Lanes<int32_t, kLanes>>([&](size_t i) {
    uint32_t lane = static_cast<uint32_t>(start.v[i]);  // wraps around, as the instruction does
    for (size_t k = 4 * i; k < 4 * i + 4; ++k) lane += static_cast<uint32_t>(a.v[k] * b.v[k]);
    return static_cast<int32_t>(lane);
  });
}
inline simde__m512 from_half(simde__m256i h) {
  const auto bits = as<Lanes<simde__m128i, 2>>(h);
  return as<simde__m512>(Lanes<simde__m256, 2>{{simde_mm256_cvtph_ps(bits.v[0]), simde_mm256_cvtph_ps(bits.v[1])}});
}
inline simde__m512 to_float(simde__m512i v) {
  return each<simde__m512, F16>([l = as<I16>(v)](size_t i) { return static_cast<float>(l.v[i]); });
}
inline simde__m512i to_int(simde__m512 v, int) {
  return each<simde__m512i, I16>([l = as<F16>(v)](size_t i) { return static_cast<int32_t>(std::nearbyint(l.v[i])); });
}
inline simde__m512 rounded(simde__m512 v, int) {
  return each<simde__m512, F16>([l = as<F16>(v)](size_t i) { return std::nearbyint(l.v[i]); });
}
inline simde__m512 scalef(simde__m512 a, simde__m512 b) {
  return each<simde__m512, F16>(
      [x = as<F16>(a), n = as<F16>(b)](size_t i) { return std::ldexp(x.v[i], static_cast<int>(n.v[i])); });
}
inline simde__m512i masked_set(uint32_t mask, int32_t v) {
  return each<simde__m512i, I16>([=](size_t i) { return mask >> i & 1 ? v : 0; });
}
inline float sum(simde__m512 v) {
  auto l = as<F16>(v);
  for (int step = 8; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) l.v[i] += l.v[i + step];
  return l.v[0];
}
inline int32_t sum(simde__m512i v) {
  int32_t total = 0;
  for (int32_t lane : as<I16>(v).v) total += lane;
  return total;
}
inline int32_t largest(simde__m512i v) {
  int32_t most = INT32_MIN;
  for (int32_t lane : as<I16>(v).v) most = lane > most ? lane : most;
  return most;
}
inline float largest(simde__m512 v) {
  float lane[16], most = -INFINITY;
  std::memcpy(lane, &v, sizeof lane);
  for (float value : lane) most = value > most ? value : most;
  return most;
}
inline void store_bytes(void* p, uint32_t mask, simde__m512i v) {
  const auto l = as<I16>(v);
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) static_cast<int8_t*>(p)[i] = static_cast<int8_t>(l.v[i]);
}
inline simde__m256 half_of(simde__m512 v, int i) { return as<Lanes<simde__m256, 2>>(v).v[i]; }

}  // namespace emulated

#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps emulated::from_half
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps emulated::to_float
#undef _mm512_cvt_roundps_epi32
#define _mm512_cvt_roundps_epi32 emulated::to_int
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps emulated::rounded
#undef _mm512_scalef_ps
#define _mm512_scalef_ps emulated::scalef
#undef _mm512_maskz_set1_epi32
#define _mm512_maskz_set1_epi32 emulated::masked_set
#undef _mm512_reduce_add_ps
#define _mm512_reduce_add_ps emulated::sum
#undef _mm512_reduce_add_epi32
#define _mm512_reduce_add_epi32 emulated::sum
#undef _mm512_reduce_max_ps
#define _mm512_reduce_max_ps emulated::largest
#undef _mm512_reduce_max_epi32
#define _mm512_reduce_max_epi32 emulated::largest
#undef _mm512_mask_cvtepi32_storeu_epi8
#define _mm512_mask_cvtepi32_storeu_epi8 emulated::store_bytes
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps emulated::half_of
#undef _mm512_dpbusd_epi32
#define _mm512_dpbusd_epi32 emulated::dpbusd<16>
#undef _mm256_dpbusd_epi32
#define _mm256_dpbusd_epi32 emulated::dpbusd<8>
#undef _mm256_dpbusd_avx_epi32
#define _mm256_dpbusd_avx_epi32 emulated::dpbusd<8>
#undef _mm256_maskz_loadu_ps
#define _mm256_maskz_loadu_ps emulated::masked_load<simde__m256, float, 8>
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps emulated::masked_load<simde__m512, float, 16>
#undef _mm512_maskz_loadu_epi32
#define _mm512_maskz_loadu_epi32 emulated::masked_load<simde__m512i, int32_t, 16>
#undef _mm512_maskz_loadu_epi64
#define _mm512_maskz_loadu_epi64 emulated::masked_load<simde__m512i, int64_t, 8>
#undef _mm256_mask_storeu_ps
#define _mm256_mask_storeu_ps emulated::masked_store<float, 8>
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps emulated::masked_store<float, 16>
