// One call of a kernel, for counting its instructions: arm_count KERNELS QUANT ROWS COLUMNS TOKENS REPEATS
// QUANT is 0 fp32, 1 int8, 2 int4. The operands are zeros: no instruction depends on them.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../runtime_delegates/kernels/packed.h"

using namespace blockffn;

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const auto quant = static_cast<Quant>(std::atoi(argv[2]));
  const int rows = std::atoi(argv[3]), cols = std::atoi(argv[4]), tokens = std::atoi(argv[5]), repeats = std::atoi(argv[6]);
  if (tokens < 1 || tokens > kMaxTokens || rows < 1 || cols < 1) return 2;
  const Kernels* kernels = nullptr;
  bool supported = false;
  for (int i = 0; (kernels = kernels_variant(i, &supported)) != nullptr; ++i)
    if (std::strcmp(kernels->name, argv[1]) == 0) break;
  if (kernels == nullptr || !supported) return 1;
  TileArgs a{};
  a.tile_bytes = tile_bytes(quant, cols);
  a.tile_count = (rows + kTileRows - 1) / kTileRows;
  const std::vector<uint64_t> weights(a.tile_bytes * a.tile_count / 8), x(padded_cols(quant, cols));
  const std::vector<int32_t> starts(cols / kGroupCols + 1);
  std::vector<float> y(a.tile_count * kTileRows);
  const void* rows_of_x[kMaxTokens];
  const int32_t* starts_of_x[kMaxTokens];
  float factor[kMaxTokens] = {}, *rows_of_y[kMaxTokens];
  for (int t = 0; t < tokens; ++t) rows_of_x[t] = x.data(), starts_of_x[t] = starts.data(), rows_of_y[t] = y.data();
  a.tiles = reinterpret_cast<const uint8_t*>(weights.data());
  a.rows = rows;
  a.cols = cols;
  a.tokens = tokens;
  a.x = rows_of_x;
  a.starts = starts_of_x;
  a.factor = factor;
  a.y = rows_of_y;
  const auto call = quant == Quant::kFp32 ? kernels->tiles_fp32 : quant == Quant::kInt8 ? kernels->tiles_int8 : kernels->tiles_int4;
  for (int i = 0; i < repeats; ++i) call(a);
  std::printf("%zu\n", a.tile_bytes * a.tile_count);
  return 0;
}
