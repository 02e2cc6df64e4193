// Attention over a cache that is written in place, for chunks that may be trees.
#include <cmath>
#include <cstring>

#include "ops.h"
#include "scratch.h"

namespace blockffn {
namespace {

// Some queries of one kv head, with what softmax and the weighted sum have come to so far, and the next keys to meet.
class QueryBlock {
 public:
  static constexpr int kMaxQueries = 16;

  QueryBlock(const Kernels& kernels, const AttentionShape& shape, int kv_head, const Cache& keys, const Cache* values)
      : kernels_(kernels), shape_(shape), kv_head_(kv_head), keys_(keys), values_(values) {}

  // One more query, and where its result comes to stand.
  void add_query(const float* query, float* result) {
    query_[queries_] = query;
    sum_[queries_] = result;
    std::memset(result, 0, sizeof(float) * shape_.value_dim);
    max_[queries_] = -INFINITY;
    denominator_[queries_++] = 0;
  }

  // The next key is that of a cache's row. Not more than kKeyBlock of them.
  void add_key(int64_t row) {
    key_[n_] = keys_.read(row, kv_head_, key_floats_[n_]);
    value_[n_] = values_ == nullptr ? key_[n_] : values_->read(row, kv_head_, value_floats_[n_]);
    ++n_;
  }
  int keys() const { return n_; }

  // The queries [first, last) meet these keys; then there are none.
  void meet(int first, int last) {
    float score[kMaxQueries][kKeyBlock];
    kernels_.dots(query_ + first, last - first, key_, n_, shape_.key_dim, score[first]);
    for (int i = first; i < last; ++i) {
      const float shrink = kernels_.softmax(score[i], n_, shape_.scale, &max_[i], &denominator_[i]);
      if (shrink != 1.0f) kernels_.scale(shrink, sum_[i], shape_.value_dim);
      kernels_.weighted_sum(score[i], value_, n_, sum_[i], shape_.value_dim);
    }
    n_ = 0;
  }

  void finish() {
    for (int i = 0; i < queries_; ++i) kernels_.scale(1.0f / denominator_[i], sum_[i], shape_.value_dim);
  }

 private:
  const Kernels& kernels_;
  const AttentionShape& shape_;
  const int kv_head_;
  const Cache& keys_;
  const Cache* values_;
  int queries_ = 0, n_ = 0;
  const float* query_[kMaxQueries];
  float* sum_[kMaxQueries];
  float max_[kMaxQueries], denominator_[kMaxQueries];
  const float *key_[kKeyBlock], *value_[kKeyBlock];
  float key_floats_[kKeyBlock][Cache::kMaxPart], value_floats_[kKeyBlock][Cache::kMaxPart];  // of int8 caches
};

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

void attend(const Context& ctx, const AttentionShape& shape, const Chunk& chunk, const float* q, const Cache& keys,
            const Cache* values, float* y) {
  // A work item is some queries of one kv head, in the order of tokens: they share the keys that every token sees,
  // which are then read, and where they are int8 converted, once for all of them.
  const int heads_per_kv = shape.heads / shape.kv_heads, queries = chunk.tokens * heads_per_kv;
  const int share = (queries + 2 * ctx.parallel.threads - 1) / (2 * ctx.parallel.threads);
  const int per_item = share < 2 ? 2 : share > QueryBlock::kMaxQueries ? QueryBlock::kMaxQueries : share;
  const int items_per_kv = (queries + per_item - 1) / per_item;
  const int64_t seen_by_all = chunk.n_past - chunk.tree_rows, in_whole_blocks = seen_by_all / kKeyBlock * kKeyBlock;
  ctx.parallel(static_cast<int64_t>(shape.kv_heads) * items_per_kv, [&](int64_t item) {
    const int g = static_cast<int>(item / items_per_kv), begin = static_cast<int>(item % items_per_kv) * per_item;
    const int count = begin + per_item <= queries ? per_item : queries - begin;
    QueryBlock block(*ctx.kernels, shape, g, keys, values);
    for (int i = begin; i < begin + count; ++i) {
      const size_t head = static_cast<size_t>(i / heads_per_kv) * shape.heads + g * heads_per_kv + i % heads_per_kv;
      block.add_query(q + head * shape.key_dim, y + head * shape.value_dim);
    }
    // Every token takes its visible rows in order of position, in blocks: row i of that list falls into the same block
    // whether its token came in this chunk or in an earlier one, so results do not depend on it.
    for (int64_t row = 0; row < in_whole_blocks;) {
      for (int i = 0; i < kKeyBlock; ++i) block.add_key(row++);
      block.meet(0, count);
    }
    for (int first = 0, last; first < count; first = last) {
      const int t = (begin + first) / heads_per_kv;
      last = (t + 1) * heads_per_kv - begin < count ? (t + 1) * heads_per_kv - begin : count;
      for (int64_t row = in_whole_blocks; row < seen_by_all; ++row) block.add_key(row);
      for (uint64_t pending = static_cast<uint64_t>(chunk.tree_mask[t]); pending != 0; pending &= pending - 1) {
        if (block.keys() == kKeyBlock) block.meet(first, last);
        block.add_key(seen_by_all + __builtin_ctzll(pending));
      }
      if (block.keys() > 0) block.meet(first, last);
    }
    block.finish();
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
