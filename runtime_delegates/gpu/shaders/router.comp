#version 450
// Router scores, one workgroup per tile of 8 experts and TOKENS tokens; the workgroup that finishes last makes the union
// of them (compact.glsl), which saves a pass and a barrier. The only atomic is an integer: the count of those finished.
#include "common.glsl"
layout(set = 0, binding = 0) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 1) readonly buffer X { vec4 x[]; };
layout(set = 0, binding = 2) coherent buffer Scores { float scores[]; };
layout(set = 0, binding = 3) readonly buffer NormWeight { float norm_weight[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) writeonly buffer Result { uint result[]; };  // [0] not finite, [1 + i] union of FFN i
layout(set = 0, binding = 6) buffer Route { uint route[]; };
layout(push_constant) uniform Push {
  uint experts, score_stride, norm, classes;  // norm 0 none, 1 rms, 2 sum
  uint norm_at, up_tiles, block, index;       // block: tokens of a workgroup of the up pass
  float eps, norm_scale, out_scale;
  uint first, tile_vectors, cols, x_stride;
} p;
#include "weights.glsl"
#include "multiply.glsl"
#include "compact.glsl"
shared uint finished;

void score() {
  const uint tid = gl_LocalInvocationID.x, t0 = gl_WorkGroupID.z * TOKENS, tokens = step_[STEP_TOKENS];
  if (t0 >= tokens) return;
  const uint tile = p.first + gl_WorkGroupID.x * p.tile_vectors;
  uint x_at[MAX_TOKENS];
  [[unroll]] for (uint t = 0; t < TOKENS; ++t) x_at[t] = min(t0 + t, tokens - 1) * p.x_stride;
  const uint valid = tokens - t0;
  float acc[MAX_TOKENS * ROWS];
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) acc[i] = 0.0;
#include "multiply_tile.glsl"
  reduce(acc);
  const uint expert = gl_WorkGroupID.x * 8 + tid % 8, token = t0 + tid / 8;
  if (tid >= 8 * TOKENS || expert >= p.experts || token >= tokens) return;
  precise float value = sum_of(tid / 8, tid % 8, tile, p.cols);
  scores[token * p.score_stride + expert] = value;
}

void main() {
  score();
  memoryBarrierBuffer();
  barrier();
  if (gl_LocalInvocationID.x == 0) finished = atomicAdd(route[ROUTE_FINISHED], 1);
  barrier();
  if (finished + 1 < gl_NumWorkGroups.x * gl_NumWorkGroups.z) return;
  memoryBarrierBuffer();
  if (gl_LocalInvocationID.x == 0) route[ROUTE_FINISHED] = 0;
  compact();
}
