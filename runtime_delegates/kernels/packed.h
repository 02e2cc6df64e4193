// Views of packed weights. export/pack.py writes these bytes and documents them; nothing is copied.
//
// Matrix   64-byte header, then groups * ceil(rows / 8) tiles.
// Tile     8 rows; row r of a tile is output row 8 * tile + r, rows past the end are zero.
//   fp32   [K][8] float, padded to 64 bytes
//   int8   [ceil(K/8)][8 rows][8 columns] int8, then 8 fp16 scales, 8 int32 row sums, 16 zero bytes
//   int4   [ceil(K/32)][2][8 rows][8 bytes]: byte b of half h holds column 8h+b of the group in its
//          low nibble and column 16+8h+b in its high one, as value + 8; then [ceil(K/32)][8] fp16
//          scales, padded to 64 bytes
// Ffn      128-byte header, the router (a matrix), its norm weight (float[E]), then one region per
//          expert: the tiles of up [F, D], then those of down [D, F].
#pragma once

#include <cstring>

#include "contract.h"

namespace blockffn {

constexpr uint16_t kPackVersion = 1;  // of export/pack.py

struct Matrix {
  Quant quant = Quant::kFp32;
  int groups = 0;  // stacked matrices of equal shape (one per head); 1 for a plain linear layer
  int rows = 0;    // of one group
  int cols = 0;
  size_t tile_bytes = 0;
  const uint8_t* tiles = nullptr;

  int tiles_per_group() const { return (rows + kTileRows - 1) / kTileRows; }
  size_t group_bytes() const { return tile_bytes * tiles_per_group(); }
};

enum class RouterNorm : uint8_t { kNone = 0, kRms = 1, kSum = 2 };

struct Ffn {
  Quant quant = Quant::kFp32;
  RouterNorm norm = RouterNorm::kNone;
  int hidden = 0, width = 0, experts = 0;
  float eps = 0, norm_scale = 0, out_scale = 0;
  Matrix router;
  const float* norm_weight = nullptr;  // [E]
  const uint8_t* expert_base = nullptr;
  size_t expert_stride = 0, up_bytes = 0;
  size_t up_tile_bytes = 0, down_tile_bytes = 0;

  const uint8_t* up(int e) const { return expert_base + expert_stride * e; }
  const uint8_t* down(int e) const { return up(e) + up_bytes; }
};

size_t tile_bytes(Quant quant, int cols);

// Both check every field against `bytes`, so that no later read can leave [data, data + bytes).
Status parse_matrix(const uint8_t* data, size_t bytes, Matrix* out);
Status parse_ffn(const uint8_t* data, size_t bytes, Ffn* out);

// Writes row `row` of group 0, dequantized and times `scale`, to y[cols].
void dequantize_row(const Matrix& w, int row, float scale, float* y);

// Exact, without branches so that loops vectorize, and without subnormal floats so that it does not
// depend on the processor's mode. Internal linkage: every kernel file compiles its own.
static inline float half_to_float(uint16_t h) {
  const uint32_t sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu, mantissa = h & 0x3ffu;
  const uint32_t normal = (magnitude << 13) + (magnitude < 0x7c00 ? 112u << 23 : 224u << 23);
  const uint32_t one_and_fraction = (113u << 23) | (mantissa << 13);  // 2^-14 more than the subnormal
  float f;
  std::memcpy(&f, &one_and_fraction, sizeof f);
  f -= 6.103515625e-05f;
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  bits = (magnitude < 0x400 ? bits : normal) | sign;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

}  // namespace blockffn
