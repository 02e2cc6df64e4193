// The micro-kernels as C functions, for test_kernels.py. Variant i is the i-th of select.cc.
#include "../../runtime_delegates/kernels/packed.h"

using namespace blockffn;

namespace {
const Kernels& variant(int i) {
  bool supported;
  return *kernels_variant(i, &supported);
}
}  // namespace

extern "C" {
#define API __attribute__((visibility("default")))

// Name of variant i, null past the last; *supported as in select.cc.
API const char* kernel_name(int i, int* supported) {
  bool runs = false;
  const Kernels* kernels = kernels_variant(i, &runs);
  *supported = runs;
  return kernels == nullptr ? nullptr : kernels->name;
}

API uint64_t kernel_tile_bytes(int quant, int cols) { return tile_bytes(static_cast<Quant>(quant), cols); }

API void kernel_tiles(int i, int quant, const uint8_t* tiles, int tile_count, int rows, int cols, int tokens,
                      const void* const* x, const int32_t* const* starts, const float* factor, float* const* y,
                      int accumulate, const uint8_t* next) {
  const Quant q = static_cast<Quant>(quant);
  const TileArgs args{tiles,  tile_bytes(q, cols), tile_count, rows, cols, tokens, x, starts,
                      factor, y,                   accumulate != 0, next};
  const Kernels& kernels = variant(i);
  (q == Quant::kFp32 ? kernels.tiles_fp32 : q == Quant::kInt8 ? kernels.tiles_int8 : kernels.tiles_int4)(args);
}

API void kernel_quantize_row(int i, const float* x, int cols, int padded, int8_t* q, float* scale, int32_t* starts) {
  variant(i).quantize_row(x, cols, padded, q, scale, starts);
}
API void kernel_axpy(int i, float a, const float* x, float* y, int n) { variant(i).axpy(a, x, y, n); }
API void kernel_scale(int i, float a, float* y, int n) { variant(i).scale(a, y, n); }
API void kernel_silu(int i, float* x, int n) { variant(i).silu(x, n); }
API void kernel_dots(int i, const float* const* queries, int query_count, const float* const* keys, int count, int n,
                     float* scores) {
  variant(i).dots(queries, query_count, keys, count, n, scores);
}
API float kernel_softmax(int i, float* scores, int count, float scale, float* max, float* sum) {
  return variant(i).softmax(scores, count, scale, max, sum);
}
API void kernel_weighted_sum(int i, const float* weights, const float* const* rows, int count, float* y, int n) {
  variant(i).weighted_sum(weights, rows, count, y, n);
}
API int kernel_big_cores(const char* sysfs_cpu) { return big_cores(sysfs_cpu); }
}
