// Plain C++ micro-kernels: the ones every CPU runs and the ones to read first.
#include <cmath>
#include <cstring>

#include "contract.h"
#include "packed.h"

namespace blockffn {
namespace {

float load_half(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, sizeof h);
  return half_to_float(h);
}

// Stores the results of one tile for one token, leaving out rows past the end of the matrix.
void store(const TileArgs& a, int tile, int token, const float* acc) {
  float* y = a.y[token] + tile * kTileRows;
  const int valid = a.rows - tile * kTileRows < kTileRows ? a.rows - tile * kTileRows : kTileRows;
  for (int r = 0; r < valid; ++r) {
    const float v = a.factor[token] * acc[r];
    y[r] = a.accumulate ? y[r] + v : v;
  }
}

void tiles_fp32(const TileArgs& a) {
  for (int tile = 0; tile < a.tile_count; ++tile) {
    const uint8_t* w = a.tiles + a.tile_bytes * tile;
    for (int t = 0; t < a.tokens; ++t) {
      const float* x = static_cast<const float*>(a.x[t]);
      float acc[kTileRows] = {};
      for (int k = 0; k < a.cols; ++k) {
        float column[kTileRows];
        std::memcpy(column, w + static_cast<size_t>(k) * sizeof column, sizeof column);
        for (int r = 0; r < kTileRows; ++r) acc[r] += column[r] * x[k];
      }
      store(a, tile, t, acc);
    }
  }
}

void tiles_int8(const TileArgs& a) {
  const int blocks = static_cast<int>(padded_cols(Quant::kInt8, a.cols)) / 8;
  for (int tile = 0; tile < a.tile_count; ++tile) {
    const uint8_t* w = a.tiles + a.tile_bytes * tile;
    float scale[kTileRows];
    for (int r = 0; r < kTileRows; ++r) scale[r] = load_half(w + static_cast<size_t>(blocks) * 64 + 2 * r);
    for (int t = 0; t < a.tokens; ++t) {
      const int8_t* x = static_cast<const int8_t*>(a.x[t]);
      int32_t dot[kTileRows] = {};
      for (int b = 0; b < blocks; ++b) {
        const int8_t* block = reinterpret_cast<const int8_t*>(w) + static_cast<size_t>(b) * 64;
        for (int r = 0; r < kTileRows; ++r)
          for (int j = 0; j < 8; ++j) dot[r] += block[r * 8 + j] * x[b * 8 + j];
      }
      float acc[kTileRows];
      for (int r = 0; r < kTileRows; ++r) acc[r] = scale[r] * static_cast<float>(dot[r]);
      store(a, tile, t, acc);
    }
  }
}

void tiles_int4(const TileArgs& a) {
  const int groups = static_cast<int>(padded_cols(Quant::kInt4, a.cols)) / kGroupCols;
  for (int tile = 0; tile < a.tile_count; ++tile) {
    const uint8_t* w = a.tiles + a.tile_bytes * tile;
    const uint8_t* scales = w + static_cast<size_t>(groups) * 128;
    float acc[kMaxTokens][kTileRows] = {};
    for (int g = 0; g < groups; ++g) {
      // Unpacked once per group and used by every token; values are 0..15, the 8 comes off below.
      int8_t value[kTileRows][kGroupCols];
      for (int half = 0; half < 2; ++half)
        for (int r = 0; r < kTileRows; ++r)
          for (int b = 0; b < 8; ++b) {
            const uint8_t byte = w[static_cast<size_t>(g) * 128 + half * 64 + r * 8 + b];
            value[r][half * 8 + b] = byte & 15;
            value[r][16 + half * 8 + b] = byte >> 4;
          }
      float scale[kTileRows];
      for (int r = 0; r < kTileRows; ++r) scale[r] = load_half(scales + (static_cast<size_t>(g) * kTileRows + r) * 2);
      for (int t = 0; t < a.tokens; ++t) {
        const int8_t* x = static_cast<const int8_t*>(a.x[t]) + g * kGroupCols;
        const int32_t offset = 8 * a.group_sums[t][g];
        for (int r = 0; r < kTileRows; ++r) {
          int32_t dot = -offset;
          for (int k = 0; k < kGroupCols; ++k) dot += value[r][k] * x[k];
          acc[t][r] += scale[r] * static_cast<float>(dot);
        }
      }
    }
    for (int t = 0; t < a.tokens; ++t) store(a, tile, t, acc[t]);
  }
}

// Nearest integer, ties to even, for |x| < 2^22; unlike std::nearbyint it vectorizes on every CPU.
float round_half_even(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the sum has no bits left for a fraction
  return (x + kShift) - kShift;
}

void quantize_row(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* sums) {
  int32_t peak_bits = 0;  // magnitudes order like their bit patterns, with infinity and NaN last
  for (int k = 0; k < cols; ++k) {
    int32_t bits;
    std::memcpy(&bits, x + k, sizeof bits);
    bits &= 0x7fffffff;
    peak_bits = bits > peak_bits ? bits : peak_bits;
  }
  float peak;
  std::memcpy(&peak, &peak_bits, sizeof peak);
  if (!(peak >= kSmallestPeak) || std::isinf(peak)) {
    *scale = std::isfinite(peak) ? 0.0f : NAN;
    std::memset(q, 0, padded);
    if (sums != nullptr) std::memset(sums, 0, sizeof(int32_t) * (padded / kGroupCols));
    return;
  }
  const float inverse = 127.0f / peak;
  *scale = peak / 127.0f;
  for (int k = 0; k < cols; ++k) q[k] = static_cast<int8_t>(round_half_even(x[k] * inverse));
  for (int k = cols; k < padded; ++k) q[k] = 0;
  if (sums == nullptr) return;
  for (int g = 0; g < padded / kGroupCols; ++g) {
    int32_t sum = 0;
    for (int k = 0; k < kGroupCols; ++k) sum += q[g * kGroupCols + k];
    sums[g] = sum;
  }
}

float dot(const float* a, const float* b, int n) {
  float lane[8] = {};  // fixed partial sums: the order does not depend on the compiler's vector width
  int i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) lane[j] += a[i + j] * b[i + j];
  for (int j = 0; i < n; ++i, ++j) lane[j] += a[i] * b[i];
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

void axpy(float a, const float* x, float* y, int n) {
  for (int i = 0; i < n; ++i) y[i] += a * x[i];
}

void scale(float a, float* y, int n) {
  for (int i = 0; i < n; ++i) y[i] *= a;
}

void silu(float* x, int n) {
  for (int i = 0; i < n; ++i) x[i] = x[i] / (1.0f + std::exp(-x[i]));
}

}  // namespace

const Kernels kPortableKernels = {"portable", tiles_fp32, tiles_int8, tiles_int4, quantize_row, dot, axpy, scale, silu};

const Kernels& select_kernels() { return kPortableKernels; }

}  // namespace blockffn
