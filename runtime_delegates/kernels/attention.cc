// Attention over a cache that is written in place, for chunks that may be trees.
#include <cmath>
#include <cstring>

#include "ops.h"
#include "scratch.h"

namespace blockffn {
namespace {

constexpr int kKeyBlock = 16;     // keys whose scores are exponentiated together
constexpr int kHeadsPerItem = 4;  // heads that one work item computes

}  // namespace

int kept_rows(const Chunk& chunk) {
  int m = 0;
  while (m < kMaxTokens && chunk.kv_src[m] >= 0) ++m;
  return m;
}

Status check_chunk(const Chunk& chunk, int64_t capacity, int64_t written) {
  const auto invalid = [](const char* message) { return Status{Status::kInvalidArgument, message}; };
  if (chunk.tokens < 1 || chunk.tokens > kMaxTokens) return invalid("a chunk must hold 1 to 64 tokens");
  if (chunk.n_past < 0) return invalid("n_past is negative");
  if (chunk.n_past > capacity - chunk.tokens)
    return {Status::kContextFull, "the context is full: n_past plus the chunk exceeds the model's max_context"};
  if (chunk.n_past > written) return invalid("n_past counts rows that no earlier call has written");
  if (chunk.tree_rows < 0 || chunk.tree_rows > chunk.n_past || chunk.tree_rows > kMaxTokens - chunk.tokens)
    return invalid("tree_rows must be 0 to n_past, and at most 64 together with the chunk's tokens");
  const int tree_rows = static_cast<int>(chunk.tree_rows);
  for (int i = 0; i < chunk.tokens; ++i) {
    if (chunk.positions[i] < 0 || chunk.positions[i] >= (int64_t{1} << 24))
      return invalid("a position is negative or above 2^24");
    const uint64_t mask = static_cast<uint64_t>(chunk.tree_mask[i]);
    const int self = tree_rows + i;
    if ((mask >> self & 1) == 0) return invalid("tree_mask: every token must see itself");
    if (self < 63 && mask >> (self + 1) != 0)
      return invalid("tree_mask: a token sees a later one; list parents before children");
  }
  const int kept = kept_rows(chunk);
  for (int i = kept; i < kMaxTokens; ++i)
    if (chunk.kv_src[i] != -1) return invalid("kv_src: rows to keep must come first, then -1");
  const int64_t base = chunk.n_past - kept;
  if (base < 0) return invalid("kv_src keeps more rows than n_past counts");
  for (int i = 0; i < kept; ++i) {
    if (i > 0 && chunk.kv_src[i] <= chunk.kv_src[i - 1]) return invalid("kv_src must ascend");
    if (chunk.kv_src[i] >= kMaxTokens || base + chunk.kv_src[i] >= written)
      return invalid("kv_src names a row that the previous chunk did not write");
  }
  return kStatusOk;
}

void Cache::write(const Kernels& kernels, int64_t row, const float* x) const {
  uint8_t* to = data + row * row_bytes();
  if (!int8) {
    std::memcpy(to, x, row_bytes());
    return;
  }
  auto* q = reinterpret_cast<int8_t*>(to + sizeof(float) * scales());
  alignas(kAlign) int8_t padded[kMaxPart + kAlign];  // kernels write whole vectors
  for (int i = 0; i < scales(); ++i) {
    const int n = i < parts ? width : tail;
    float scale;
    kernels.quantize_row(x, n, static_cast<int>(padded_cols(Quant::kInt8, n)), padded, &scale, nullptr);
    std::memcpy(q, padded, n);
    std::memcpy(to + sizeof(float) * i, &scale, sizeof scale);
    x += n;
    q += n;
  }
}

const float* Cache::read(int64_t row, int part, float* buffer) const {
  const uint8_t* from = data + row * row_bytes();
  if (!int8) return reinterpret_cast<const float*>(from) + static_cast<size_t>(part) * width;
  const auto* q = reinterpret_cast<const int8_t*>(from + sizeof(float) * scales()) + static_cast<size_t>(part) * width;
  float scale;
  std::memcpy(&scale, from + sizeof(float) * part, sizeof scale);
  for (int i = 0; i < width; ++i) buffer[i] = scale * static_cast<float>(q[i]);
  if (tail == 0) return buffer;
  std::memcpy(&scale, from + sizeof(float) * parts, sizeof scale);
  for (int i = width; i < width + tail; ++i) buffer[i] = scale * static_cast<float>(q[i]);
  return buffer;
}

void compact(const Chunk& chunk, const Cache& cache) {
  const int kept = kept_rows(chunk);
  const int64_t base = chunk.n_past - kept;
  const size_t bytes = cache.row_bytes();
  for (int i = 0; i < kept; ++i)  // kv_src ascends, so no source row is overwritten before it is read
    if (chunk.kv_src[i] != i)
      std::memcpy(cache.data + (base + i) * bytes, cache.data + (base + chunk.kv_src[i]) * bytes, bytes);
}

void rope_table(const float* inv_freq, int dim, int64_t position, float* table) {
  const int half = dim / 2;
  for (int k = 0; k < half; ++k) {
    const float angle = static_cast<float>(position) * inv_freq[k];
    table[k] = std::cos(angle);
    table[k + half] = std::sin(angle);
  }
}

void rotate(const float* table, int dim, float* x) {
  const int half = dim / 2;
  for (int k = 0; k < half; ++k) {
    const float a = x[k], b = x[k + half];
    x[k] = a * table[k] - b * table[k + half];
    x[k + half] = b * table[k] + a * table[k + half];
  }
}

namespace {

void dots(const Kernels& kernels, const float* a, const float* const* rows, int count, int n, float* out) {
  if (kernels.dots != nullptr) return kernels.dots(a, rows, count, n, out);
  for (int i = 0; i < count; ++i) out[i] = kernels.dot(a, rows[i], n);
}

void weighted_sum(const Kernels& kernels, const float* weights, const float* const* rows, int count, float* y, int n) {
  if (kernels.weighted_sum != nullptr) return kernels.weighted_sum(weights, rows, count, y, n);
  for (int i = 0; i < count; ++i) kernels.axpy(weights[i], rows[i], y, n);
}

void exp_minus(const Kernels& kernels, float shift, float* x, int n) {
  if (kernels.exp_minus != nullptr) return kernels.exp_minus(shift, x, n);
  for (int i = 0; i < n; ++i) x[i] = std::exp(x[i] - shift);
}

}  // namespace

void attend(const Context& ctx, const AttentionShape& shape, const Chunk& chunk, const float* q, const Cache& keys,
            const Cache* values, float* y) {
  const Kernels& kernels = *ctx.kernels;
  // A work item is one token and a few heads that share keys, which the first of them brings into the cache.
  const int heads_per_kv = shape.heads / shape.kv_heads,
            heads_per_item = heads_per_kv < kHeadsPerItem ? heads_per_kv : kHeadsPerItem;
  const int items_per_kv = (heads_per_kv + heads_per_item - 1) / heads_per_item,
            items_per_token = shape.kv_heads * items_per_kv;
  const int64_t seen_by_all = chunk.n_past - chunk.tree_rows;
  ctx.parallel(static_cast<int64_t>(chunk.tokens) * items_per_token, [&](int64_t item) {
    const int t = static_cast<int>(item / items_per_token), g = static_cast<int>(item % items_per_token) / items_per_kv;
    const int first = static_cast<int>(item % items_per_kv) * heads_per_item;  // among the heads of g
    const int heads = first + heads_per_item <= heads_per_kv ? heads_per_item : heads_per_kv - first;
    const size_t head = static_cast<size_t>(t) * shape.heads + static_cast<size_t>(g) * heads_per_kv + first;
    const float* query = q + head * shape.key_dim;
    float* out = y + head * shape.value_dim;
    std::memset(out, 0, sizeof(float) * shape.value_dim * heads);
    float running_max[kHeadsPerItem], denominator[kHeadsPerItem] = {};
    float key_floats[kKeyBlock][Cache::kMaxPart], value_floats[kKeyBlock][Cache::kMaxPart];  // of int8 caches
    for (int h = 0; h < heads; ++h) running_max[h] = -INFINITY;
    // Visible rows in order of position, in blocks: row i of that list falls into the same block
    // whether its token came in this chunk or in an earlier one, so results do not depend on it.
    uint64_t pending = static_cast<uint64_t>(chunk.tree_mask[t]);
    int64_t next = 0;
    for (;;) {
      const float *key[kKeyBlock], *value[kKeyBlock];
      int n = 0;
      const auto add = [&](int64_t row) {
        key[n] = keys.read(row, g, key_floats[n]);
        value[n] = values == nullptr ? key[n] : values->read(row, g, value_floats[n]);
        ++n;
      };
      while (n < kKeyBlock && next < seen_by_all) add(next++);
      for (int j = 0; n < kKeyBlock && pending != 0;) {
        while ((pending >> j & 1) == 0) ++j;
        pending &= ~(uint64_t{1} << j);
        add(seen_by_all + j);
      }
      if (n == 0) break;
      for (int h = 0; h < heads; ++h) {
        float score[kKeyBlock], block_max = running_max[h];
        float* sum = out + static_cast<size_t>(h) * shape.value_dim;
        dots(kernels, query + static_cast<size_t>(h) * shape.key_dim, key, n, shape.key_dim, score);
        for (int i = 0; i < n; ++i) {
          score[i] *= shape.scale;
          if (score[i] > block_max) block_max = score[i];
        }
        if (block_max > running_max[h]) {
          const float shrink = std::exp(running_max[h] - block_max);
          denominator[h] *= shrink;
          kernels.scale(shrink, sum, shape.value_dim);
          running_max[h] = block_max;
        }
        exp_minus(kernels, running_max[h], score, n);
        for (int i = 0; i < n; ++i) denominator[h] += score[i];
        weighted_sum(kernels, score, value, n, sum, shape.value_dim);
      }
    }
    for (int h = 0; h < heads; ++h)
      kernels.scale(1.0f / denominator[h], out + static_cast<size_t>(h) * shape.value_dim, shape.value_dim);
  });
}

namespace {

struct MlaScratch {
  float *angles, *nope, *latent_query, *query, *context;
  uint8_t* rest;
  MlaScratch(Scratch& s, const MlaWeights& w, int tokens) {
    const size_t rows = static_cast<size_t>(tokens) * w.heads;
    angles = s.take<float>(static_cast<size_t>(tokens) * w.rope);
    nope = s.take<float>(rows * w.nope);
    latent_query = s.take<float>(rows * w.latent);
    query = s.take<float>(rows * (static_cast<size_t>(w.latent) + w.rope));
    context = s.take<float>(rows * w.latent);
    rest = s.take<uint8_t>(0);
  }
};

struct GqaScratch {
  float *angles, *query;
  GqaScratch(Scratch& s, const GqaWeights& w, int tokens) {
    angles = s.take<float>(static_cast<size_t>(tokens) * w.head_dim);
    query = s.take<float>(static_cast<size_t>(tokens) * w.heads * w.head_dim);
  }
};

}  // namespace

size_t mla_scratch(const MlaWeights& w, int max_tokens) {
  Scratch measure(nullptr);
  MlaScratch(measure, w, max_tokens);
  const size_t k = linear_scratch(w.absorb_k, max_tokens), v = linear_scratch(w.expand_v, max_tokens);
  return measure.used() + (k > v ? k : v);
}

Status mla_attention(const Context& ctx, const MlaWeights& w, const Chunk& chunk, const float* q, const float* kv,
                     void* memory, float* y) {
  Scratch scratch(ctx.scratch);
  MlaScratch s(scratch, w, chunk.tokens);
  Context inner = ctx;
  inner.scratch = s.rest;
  const int row = w.latent + w.rope, head_dim = w.nope + w.rope;
  const Cache cache = w.cache(memory);

  compact(chunk, cache);
  for (int t = 0; t < chunk.tokens; ++t) {
    float* angles = s.angles + static_cast<size_t>(t) * w.rope;
    rope_table(w.inv_freq, w.rope, chunk.positions[t], angles);
    float* x = s.query;  // not needed yet
    std::memcpy(x, kv + static_cast<size_t>(t) * row, sizeof(float) * row);
    if (Status status = rms_norm(w.kv_norm, w.kv_norm_eps, x, 1, w.latent, x); !status.ok()) return status;
    rotate(angles, w.rope, x + w.latent);
    cache.write(*ctx.kernels, chunk.n_past + t, x);
  }

  ctx.parallel(chunk.tokens, [&](int64_t t) {
    for (int64_t i = t * w.heads; i < (t + 1) * w.heads; ++i)
      std::memcpy(s.nope + i * w.nope, q + i * head_dim, sizeof(float) * w.nope);
  });
  linear(inner, w.absorb_k, nullptr, 1.0f, s.nope, chunk.tokens, 0, s.latent_query);
  ctx.parallel(chunk.tokens, [&](int64_t t) {
    for (int64_t i = t * w.heads; i < (t + 1) * w.heads; ++i) {
      float* query = s.query + i * row;
      std::memcpy(query, s.latent_query + i * w.latent, sizeof(float) * w.latent);
      std::memcpy(query + w.latent, q + i * head_dim + w.nope, sizeof(float) * w.rope);
      rotate(s.angles + t * w.rope, w.rope, query + w.latent);
    }
  });
  const AttentionShape shape{w.heads, 1, row, w.latent, 1.0f / std::sqrt(static_cast<float>(head_dim))};
  attend(ctx, shape, chunk, s.query, cache, nullptr, s.context);
  linear(inner, w.expand_v, nullptr, 1.0f, s.context, chunk.tokens, 0, y);
  return kStatusOk;
}

size_t gqa_scratch(const GqaWeights& w, int max_tokens) {
  Scratch measure(nullptr);
  GqaScratch(measure, w, max_tokens);
  return measure.used();
}

void gqa_attention(const Context& ctx, const GqaWeights& w, const Chunk& chunk, const float* q, const float* k,
                   const float* v, void* key_memory, void* value_memory, float* y) {
  Scratch scratch(ctx.scratch);
  GqaScratch s(scratch, w, chunk.tokens);
  const int row = w.kv_heads * w.head_dim;
  const size_t q_row = static_cast<size_t>(w.heads) * w.head_dim;
  const Cache keys = w.cache(key_memory), values = w.cache(value_memory);
  compact(chunk, keys);
  compact(chunk, values);
  ctx.parallel(chunk.tokens, [&](int64_t t) {
    float* angles = s.angles + t * w.head_dim;
    rope_table(w.inv_freq, w.head_dim, chunk.positions[t], angles);
    float* key = s.query + t * q_row;  // which has room for it: there are no more kv heads than heads
    std::memcpy(key, k + t * row, sizeof(float) * row);
    for (int g = 0; g < w.kv_heads; ++g) rotate(angles, w.head_dim, key + static_cast<size_t>(g) * w.head_dim);
    keys.write(*ctx.kernels, chunk.n_past + t, key);
    values.write(*ctx.kernels, chunk.n_past + t, v + t * row);
    std::memcpy(s.query + t * q_row, q + t * q_row, sizeof(float) * q_row);
    for (int h = 0; h < w.heads; ++h)
      rotate(angles, w.head_dim, s.query + t * q_row + static_cast<size_t>(h) * w.head_dim);
  });
  const AttentionShape shape{w.heads, w.kv_heads, w.head_dim, w.head_dim,
                             1.0f / std::sqrt(static_cast<float>(w.head_dim))};
  attend(ctx, shape, chunk, s.query, keys, &values, y);
}

}  // namespace blockffn
