#version 450
// h[slot][n] = silu(up_e x[token n of the expert's list]): one workgroup per tile, slot of the union and TOKENS tokens.
#include "common.glsl"
layout(set = 0, binding = 0) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 1) readonly buffer X { vec4 x[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 3) readonly buffer Route { uint route[]; };
layout(push_constant) uniform Push {
  uint first, tile_vectors, expert_vectors, first_expert;
  uint experts, rows, cols, x_stride;  // experts of the bound window
  uint y_stride, max_tokens, slots;
} p;
#include "weights.glsl"
#include "multiply.glsl"

void main() {
  const uint tid = gl_LocalInvocationID.x, slot = gl_WorkGroupID.y, n0 = gl_WorkGroupID.z * TOKENS;
  if (slot >= route[ROUTE_UNION]) return;
  const uint record = ROUTE_SLOTS + slot * SLOT_WORDS, expert = route[record], count = route[record + 1];
  if (n0 >= count || expert - p.first_expert >= p.experts) return;
  const uint tile = p.first + (expert - p.first_expert) * p.expert_vectors + gl_WorkGroupID.x * p.tile_vectors;
  const uint list = ROUTE_SLOTS + p.slots * SLOT_WORDS + slot * LIST;
  uint x_at[MAX_TOKENS];
  [[unroll]] for (uint t = 0; t < TOKENS; ++t) x_at[t] = route[list + min(n0 + t, count - 1)] * p.x_stride;
  const uint valid = count - n0;
  float acc[MAX_TOKENS * ROWS];
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) acc[i] = 0.0;
#include "multiply_tile.glsl"
  reduce(acc);
  const uint row = gl_WorkGroupID.x * 8 + tid % 8, n = n0 + tid / 8;
  if (tid >= 8 * TOKENS || row >= p.rows || n >= count) return;
  precise float value = sum_of(tid / 8, tid % 8, tile, p.cols);
  y[(slot * p.max_tokens + n) * p.y_stride + row] = silu(value);
}
