#version 450
// Attention of one head of one token over one part of its visible rows: those before the tree and the tree's nodes and
// chunk's tokens that its mask names, in that order. Which rows form a block or a part depends on their places in that list
// alone, so a token gets the same bits whether its context came in this chunk or earlier. Parts are short, so that one token
// of few heads keeps a large GPU busy; attend_join joins them. Writes maximum, denominator and weighted sum.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer Query { vec4 query[]; };
layout(set = 0, binding = 2) writeonly buffer Parts { float parts[]; };
layout(set = 0, binding = 3) readonly buffer Keys { vec4 keys[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) readonly buffer Values { vec4 values[]; };
layout(push_constant) uniform Push {
  uint heads, heads_per_kv, key_vectors, value_dim;
  uint q_stride, q_head, key_stride, key_head;  // in vec4
  uint value_stride, value_head, max_parts, part_rows;
  uint span;  // threads that share a row's values, a power of two; the other threads take other rows
  float scale;
} p;

#define BLOCK 64       // rows at a time
#define LANES 8        // threads that multiply one row's key
#define MAX_ROWS 8     // keys that a thread has under way at once
#define MAX_COLUMNS 4  // groups of 4 values of one thread
shared float lanes[BLOCK * LANES];
shared float scores[BLOCK];
shared float weights[BLOCK];
shared uint rows[BLOCK];
shared vec4 sums[THREADS];

vec4 fma4(float a, vec4 b, vec4 c) {
  precise vec4 r;
  r.x = fma(a, b.x, c.x);
  r.y = fma(a, b.y, c.y);
  r.z = fma(a, b.z, c.z);
  r.w = fma(a, b.w, c.w);
  return r;
}

void main() {
  const uint tid = gl_LocalInvocationID.x, t = gl_WorkGroupID.x, head = gl_WorkGroupID.y, part = gl_WorkGroupID.z;
  const uint past = step_[STEP_PAST] - step_[STEP_TREE];
  const uint low = step_[STEP_MASK_LOW + t], high = step_[STEP_MASK_HIGH + t];
  const uint visible = past + bitCount(low) + bitCount(high), end = min(visible, (part + 1) * p.part_rows);
  if (t >= step_[STEP_TOKENS] || part * p.part_rows >= visible) return;
  const uint kv = head / p.heads_per_kv, q_at = t * p.q_stride + head * p.q_head, lane = tid % LANES;
  const uint group = tid / p.span, groups = THREADS / p.span, columns = (p.value_dim + 3) / 4;
  vec4 acc[MAX_COLUMNS];
  [[unroll]] for (uint i = 0; i < MAX_COLUMNS; ++i) acc[i] = vec4(0.0);
  float largest = uintBitsToFloat(0xff800000u);
  precise float denominator = 0.0;
  for (uint first = part * p.part_rows; first < end; first += BLOCK) {
    const uint count = min(BLOCK, end - first);
    barrier();
    for (uint i = tid; i < BLOCK; i += THREADS) {
      if (i < count && first + i < past) rows[i] = first + i;
      const uint bit = 1u << (i % 32);  // row i behind the tree's beginning
      if (((i < 32 ? low : high) & bit) == 0) continue;
      const uint place = past + (i < 32 ? bitCount(low & (bit - 1)) : bitCount(low) + bitCount(high & (bit - 1)));
      if (place >= first && place - first < count) rows[place - first] = past + i;
    }
    barrier();
    uint key_at[MAX_ROWS];
    float sum[MAX_ROWS];
    [[unroll]] for (uint i = 0; i < MAX_ROWS; ++i) {
      key_at[i] = rows[min(i * (THREADS / LANES) + tid / LANES, count - 1)] * p.key_stride + kv * p.key_head;
      sum[i] = 0.0;
    }
    for (uint k = lane; k < p.key_vectors; k += LANES) {
      const vec4 a = query[q_at + k];
      [[unroll]] for (uint i = 0; i < MAX_ROWS; ++i) {
        if (i * (THREADS / LANES) >= BLOCK) continue;
        const vec4 b = keys[key_at[i] + k];
        precise float s = fma(a.x, b.x, sum[i]);
        s = fma(a.y, b.y, s);
        s = fma(a.z, b.z, s);
        s = fma(a.w, b.w, s);
        sum[i] = s;
      }
    }
    [[unroll]] for (uint i = 0; i < MAX_ROWS; ++i)
      if (i * (THREADS / LANES) < BLOCK) lanes[i * THREADS + tid] = sum[i];
    barrier();
    for (uint i = tid; i < BLOCK; i += THREADS) {
      precise float total = lanes[i * LANES];
      [[unroll]] for (uint l = 1; l < LANES; ++l) total += lanes[i * LANES + l];
      scores[i] = i < count ? total * p.scale : uintBitsToFloat(0xff800000u);
    }
    barrier();
    float block_largest = largest;
    [[unroll]] for (uint i = 0; i < BLOCK; ++i) block_largest = max(block_largest, scores[i]);
    const float shrink = exp_exact(largest - block_largest);
    largest = block_largest;
    for (uint i = tid; i < BLOCK; i += THREADS) weights[i] = exp_exact(scores[i] - largest);  // 0 behind the last row
    barrier();
    [[unroll]] for (uint v = 0; v < MAX_COLUMNS; ++v) {
      const uint column = tid % p.span + v * p.span;
      if (v * p.span >= columns || column >= columns) continue;
      vec4 sum4 = acc[v] * shrink;
      for (uint r0 = group; r0 < count; r0 += 8 * groups) {
        vec4 row[8];
        [[unroll]] for (uint i = 0; i < 8; ++i)
          row[i] = values[rows[min(r0 + i * groups, count - 1)] * p.value_stride + kv * p.value_head + column];
        [[unroll]] for (uint i = 0; i < 8; ++i)
          if (r0 + i * groups < count) sum4 = fma4(weights[r0 + i * groups], row[i], sum4);
      }
      acc[v] = sum4;
    }
    denominator *= shrink;
    [[unroll]] for (uint i = 0; i < BLOCK; ++i) denominator += weights[i];
  }
  const uint to = ((t * p.heads + head) * p.max_parts + part) * (p.value_dim + 2);
  if (tid == 0) {
    parts[to] = largest;
    parts[to + 1] = denominator;
  }
  if (groups > 1) {  // then a thread has one column at most
    sums[tid] = acc[0];
    barrier();
    if (group != 0) return;
    for (uint i = 1; i < groups; ++i) acc[0] = fma4(1.0, sums[i * p.span + tid], acc[0]);
  }
  [[unroll]] for (uint v = 0; v < MAX_COLUMNS; ++v)
    [[unroll]] for (uint i = 0; i < 4; ++i) {
      const uint d = (tid % p.span + v * p.span) * 4 + i;
      if (d < p.value_dim) parts[to + 2 + d] = acc[v][i];
    }
}
