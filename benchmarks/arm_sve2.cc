// Would SVE2 gain anything over NEON's dot products where vectors have 128 bits, as in phones? The inner loops of int4
// with SVE2 for arm_mca.py to schedule; the program checks them (qemu: -cpu max,sve128=on,sve256=off).
//
// What SVE2 has over NEON here: a start of a sum is loaded from 4 bytes into all lanes by a load unit alone, and masks are
// immediates. What it lacks: an instruction that takes nibbles apart, a conversion fused with the multiplication, and
// longer vectors. The vector units see as many instructions as before.
#include <arm_neon_sve_bridge.h>  // clang

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define FIXED __attribute__((arm_sve_vector_bits(128)))
typedef svint8_t Bytes FIXED;
typedef svint32_t Words FIXED;
typedef svfloat32_t Floats FIXED;

namespace sve2 {

constexpr float kShift = 12582912.0f;  // as in kernels/arm/arm.h
constexpr int32_t kShiftBits = 0x4b400000;

inline svbool_t all() { return svptrue_b8(); }
inline Bytes load(const uint8_t* p) { return svld1_s8(all(), reinterpret_cast<const int8_t*>(p)); }
inline Bytes low(Bytes v) { return svand_n_s8_x(all(), v, 15); }
inline Bytes high(Bytes v) { return svreinterpret_s8_u8(svlsr_n_u8_x(all(), svreinterpret_u8_s8(v), 4)); }
inline Floats scales_of(const uint8_t* p) {  // of 4 rows
  const svuint32_t bits = svld1uh_u32(all(), reinterpret_cast<const uint16_t*>(p));
  return svcvt_f32_f16_x(all(), svreinterpret_f16_u32(bits));
}
inline Floats add_scaled(Floats sum, Words dot, Floats scale) {
  Floats value = svreinterpret_f32_s32(dot);  // a vector operator: the intrinsic is predicated and would copy its operand
  return svmla_f32_x(all(), sum, scale, value - kShift);
}

// One token: two lanes of each row, as in dotprod.cc. x holds every 8 columns twice, start
// [groups][4][4] in every other lane.
void int4_one_token(const uint8_t* w, const uint8_t* scales, const int8_t* x, const int32_t* start, int groups,
                    float* total) {
  Floats sum[2] = {svdup_n_f32(0), svdup_n_f32(0)};
  for (int g = 0; g < groups; ++g, w += 128, scales += 16, x += 64) {
    Words dot[4];
    for (int i = 0; i < 4; ++i) {
      const Bytes w0 = load(w + 16 * i), w1 = load(w + 64 + 16 * i);
      dot[i] = svld1_s32(all(), start + 16 * g + 4 * i);
      dot[i] = svdot_s32(dot[i], low(w0), svld1_s8(all(), x));
      dot[i] = svdot_s32(dot[i], low(w1), svld1_s8(all(), x + 16));
      dot[i] = svdot_s32(dot[i], high(w0), svld1_s8(all(), x + 32));
      dot[i] = svdot_s32(dot[i], high(w1), svld1_s8(all(), x + 48));
    }
    for (int h = 0; h < 2; ++h) {  // pairs of lanes; SVE2's own addp interleaves its operands, NEON's has the order needed
      const int32x4_t rows = vpaddq_s32(svget_neonq_s32(dot[2 * h]), svget_neonq_s32(dot[2 * h + 1]));
      sum[h] = add_scaled(sum[h], svset_neonq_s32(svundef_s32(), rows), scales_of(scales + 8 * h));
    }
  }
  svst1_f32(all(), total, sum[0]);
  svst1_f32(all(), total + 4, sum[1]);
}

// Eight tokens with 4 of the 8 rows, sdot by lane. start [groups][8].
void int4_eight_tokens(const uint8_t* w, const uint8_t* scales, const int8_t* const* x, const int32_t* start, int groups,
                       float* total) {
  constexpr int kTokens = 8, kPart = 4;
  Floats sum[kTokens];
  for (int t = 0; t < kTokens; ++t) sum[t] = svdup_n_f32(0);
  for (int g = 0; g < groups; ++g, w += 128, scales += 16) {
    Bytes column[8];
    for (int h = 0; h < 2; ++h) {
      const svint32_t a = svreinterpret_s32_s8(load(w + 64 * h)), b = svreinterpret_s32_s8(load(w + 64 * h + 16));
      const Bytes first = svreinterpret_s8_s32(svuzp1_s32(a, b)), last = svreinterpret_s8_s32(svuzp2_s32(a, b));
      column[2 * h] = low(first), column[2 * h + 1] = low(last);
      column[4 + 2 * h] = high(first), column[5 + 2 * h] = high(last);
    }
    const Floats scale = scales_of(scales);
    for (int part = 0; part < kTokens; part += kPart) {
      Words dot[kPart];
      for (int t = 0; t < kPart; ++t) dot[t] = svdup_n_s32(start[g * kTokens + part + t]);
      for (int h = 0; h < 2; ++h) {
        Bytes xt[kPart];
        for (int t = 0; t < kPart; ++t) xt[t] = svld1_s8(all(), x[part + t] + 32 * g + 16 * h);
        for (int t = 0; t < kPart; ++t) dot[t] = svdot_lane_s32(dot[t], column[4 * h], xt[t], 0);
        for (int t = 0; t < kPart; ++t) dot[t] = svdot_lane_s32(dot[t], column[4 * h + 1], xt[t], 1);
        for (int t = 0; t < kPart; ++t) dot[t] = svdot_lane_s32(dot[t], column[4 * h + 2], xt[t], 2);
        for (int t = 0; t < kPart; ++t) dot[t] = svdot_lane_s32(dot[t], column[4 * h + 3], xt[t], 3);
      }
      for (int t = 0; t < kPart; ++t) sum[part + t] = add_scaled(sum[part + t], dot[t], scale);
      for (int t = 0; t < kPart; ++t) asm volatile("" : "+w"(sum[part + t]) : : "memory");  // as in dotprod.cc
    }
  }
  for (int t = 0; t < kTokens; ++t) svst1_f32(all(), total + 4 * t, sum[t]);
}

// Eight tokens with 4 of the 8 rows, smmla. x: 8 columns of a pair's tokens, [groups][4][4 pairs]; start [groups][4 pairs][4].
void int4_four_pairs(const uint8_t* w, const uint8_t* scales, const int8_t* x, const int32_t* start, int groups,
                     float* total) {
  constexpr int kPairs = 4;
  Floats sum[kPairs][2];
  for (int p = 0; p < kPairs; ++p) sum[p][0] = sum[p][1] = svdup_n_f32(0);
  for (int g = 0; g < groups; ++g, w += 128, scales += 16, x += 64 * kPairs, start += 4 * kPairs) {
    const Floats once = scales_of(scales), scale[2] = {svzip1_f32(once, once), svzip2_f32(once, once)};
    for (int i = 0; i < 2; ++i) {
      const Bytes w0 = load(w + 16 * i), w1 = load(w + 64 + 16 * i), column[4] = {low(w0), low(w1), high(w0), high(w1)};
      Words dot[kPairs];
      for (int p = 0; p < kPairs; ++p) dot[p] = svld1_s32(all(), start + 4 * p);
      for (int j = 0; j < 4; ++j)
        for (int p = 0; p < kPairs; ++p)
          dot[p] = svmmla_s32(dot[p], column[j], svld1_s8(all(), x + 16 * (j * kPairs + p)));
      for (int p = 0; p < kPairs; ++p) sum[p][i] = add_scaled(sum[p][i], dot[p], scale[i]);
    }
  }
  for (int p = 0; p < kPairs; ++p)
    for (int i = 0; i < 2; ++i) svst1_f32(all(), total + 8 * p + 4 * i, sum[p][i]);
}

}  // namespace sve2

// Each loop against plain ones, over random operands.
int main() {
  constexpr int kGroups = 7, kTokens = 8, kRows = 8;
  static uint8_t w[kGroups * 128], scales[kGroups * 16];
  static int8_t x[kTokens][kGroups * 32], twice[kGroups * 64], pairs[kGroups * 256];
  static int32_t start[kGroups * kTokens], start_one[kGroups * 16], start_pairs[kGroups * 16];
  uint32_t seed = 1;
  const auto random = [&] { return (seed = seed * 1664525 + 1013904223) >> 16; };
  for (auto& v : w) v = random();
  for (auto& row : x)
    for (auto& v : row) v = static_cast<int>(random() % 255) - 127;
  for (int i = 0; i < kGroups * kRows; ++i) {
    const uint16_t half = 0x2000 + random() % 0x400;  // 2^-7 .. 2^-6
    std::memcpy(scales + 2 * i, &half, 2);
  }
  for (int g = 0; g < kGroups; ++g)
    for (int t = 0; t < kTokens; ++t) {
      int sum = 0;
      for (int k = 0; k < 32; ++k) sum += x[t][32 * g + k];
      start[g * kTokens + t] = sve2::kShiftBits - 8 * sum;
      for (int r = 0; r < 2; ++r) start_pairs[g * 16 + t / 2 * 4 + 2 * r + t % 2] = start[g * kTokens + t];
      for (int i = 0; t == 0 && i < 16; i += 2) start_one[16 * g + i] = start[g * kTokens];
      for (int j = 0; j < 4; ++j) std::memcpy(pairs + ((g * 4 + j) * 4 + t / 2) * 16 + t % 2 * 8, x[t] + 32 * g + 8 * j, 8);
      for (int j = 0; t == 0 && j < 8; ++j) std::memcpy(twice + 64 * g + 8 * j, x[0] + 32 * g + j / 2 * 8, 8);
    }
  const int8_t* rows[kTokens];
  for (int t = 0; t < kTokens; ++t) rows[t] = x[t];
  float one[8], eight[32], matrix[32];
  sve2::int4_one_token(w, scales, twice, start_one, kGroups, one);
  sve2::int4_eight_tokens(w, scales, rows, start, kGroups, eight);
  sve2::int4_four_pairs(w, scales, pairs, start_pairs, kGroups, matrix);
  for (int t = 0; t < kTokens; ++t)
    for (int n = 0; n < kRows; ++n) {
      double want = 0, size = 0;
      for (int g = 0; g < kGroups; ++g) {
        int dot = 0;
        for (int k = 0; k < 32; ++k) {  // bytes: columns k % 16 of rows, 8 at a time, the 16 later ones in the high half
          const uint8_t byte = w[128 * g + k % 16 / 8 * 64 + 8 * n + k % 8];
          dot += ((k < 16 ? byte & 15 : byte >> 4) - 8) * x[t][32 * g + k];
        }
        uint16_t half;
        std::memcpy(&half, scales + 16 * g + 2 * n, 2);
        const double scale = std::ldexp(1024 + half % 1024, (half >> 10) - 25);
        want += scale * dot, size += std::fabs(scale * dot);
      }
      const double bound = std::ldexp(size, -21);
      const float* got[3] = {t == 0 ? &one[n] : nullptr, n < 4 ? &eight[4 * t + n] : nullptr,
                             n < 4 ? &matrix[t / 2 * 8 + n / 2 * 4 + n % 2 * 2 + t % 2] : nullptr};
      for (int loop = 0; loop < 3; ++loop)
        if (got[loop] != nullptr && !(std::fabs(*got[loop] - want) <= bound)) {
          std::fprintf(stderr, "loop %d, token %d, row %d: %g, not %g\n", loop, t, n, *got[loop], want);
          return 1;
        }
    }
  return 0;
}
