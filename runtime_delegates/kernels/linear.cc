// Dense operators: linear layers, embedding, norms.
#include <cmath>
#include <cstring>

#include "ops.h"
#include "scratch.h"

namespace blockffn {
size_t linear_scratch(const Matrix& w, int max_tokens) {
  return quantized_rows_bytes(w.quant, static_cast<size_t>(max_tokens) * w.groups, w.cols);
}

void linear(const Context& ctx, const Matrix& w, const float* bias, float scale, const float* x, int tokens,
            int first_token, float* y) {
  const size_t x_stride = static_cast<size_t>(w.groups) * w.cols, y_stride = static_cast<size_t>(w.groups) * w.rows;
  for (int t = 0; t < first_token; ++t) std::memset(y + t * y_stride, 0, y_stride * sizeof(float));
  const int active = tokens - first_token;
  if (active <= 0) return;
  x += first_token * x_stride;
  y += first_token * y_stride;

  Scratch scratch(ctx.scratch);
  QuantizedRows rows(scratch, w.quant, static_cast<size_t>(active) * w.groups, w.cols);
  if (w.quant != Quant::kFp32)
    ctx.parallel(active, [&](int64_t t) {
      for (int g = 0; g < w.groups; ++g)
        rows.set(*ctx.kernels, t * w.groups + g, x + t * x_stride + static_cast<size_t>(g) * w.cols);
    });

  const int per_item = tiles_per_item(ctx.parallel, w.tiles_per_group()),
            items_per_group = (w.tiles_per_group() + per_item - 1) / per_item;
  ctx.parallel(static_cast<int64_t>(w.groups) * items_per_group, [&](int64_t item) {
    const int group = static_cast<int>(item / items_per_group),
              first = static_cast<int>(item % items_per_group) * per_item;
    const int count = first + per_item <= w.tiles_per_group() ? per_item : w.tiles_per_group() - first;
    TileBatch batch;
    for (int t = 0; t < active; ++t) {
      const size_t row = static_cast<size_t>(t) * w.groups + group;
      batch.add(rows, row, x + t * x_stride + static_cast<size_t>(group) * w.cols, scale,
                y + t * y_stride + static_cast<size_t>(group) * w.rows + first * kTileRows);
    }
    batch.multiply(*ctx.kernels, w.quant, w.tiles + w.group_bytes() * group + w.tile_bytes * first, w.tile_bytes, count,
                   w.rows - first * kTileRows, w.cols, false, nullptr);
  });
  if (bias == nullptr) return;
  for (int t = 0; t < active; ++t) ctx.kernels->axpy(1.0f, bias, y + t * y_stride, static_cast<int>(y_stride));
}

Status check_ids(const Matrix& table, const int64_t* ids, int tokens) {
  for (int t = 0; t < tokens; ++t)
    if (ids[t] < 0 || ids[t] >= table.rows) return {Status::kInvalidArgument, "a token id is outside the vocabulary"};
  return kStatusOk;
}

void embedding(const Context& ctx, const Matrix& table, float scale, const int64_t* ids, int tokens, float* y) {
  ctx.parallel(tokens, [&](int64_t t) { dequantize_row(table, static_cast<int>(ids[t]), scale, y + t * table.cols); });
}

Status rms_norm(const float* weight, float eps, const float* x, int tokens, int cols, float* y) {
  for (int t = 0; t < tokens; ++t, x += cols, y += cols) {
    // Float32 squares of finite inputs may overflow; their double sum cannot. Several sums: one would wait for itself.
    double part[8] = {};
    for (int k = 0; k < cols; ++k) part[k % 8] += static_cast<double>(x[k]) * x[k];
    const double sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    if (!std::isfinite(sum))
      return {Status::kNonFinite, "an activation is not finite; the weights or the input are damaged"};
    const float inverse = static_cast<float>(1.0 / std::sqrt(sum / cols + eps));
    for (int k = 0; k < cols; ++k) y[k] = x[k] * inverse * weight[k];
  }
  return kStatusOk;
}

void silu_mul(const Context& ctx, const float* gate, const float* up, int64_t n, float* y) {
  const int64_t block = 4096;
  ctx.parallel((n + block - 1) / block, [&](int64_t b) {
    const int64_t first = b * block, count = n - first < block ? n - first : block;
    float silu[4096];
    std::memcpy(silu, gate + first, count * sizeof(float));
    ctx.kernels->silu(silu, static_cast<int>(count));
    for (int64_t i = 0; i < count; ++i) y[first + i] = silu[i] * up[first + i];
  });
}

}  // namespace blockffn
