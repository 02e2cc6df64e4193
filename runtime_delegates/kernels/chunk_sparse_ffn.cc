// The chunk-sparse FFN (BlockFFN, arXiv:2507.08771, equation 1 and section 3.3).
//
// Three phases, each one parallel loop: router scores; per expert of the union, up projection and
// silu for the tokens that use it; per block of output rows, down projection of every expert of the
// union in ascending order. Each output element is summed by one thread in that order, so results do
// not depend on the number of threads.
#include <cmath>
#include <cstring>

#include "ops.h"
#include "scratch.h"

namespace blockffn {
namespace {

// Everything the phases share. Pair p is one (expert, token) with a non-zero score, or with any if all experts are
// wanted; the pairs of an expert are neighbours.
struct Plan {
  float* scores;        // [T, E] after relu, before the norm
  int32_t* union_ids;   // [U] ascending
  int32_t* first_pair;  // [U + 1]
  int32_t* pair_token;  // [pairs]
  float* pair_weight;   // [pairs] A_e * out_scale
  float* hidden;        // [pairs, F]
  uint8_t* matmul_scratch;

  Plan(Scratch& scratch, const Ffn& w, int tokens) {
    const size_t pairs = static_cast<size_t>(tokens) * w.experts;
    scores = scratch.take<float>(pairs);
    union_ids = scratch.take<int32_t>(w.experts);
    first_pair = scratch.take<int32_t>(w.experts + 1);
    pair_token = scratch.take<int32_t>(pairs);
    pair_weight = scratch.take<float>(pairs);
    hidden = scratch.take<float>(pairs * padded_width(w));
  }
  // Up writes whole tiles of 8 rows.
  static size_t padded_width(const Ffn& w) { return round_up(w.width, kTileRows); }
};

// Multiplier that turns a token's relu score into A_e, before the per-expert norm weight.
float norm_factor(const Ffn& w, const float* scores_E) {
  double sum = 0;
  switch (w.norm) {
    case RouterNorm::kNone:
      return 1.0f;
    case RouterNorm::kRms:
      for (int e = 0; e < w.experts; ++e) sum += static_cast<double>(scores_E[e]) * scores_E[e];
      return static_cast<float>(1.0 / std::sqrt(sum / w.experts + w.eps));
    case RouterNorm::kSum:
      for (int e = 0; e < w.experts; ++e) sum += scores_E[e];
      return static_cast<float>(1.0 / (sum * w.norm_scale + 1e-5));
  }
  return 1.0f;
}

Status make_plan(const Ffn& w, int tokens, bool all_experts, Plan& plan, int* union_out) {
  float factor[kMaxTokens];
  for (int t = 0; t < tokens; ++t) {
    float* scores_E = plan.scores + static_cast<size_t>(t) * w.experts;
    for (int e = 0; e < w.experts; ++e) {
      if (!std::isfinite(scores_E[e]))
        return {Status::kNonFinite, "a router score is not finite; the weights or the input are damaged"};
      scores_E[e] = scores_E[e] > 0 ? scores_E[e] : 0;
    }
    factor[t] = norm_factor(w, scores_E) * w.out_scale;
  }
  int union_size = 0;
  int32_t pairs = 0;
  for (int e = 0; e < w.experts; ++e) {
    const int32_t first = pairs;
    const float weight = w.norm == RouterNorm::kRms ? w.norm_weight[e] : 1.0f;
    for (int t = 0; t < tokens; ++t) {
      const float score = plan.scores[static_cast<size_t>(t) * w.experts + e];
      if (!(score > 0) && !all_experts) continue;
      plan.pair_token[pairs] = t;
      // Without an active expert the factor may be infinite; a zero has to stay one.
      plan.pair_weight[pairs++] = score > 0 ? score * factor[t] * weight : 0.0f;
    }
    if (pairs == first) continue;
    plan.union_ids[union_size] = e;
    plan.first_pair[union_size++] = first;
  }
  plan.first_pair[union_size] = pairs;
  *union_out = union_size;
  return kStatusOk;
}

}  // namespace

size_t ffn_scratch(const Ffn& w, int max_tokens) {
  Scratch measure(nullptr);
  Plan plan(measure, w, max_tokens);
  QuantizedRows inputs(measure, w.quant, max_tokens, w.hidden);
  QuantizedRows hidden(measure, w.quant, static_cast<size_t>(max_tokens) * w.experts, w.width);
  measure.take<uint8_t>(linear_scratch(w.router, max_tokens));
  return measure.used();
}

Status chunk_sparse_ffn(const Context& ctx, const Ffn& w, const float* x, int tokens, float* y, int* union_size) {
  Scratch scratch(ctx.scratch);
  Plan plan(scratch, w, tokens);
  QuantizedRows inputs(scratch, w.quant, tokens, w.hidden);
  QuantizedRows hidden(scratch, w.quant, static_cast<size_t>(tokens) * w.experts, w.width);

  Context router_ctx = ctx;
  router_ctx.scratch = scratch.take<uint8_t>(0);
  linear(router_ctx, w.router, nullptr, 1.0f, x, tokens, 0, plan.scores);
  if (Status s = make_plan(w, tokens, ctx.all_experts, plan, union_size); !s.ok()) return s;
  const int n = *union_size;

  if (w.quant != Quant::kFp32) ctx.parallel(tokens, [&](int64_t t) { inputs.set(*ctx.kernels, t, x + t * w.hidden); });
  const size_t width = Plan::padded_width(w);
  const int up_tiles = static_cast<int>(width) / kTileRows;
  ctx.parallel(n, [&](int64_t u) {
    TileBatch batch;
    const int32_t first = plan.first_pair[u], last = plan.first_pair[u + 1];
    for (int32_t p = first; p < last; ++p) {
      const int t = plan.pair_token[p];
      batch.add(inputs, t, x + static_cast<size_t>(t) * w.hidden, 1.0f, plan.hidden + p * width);
    }
    batch.multiply(*ctx.kernels, w.quant, w.up(plan.union_ids[u]), w.up_tile_bytes, up_tiles, static_cast<int>(width),
                   w.hidden, false, u + 1 < n ? w.up(plan.union_ids[u + 1]) : nullptr);
    for (int32_t p = first; p < last; ++p) {
      ctx.kernels->silu(plan.hidden + p * width, static_cast<int>(width));
      if (w.quant != Quant::kFp32) hidden.set(*ctx.kernels, p, plan.hidden + p * width);
    }
  });

  const int down_tiles = static_cast<int>(round_up(w.hidden, kTileRows)) / kTileRows;
  const int per_item = tiles_per_item(ctx.parallel, down_tiles);
  const int64_t items = (down_tiles + per_item - 1) / per_item;
  ctx.parallel(items, [&](int64_t item) {
    const int first_tile = static_cast<int>(item) * per_item;
    const int count = first_tile + per_item <= down_tiles ? per_item : down_tiles - first_tile;
    const int first_row = first_tile * kTileRows;
    const int rows = first_row + count * kTileRows <= w.hidden ? count * kTileRows : w.hidden - first_row;
    const size_t offset = w.down_tile_bytes * first_tile;
    for (int t = 0; t < tokens; ++t)
      std::memset(y + static_cast<size_t>(t) * w.hidden + first_row, 0, sizeof(float) * rows);
    for (int u = 0; u < n; ++u) {
      TileBatch batch;
      for (int32_t p = plan.first_pair[u]; p < plan.first_pair[u + 1]; ++p)
        batch.add(hidden, p, plan.hidden + p * width, plan.pair_weight[p],
                  y + static_cast<size_t>(plan.pair_token[p]) * w.hidden + first_row);
      batch.multiply(*ctx.kernels, w.quant, w.down(plan.union_ids[u]) + offset, w.down_tile_bytes, count, rows, w.width,
                     true, u + 1 < n ? w.down(plan.union_ids[u + 1]) + offset : nullptr);
    }
  });
  return kStatusOk;
}

}  // namespace blockffn
