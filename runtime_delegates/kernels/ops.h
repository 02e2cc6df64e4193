// The operators: everything a decoder step computes, on plain pointers and packed weights.
//
// Axes: T tokens of the chunk, D hidden, E experts, F expert width, H query heads, G key/value heads,
// C rows of the cache. All activations are float32 and row-major. Outputs never overlap inputs
// unless a function says so. Nothing here allocates: callers pass `scratch` of at least *_scratch()
// bytes, aligned to 64.
#pragma once

#include "packed.h"

namespace blockffn {

struct Context {
  const Kernels* kernels;
  Parallel parallel;
  uint8_t* scratch;
  // Reads and computes every expert, with the weight 0 where it is not active: the same result at the cost of a dense
  // FFN, to compare with.
  bool all_experts = false;
};

// y[T, rows] = scale * (x[T, cols] w^T) + bias. With groups > 1, x is [T, groups, cols] and y
// [T, groups, rows]. bias may be null. Rows of y before first_token are set to zero.
size_t linear_scratch(const Matrix& w, int max_tokens);
void linear(const Context& ctx, const Matrix& w, const float* bias, float scale, const float* x, int tokens,
            int first_token, float* y);

// y[T, D] = scale * table[ids]. The ids must have passed check_ids.
Status check_ids(const Matrix& table, const int64_t* ids, int tokens);
void embedding(const Context& ctx, const Matrix& table, float scale, const int64_t* ids, int tokens, float* y);

// y = x * rsqrt(mean(x^2) + eps) * weight; x may be y. kNonFinite if a row holds NaN or infinity.
Status rms_norm(const float* weight, float eps, const float* x, int tokens, int cols, float* y);

// y = silu(gate) * up; y may be gate.
void silu_mul(const Context& ctx, const float* gate, const float* up, int64_t n, float* y);

// y[T, D] = out_scale * sum_e A_e(x) down_e silu(up_e x), A = norm(relu(router x)).
// Reads only the experts that some token of the chunk uses, unless ctx.all_experts; *union_size is their number. The
// result is the same to the bit either way, as long as what an inactive expert computes is finite: 0 * inf is NaN.
// kNonFinite if a router score is NaN or infinite: no expert could be chosen honestly.
size_t ffn_scratch(const Ffn& w, int max_tokens);
Status chunk_sparse_ffn(const Context& ctx, const Ffn& w, const float* x, int tokens, float* y, int* union_size);

// Where the tokens of a chunk stand, common to every layer.
struct Chunk {
  int tokens;
  int64_t n_past;            // rows of the cache that every token sees
  const int64_t* positions;  // [T] for the rotary embedding
  const int64_t* tree_mask;  // [T] bit j of entry i: token j of the chunk is visible to token i
  const int64_t* kv_src;     // [64] rows of the previous chunk to keep, ascending, then -1
  // The last so many of the n_past rows are nodes of earlier calls for one tree, which only some tokens see: the
  // bits of tree_mask count from the first of them, so that token j of the chunk is bit tree_rows + j.
  int64_t tree_rows = 0;
};

// Checks a chunk against a cache of `capacity` rows of which `written` hold data.
Status check_chunk(const Chunk& chunk, int64_t capacity, int64_t written);

struct AttentionShape {
  int heads;     // H
  int kv_heads;  // G
  int key_dim;   // values of a key row of one kv head
  int value_dim;
  float scale;
};

// Number m of rows of the previous chunk that kv_src keeps.
int kept_rows(const Chunk& chunk);

// A key/value cache. A row holds `parts` parts of `width` values and, if tail > 0, one of `tail` values. As int8, the
// row begins with one float scale for each part, and a value is its integer times the scale of its part.
struct Cache {
  static constexpr int kMaxPart = 640;  // values that attention takes out of one int8 row at once, width + tail

  uint8_t* data;
  bool int8;
  int parts, width, tail;

  int values() const { return parts * width + tail; }
  int scales() const { return int8 ? parts + (tail > 0) : 0; }
  size_t row_bytes() const {
    return int8 ? (sizeof(float) * scales() + values() + 3) / 4 * 4 : sizeof(float) * values();
  }
  // Stores a row of values(); NaN or infinity in a part makes all of that part NaN when it is read.
  void write(const Kernels& kernels, int64_t row, const float* x) const;
  // Part `part` of a row, and the tail behind it: in place, or in `buffer`, which has room for width + tail.
  const float* read(int64_t row, int part, float* buffer) const;
};

// Keeps the accepted rows of the previous chunk: row n_past - m + i <- row n_past - m + kv_src[i].
void compact(const Chunk& chunk, const Cache& cache);

// Rotary embedding, rotate-half: a table of dim/2 cosines and dim/2 sines serves every head of a token.
void rope_table(const float* inv_freq, int dim, int64_t position, float* table);
void rotate(const float* table, int dim, float* x);

// y[T, H, value_dim] = attention of q[T, H, key_dim] over rows < n_past - tree_rows and the visible ones of the rest.
// Kv head g takes part g of a row. Without `values`, a value is the beginning of its key.
void attend(const Context& ctx, const AttentionShape& shape, const Chunk& chunk, const float* q, const Cache& keys,
            const Cache* values, float* y);

// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434) with both halves of kv_b_proj absorbed.
// q [T, H * (nope + rope)], kv [T, latent + rope], cache [C, latent + rope] as weights.cache() lays it out,
// y [T, H * v]. absorb_k: H groups [latent, nope]; expand_v: H groups [v, latent].
struct MlaWeights {
  const float* kv_norm;  // [latent]
  float kv_norm_eps;
  Matrix absorb_k, expand_v;
  const float* inv_freq;
  int heads, nope, rope, latent, v_dim;
  bool int8_cache = false;

  Cache cache(void* data) const { return {static_cast<uint8_t*>(data), int8_cache, 1, latent, rope}; }
};
size_t mla_scratch(const MlaWeights& w, int max_tokens);
Status mla_attention(const Context& ctx, const MlaWeights& w, const Chunk& chunk, const float* q, const float* kv,
                     void* cache, float* y);

// Multi-head or grouped-query attention. q [T, H, d], k and v [T, G, d], caches [C, G, d], y [T, H, d].
struct GqaWeights {
  const float* inv_freq;
  int heads, kv_heads, head_dim;
  bool int8_cache = false;

  Cache cache(void* data) const { return {static_cast<uint8_t*>(data), int8_cache, kv_heads, head_dim, 0}; }
};
size_t gqa_scratch(const GqaWeights& w, int max_tokens);
void gqa_attention(const Context& ctx, const GqaWeights& w, const Chunk& chunk, const float* q, const float* k,
                   const float* v, void* key_cache, void* value_cache, float* y);

}  // namespace blockffn
