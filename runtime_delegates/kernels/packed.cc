#include "packed.h"

#include <cstring>

namespace blockffn {
namespace {

constexpr size_t kMatrixHeader = 64, kFfnHeader = 128;
constexpr uint32_t kMaxDim = 1u << 24;            // keeps every product below within 64 bits
constexpr uint32_t kMaxQuantizedCols = 1u << 17;  // keeps a sum of 128 * 127 per column within 32 bits

constexpr Status corrupt(const char* message) { return {Status::kCorrupt, message}; }

template <class T>
T read(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

bool is_quant(uint8_t q) { return q <= static_cast<uint8_t>(Quant::kInt4); }
bool is_dim(uint32_t n) { return n >= 1 && n <= kMaxDim; }
bool is_cols(uint32_t n, uint8_t quant) {
  return is_dim(n) && (static_cast<Quant>(quant) == Quant::kFp32 || n <= kMaxQuantizedCols);
}

}  // namespace

size_t tile_bytes(Quant quant, int cols) {
  const size_t padded = padded_cols(quant, cols);
  switch (quant) {
    case Quant::kFp32:
      return round_up(padded * kTileRows * sizeof(float), kAlign);
    case Quant::kInt8:
      return padded * kTileRows + kAlign;
    case Quant::kInt4:
      return padded * kTileRows / 2 + round_up(padded / kGroupCols * kTileRows * 2, kAlign);
  }
  return 0;
}

Status parse_matrix(const uint8_t* data, size_t bytes, Matrix* out) {
  if (data == nullptr || bytes < kMatrixHeader) return corrupt("packed matrix is shorter than its header");
  if (std::memcmp(data, "BFMX", 4) != 0) return corrupt("packed matrix has a wrong magic number");
  if (read<uint16_t>(data + 4) != kPackVersion)
    return corrupt("packed matrix has an unknown format version; export the model again");
  if (!is_quant(data[6])) return corrupt("packed matrix has an unknown quantization");
  const uint32_t groups = read<uint32_t>(data + 8), rows = read<uint32_t>(data + 12), cols = read<uint32_t>(data + 16);
  if (!is_dim(groups) || !is_dim(rows) || !is_cols(cols, data[6]))
    return corrupt("packed matrix has an impossible shape");
  Matrix m;
  m.quant = static_cast<Quant>(data[6]);
  m.groups = static_cast<int>(groups);
  m.rows = static_cast<int>(rows);
  m.cols = static_cast<int>(cols);
  m.tile_bytes = tile_bytes(m.quant, m.cols);
  m.tiles = data + kMatrixHeader;
  // groups <= 2^24 and tiles <= 2^21 cannot overflow; their product with tile_bytes might.
  const uint64_t tiles = static_cast<uint64_t>(groups) * m.tiles_per_group();
  if (tiles > (bytes - kMatrixHeader) / m.tile_bytes) return corrupt("packed matrix is truncated");
  *out = m;
  return kStatusOk;
}

Status parse_ffn(const uint8_t* data, size_t bytes, Ffn* out) {
  if (data == nullptr || bytes < kFfnHeader) return corrupt("packed FFN is shorter than its header");
  if (std::memcmp(data, "BFFF", 4) != 0) return corrupt("packed FFN has a wrong magic number");
  if (read<uint16_t>(data + 4) != kPackVersion)
    return corrupt("packed FFN has an unknown format version; export the model again");
  if (!is_quant(data[6])) return corrupt("packed FFN has an unknown quantization");
  if (data[7] > static_cast<uint8_t>(RouterNorm::kSum)) return corrupt("packed FFN has an unknown router norm");
  const uint32_t hidden = read<uint32_t>(data + 8), width = read<uint32_t>(data + 12),
                 experts = read<uint32_t>(data + 16);
  if (!is_cols(hidden, data[6]) || !is_cols(width, data[6]) || !is_dim(experts))
    return corrupt("packed FFN has an impossible shape");
  Ffn f;
  f.quant = static_cast<Quant>(data[6]);
  f.norm = static_cast<RouterNorm>(data[7]);
  f.hidden = static_cast<int>(hidden);
  f.width = static_cast<int>(width);
  f.experts = static_cast<int>(experts);
  f.eps = read<float>(data + 20);
  f.norm_scale = read<float>(data + 24);
  f.out_scale = read<float>(data + 28);
  const uint64_t router = read<uint64_t>(data + 32), norm = read<uint64_t>(data + 40), base = read<uint64_t>(data + 48);
  const uint64_t stride = read<uint64_t>(data + 56);
  if (router > bytes || norm > bytes || base > bytes) return corrupt("packed FFN is truncated");
  if ((router | norm | base | stride) % kAlign != 0) return corrupt("packed FFN has a misplaced part");
  if (Status s = parse_matrix(data + router, bytes - router, &f.router); !s.ok()) return s;
  if (f.router.groups != 1 || f.router.rows != f.experts || f.router.cols != f.hidden)
    return corrupt("packed FFN's router does not match its shape");
  if ((bytes - norm) / sizeof(float) < experts) return corrupt("packed FFN is truncated");
  f.norm_weight = reinterpret_cast<const float*>(data + norm);
  f.up_tile_bytes = tile_bytes(f.quant, f.hidden);
  f.down_tile_bytes = tile_bytes(f.quant, f.width);
  f.up_bytes = f.up_tile_bytes * round_up(width, kTileRows) / kTileRows;
  const uint64_t region = f.up_bytes + f.down_tile_bytes * (round_up(hidden, kTileRows) / kTileRows);
  if (stride < region || (bytes - base) < region || (bytes - base - region) / stride < experts - 1)
    return corrupt("packed FFN is truncated");
  f.expert_base = data + base;
  f.expert_stride = stride;
  *out = f;
  return kStatusOk;
}

void dequantize_row(const Matrix& w, int row, float scale, float* y) {
  const uint8_t* tile = w.tiles + w.tile_bytes * (row / kTileRows);
  const int r = row % kTileRows;
  const size_t padded = padded_cols(w.quant, w.cols);
  switch (w.quant) {
    case Quant::kFp32:
      for (int k = 0; k < w.cols; ++k) y[k] = scale * read<float>(tile + (static_cast<size_t>(k) * kTileRows + r) * 4);
      return;
    case Quant::kInt8: {
      const float s = scale * half_to_float(read<uint16_t>(tile + padded * kTileRows + 2 * r));
      for (int k = 0; k < w.cols; ++k) y[k] = s * static_cast<int8_t>(tile[(k / 8) * 64 + r * 8 + k % 8]);
      return;
    }
    case Quant::kInt4:
      for (int k = 0; k < w.cols; ++k) {
        const int group = k / kGroupCols, in_group = k % kGroupCols;
        const uint8_t byte = tile[static_cast<size_t>(group) * 128 + (in_group % 16) / 8 * 64 + r * 8 + in_group % 8];
        const int value = (in_group < 16 ? byte & 15 : byte >> 4) - 8;
        y[k] = scale *
               half_to_float(
                   read<uint16_t>(tile + padded * kTileRows / 2 + (static_cast<size_t>(group) * kTileRows + r) * 2)) *
               static_cast<float>(value);
      }
      return;
  }
}

}  // namespace blockffn
