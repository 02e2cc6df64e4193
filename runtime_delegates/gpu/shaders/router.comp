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
  const uint tile = p.first + gl_WorkGroupID.x * p.tile_vectors, units = unit_count(p.cols);
  uint x_at[MAX_TOKENS];
  [[unroll]] for (uint t = 0; t < TOKENS; ++t) x_at[t] = min(t0 + t, tokens - 1) * p.x_stride;
  float acc[MAX_TOKENS * ROWS];
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) acc[i] = 0.0;
  for (uint j0 = tid; j0 < units; j0 += UNROLL * THREADS) {
    uvec4 raw[UNROLL][RAW];
    [[unroll]] for (uint i = 0; i < UNROLL; ++i)
      if (j0 + i * THREADS < units) load_unit(tile, j0 + i * THREADS, p.cols, raw[i]);
    [[unroll]] for (uint i = 0; i < UNROLL; ++i) {
      const uint j = j0 + i * THREADS;
      if (j >= units) continue;
      vec4 w[ROWS * XV];
      decode_unit(raw[i], w);
#if QUANT == 2
      float scale[ROWS];
      unit_scales(tile, units, j, scale);
#endif
      // Four tokens at a time, so that a chunk's or a list's last ones do not pay for eight.
      [[unroll]] for (uint four = 0; four < TOKENS; four += 4) {
        if (four != 0 && four >= tokens - t0) continue;
        [[unroll]] for (uint t = four; t < four + 4; ++t) {
          if (t >= TOKENS) continue;
          vec4 xs[XV];
          [[unroll]] for (uint v = 0; v < XV; ++v) xs[v] = x[x_at[t] + x_index(j, v)];
          float part[ROWS];
          unit_dot(w, xs, part);
          [[unroll]] for (uint r = 0; r < ROWS; ++r) {
#if QUANT == 2
            precise float sum = fma(scale[r], part[r], acc[t * ROWS + r]);
#else
            precise float sum = acc[t * ROWS + r] + part[r];
#endif
            acc[t * ROWS + r] = sum;
          }
        }
      }
    }
  }
  reduce(acc);
  const uint expert = gl_WorkGroupID.x * 8 + tid % 8, token = t0 + tid / 8;
  if (tid >= 8 * TOKENS || expert >= p.experts || token >= tokens) return;
  precise float value = value_of(tid / 8, tid % 8);
#if QUANT == 1
  const uint pair = weights[tile + units][tid % 8 / 2];
  value *= half_float((tid & 1) == 0 ? pair & 0xffffu : pair >> 16);
#endif
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
