#version 450
// Attention of one head of one token over PART visible rows: those before the tree and the tree's nodes and chunk's tokens
// that its mask names, in that order. Which rows form a block or a part depends on their places in that list alone, so a token
// gets the same bits whether its context came in this chunk or earlier. Writes maximum, denominator and weighted sum.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer Query { vec4 query[]; };
layout(set = 0, binding = 2) writeonly buffer Parts { float parts[]; };
layout(set = 0, binding = 3) readonly buffer Keys { vec4 keys[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) readonly buffer Values { float values[]; };
layout(push_constant) uniform Push {
  uint heads, heads_per_kv, key_vectors, value_dim;
  uint q_stride, q_head, key_stride, key_head;  // in vec4
  uint value_stride, value_head, max_parts;
  float scale;
} p;

#define PART 256
#define BLOCK 16
#define MAX_VALUES 16  // value columns of one thread
shared float lanes[THREADS];
shared float scores[BLOCK];
shared uint rows[BLOCK];
shared uint chunk_rows[64];

void main() {
  const uint tid = gl_LocalInvocationID.x, t = gl_WorkGroupID.x, head = gl_WorkGroupID.y, part = gl_WorkGroupID.z;
  const uint past = step_[STEP_PAST] - step_[STEP_TREE];
  if (t >= step_[STEP_TOKENS]) return;
  const uint low = step_[STEP_MASK_LOW + t], high = step_[STEP_MASK_HIGH + t];
  const uint visible = past + bitCount(low) + bitCount(high);
  if (part * PART >= visible) return;
  for (uint i = tid; i < 64; i += THREADS) {
    const uint bit = 1u << (i % 32);
    if (((i < 32 ? low : high) & bit) == 0) continue;
    chunk_rows[i < 32 ? bitCount(low & (bit - 1)) : bitCount(low) + bitCount(high & (bit - 1))] = i;
  }
  const uint kv = head / p.heads_per_kv, q_at = t * p.q_stride + head * p.q_head;
  const uint per_key = THREADS / BLOCK, lane = tid % per_key;
  precise float acc[MAX_VALUES];
  for (uint i = 0; i < MAX_VALUES; ++i) acc[i] = 0.0;
  float largest = uintBitsToFloat(0xff800000u);
  precise float denominator = 0.0;
  const uint end = min(visible, (part + 1) * PART);
  for (uint first = part * PART; first < end; first += BLOCK) {
    const uint count = min(BLOCK, end - first);
    barrier();
    if (tid < count) rows[tid] = first + tid < past ? first + tid : past + chunk_rows[first + tid - past];
    barrier();
    precise float sum = 0.0;
    const uint own = tid / per_key;
    if (own < count) {
      const uint key_at = rows[own] * p.key_stride + kv * p.key_head;
      for (uint k = lane; k < p.key_vectors; k += per_key) {
        const vec4 a = query[q_at + k], b = keys[key_at + k];
        sum = fma(a.x, b.x, sum);
        sum = fma(a.y, b.y, sum);
        sum = fma(a.z, b.z, sum);
        sum = fma(a.w, b.w, sum);
      }
    }
    lanes[tid] = sum;
    barrier();
    if (tid < count) {
      precise float total = 0.0;
      for (uint i = 0; i < per_key; ++i) total += lanes[tid * per_key + i];
      scores[tid] = total * p.scale;
    }
    barrier();
    float block_largest = largest;
    for (uint i = 0; i < count; ++i) block_largest = max(block_largest, scores[i]);
    const float shrink = exp_exact(largest - block_largest);
    largest = block_largest;
    denominator *= shrink;
    [[unroll]] for (uint i = 0; i < MAX_VALUES; ++i) acc[i] *= shrink;
    for (uint i = 0; i < count; ++i) {
      const float weight = exp_exact(scores[i] - largest);
      denominator += weight;
      const uint value_at = rows[i] * p.value_stride + kv * p.value_head;
      [[unroll]] for (uint v = 0; v < MAX_VALUES; ++v) {
        const uint d = v * THREADS + tid;
        if (v * THREADS < p.value_dim && d < p.value_dim) {
          precise float next = fma(weight, values[value_at + d], acc[v]);
          acc[v] = next;
        }
      }
    }
  }
  const uint to = ((t * p.heads + head) * p.max_parts + part) * (p.value_dim + 2);
  if (tid == 0) {
    parts[to] = largest;
    parts[to + 1] = denominator;
  }
  [[unroll]] for (uint v = 0; v < MAX_VALUES; ++v) {
    const uint d = v * THREADS + tid;
    if (d < p.value_dim) parts[to + 2 + d] = acc[v];
  }
}
