// Plain C++ micro-kernels: the ones every CPU runs and the ones to read first.
#include <cmath>
#include <cstring>
#include <type_traits>

#include "contract.h"
#include "packed.h"

namespace blockffn {
namespace {

void load_halves(const uint8_t* p, int n, float* y) {
  for (int i = 0; i < n; ++i) {
    uint16_t h;
    std::memcpy(&h, p + 2 * i, sizeof h);
    y[i] = half_to_float(h);
  }
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

// Tokens are multiplied in blocks of kTokenBlock, so that a weight is loaded once for all of them. A
// token's own sums keep their order whatever block it falls into: the rest runs in blocks of one.
constexpr int kTokenBlock = 4;

template <class Block>
void for_token_blocks(int tokens, const Block& block) {
  int t = 0;
  for (; t + kTokenBlock <= tokens; t += kTokenBlock) block(t, std::integral_constant<int, kTokenBlock>());
  for (; t < tokens; ++t) block(t, std::integral_constant<int, 1>());
}

template <int kTokens>
void multiply_fp32(const float* w, int cols, const float* const* x, float (*acc)[kTileRows]) {
  float sum[kTokens][kTileRows] = {};
  for (int k = 0; k < cols; ++k) {
    float column[kTileRows];
    std::memcpy(column, w + static_cast<size_t>(k) * kTileRows, sizeof column);
    for (int t = 0; t < kTokens; ++t) {
      const float xk = x[t][k];
      for (int r = 0; r < kTileRows; ++r) sum[t][r] += column[r] * xk;
    }
  }
  std::memcpy(acc, sum, sizeof sum);
}

void tiles_fp32(const TileArgs& a) {
  for (int tile = 0; tile < a.tile_count; ++tile) {
    const auto* w = reinterpret_cast<const float*>(a.tiles + a.tile_bytes * tile);
    for_token_blocks(a.tokens, [&](int t, auto count) {
      const float* x[count];
      for (int i = 0; i < count; ++i) x[i] = static_cast<const float*>(a.x[t + i]);
      float acc[count][kTileRows];
      multiply_fp32<count>(w, a.cols, x, acc);
      for (int i = 0; i < count; ++i) store(a, tile, t + i, acc[i]);
    });
  }
}

// Integer weights and activations are widened to 16 bits, a few hundred columns at a time, and used from
// there: by every token the weights, by every row the activations.
constexpr int kWideCols = 256;
static_assert(kWideCols % kGroupCols == 0, "an int4 group is widened in one piece");

template <int kTokens>
void widen(const void* const* x, int first, int n, int16_t (*wide)[kWideCols]) {
  for (int t = 0; t < kTokens; ++t)
    for (int k = 0; k < n; ++k) wide[t][k] = static_cast<const int8_t*>(x[t])[first + k];
}

// dot[t] = sum_k w[k] * x[t][k]; compilers turn this loop into multiply-add instructions.
template <int kTokens>
void dot_int16(const int16_t* w, const int16_t* x, int n, int32_t* dot) {
  int32_t sum[kTokens] = {};
  for (int k = 0; k < n; ++k)
    for (int t = 0; t < kTokens; ++t) sum[t] += static_cast<int32_t>(w[k]) * x[t * kWideCols + k];
  std::memcpy(dot, sum, sizeof sum);
}

void tiles_int8(const TileArgs& a) {
  const int cols = static_cast<int>(padded_cols(Quant::kInt8, a.cols));
  for (int tile = 0; tile < a.tile_count; ++tile) {
    const uint8_t* w = a.tiles + a.tile_bytes * tile;
    float scale[kTileRows];
    load_halves(w + static_cast<size_t>(cols) * kTileRows, kTileRows, scale);
    int32_t total[kMaxTokens][kTileRows] = {};
    for (int first = 0; first < cols; first += kWideCols) {
      const int n = cols - first < kWideCols ? cols - first : kWideCols;
      const uint8_t* part = w + static_cast<size_t>(first) * kTileRows;
      int16_t wide[kTileRows][kWideCols];
      for (int b = 0; b < n / 8; ++b)
        for (int r = 0; r < kTileRows; ++r)
          for (int j = 0; j < 8; ++j) wide[r][b * 8 + j] = static_cast<int8_t>(part[b * 64 + r * 8 + j]);
      for_token_blocks(a.tokens, [&](int t, auto count) {
        int16_t x[count][kWideCols];
        widen<count>(a.x + t, first, n, x);
        for (int r = 0; r < kTileRows; ++r) {
          int32_t dot[count];
          dot_int16<count>(wide[r], x[0], n, dot);
          for (int i = 0; i < count; ++i) total[t + i][r] += dot[i];
        }
      });
    }
    for (int t = 0; t < a.tokens; ++t) {
      float acc[kTileRows];
      for (int r = 0; r < kTileRows; ++r) acc[r] = scale[r] * static_cast<float>(total[t][r]);
      store(a, tile, t, acc);
    }
  }
}

void tiles_int4(const TileArgs& a) {
  const int cols = static_cast<int>(padded_cols(Quant::kInt4, a.cols));
  for (int tile = 0; tile < a.tile_count; ++tile) {
    const uint8_t* w = a.tiles + a.tile_bytes * tile;
    const uint8_t* scales = w + static_cast<size_t>(cols) * kTileRows / 2;
    float acc[kMaxTokens][kTileRows] = {};
    for (int first = 0; first < cols; first += kWideCols) {
      const int n = cols - first < kWideCols ? cols - first : kWideCols, groups = n / kGroupCols,
                first_group = first / kGroupCols;
      const uint8_t* part = w + static_cast<size_t>(first) * kTileRows / 2;
      int16_t wide[kTileRows][kWideCols];  // values 0..15; the 8 comes off below
      float scale[kWideCols / kGroupCols * kTileRows];
      load_halves(scales + static_cast<size_t>(first_group) * kTileRows * 2, groups * kTileRows, scale);
      for (int g = 0; g < groups; ++g) {
        // Spread over 16 bits in the packed order first, which vectorizes; then rows of 8 move as a whole.
        int16_t low[128], high[128];
        for (int i = 0; i < 128; ++i) {
          low[i] = part[g * 128 + i] & 15;
          high[i] = part[g * 128 + i] >> 4;
        }
        for (int i = 0; i < 128; i += 8) {
          int16_t* columns = &wide[i / 8 % kTileRows][g * kGroupCols + i / 64 * 8];
          std::memcpy(columns, low + i, 8 * sizeof(int16_t));
          std::memcpy(columns + 16, high + i, 8 * sizeof(int16_t));
        }
      }
      for_token_blocks(a.tokens, [&](int t, auto count) {
        int16_t x[count][kWideCols];
        widen<count>(a.x + t, first, n, x);
        for (int g = 0; g < groups; ++g)
          for (int r = 0; r < kTileRows; ++r) {
            int32_t dot[count];
            dot_int16<count>(wide[r] + g * kGroupCols, x[0] + g * kGroupCols, kGroupCols, dot);
            for (int i = 0; i < count; ++i)
              acc[t + i][r] += scale[g * kTileRows + r] * static_cast<float>(dot[i] + a.starts[t + i][first_group + g]);
          }
      });
    }
    for (int t = 0; t < a.tokens; ++t) store(a, tile, t, acc[t]);
  }
}

// Nearest integer, ties to even, for |x| < 2^22; unlike std::nearbyint it vectorizes on every CPU.
float round_half_even(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the sum has no bits left for a fraction
  return (x + kShift) - kShift;
}

void quantize_row(const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts) {
  int32_t peak_bits = 0;  // magnitudes order like their bit patterns, with infinity and NaN last
  for (int k = 0; k < cols; ++k) {
    int32_t bits;
    std::memcpy(&bits, x + k, sizeof bits);
    bits &= 0x7fffffff;
    peak_bits = bits > peak_bits ? bits : peak_bits;
  }
  float inverse;
  if (!begin_row(peak_bits, padded, q, scale, starts, &inverse)) return;
  for (int k = 0; k < cols; ++k) q[k] = static_cast<int8_t>(round_half_even(x[k] * inverse));
  for (int k = cols; k < padded; ++k) q[k] = 0;
  if (starts == nullptr) return;
  for (int g = 0; g < padded / kGroupCols; ++g) {
    int32_t sum = 0;
    for (int k = 0; k < kGroupCols; ++k) sum += q[g * kGroupCols + k];
    starts[g] = -8 * sum;
  }
}

void dots(const float* const* queries, int query_count, const float* const* keys, int count, int n, float* scores) {
  for (int q = 0; q < query_count; ++q)
    for (int r = 0; r < count; ++r) {
      const float *a = queries[q], *b = keys[r];
      float lane[8] = {};  // fixed partial sums: the order does not depend on the compiler's vector width
      int i = 0;
      for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; ++j) lane[j] += a[i + j] * b[i + j];
      for (int j = 0; i < n; ++i, ++j) lane[j] += a[i] * b[i];
      scores[q * kKeyBlock + r] =
          ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    }
}

float softmax(float* scores, int count, float scale, float* max, float* sum) {
  float peak = *max;
  for (int i = 0; i < count; ++i) {
    scores[i] *= scale;
    if (scores[i] > peak) peak = scores[i];
  }
  const float shrink = raise_max(peak, max);
  *sum *= shrink;
  for (int i = 0; i < count; ++i) *sum += scores[i] = std::exp(scores[i] - peak);
  return shrink;
}

void axpy(float a, const float* x, float* y, int n) {
  for (int i = 0; i < n; ++i) y[i] += a * x[i];
}

void weighted_sum(const float* weights, const float* const* rows, int count, float* y, int n) {
  for (int r = 0; r < count; ++r) axpy(weights[r], rows[r], y, n);
}

void scale(float a, float* y, int n) {
  for (int i = 0; i < n; ++i) y[i] *= a;
}

void silu(float* x, int n) {
  for (int i = 0; i < n; ++i) {
    const float e = std::exp(-std::fabs(x[i]));  // cannot overflow
    x[i] = (x[i] < 0 ? x[i] * e : x[i]) / (1.0f + e);
  }
}

}  // namespace

const Kernels kPortableKernels = {"portable", tiles_fp32, tiles_int8, tiles_int4, quantize_row, axpy,
                                  scale,      silu,       dots,       softmax,    weighted_sum};

}  // namespace blockffn
