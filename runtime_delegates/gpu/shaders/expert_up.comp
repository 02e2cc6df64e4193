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
  const uint units = unit_count(p.cols), list = ROUTE_SLOTS + p.slots * SLOT_WORDS + slot * LIST;
  uint x_at[MAX_TOKENS];
  [[unroll]] for (uint t = 0; t < TOKENS; ++t) x_at[t] = route[list + min(n0 + t, count - 1)] * p.x_stride;
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
        if (four != 0 && four >= count - n0) continue;
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
  const uint row = gl_WorkGroupID.x * 8 + tid % 8, n = n0 + tid / 8;
  if (tid >= 8 * TOKENS || row >= p.rows || n >= count) return;
  precise float value = value_of(tid / 8, tid % 8);
#if QUANT == 1
  const uint pair = weights[tile + units][tid % 8 / 2];
  value *= half_float((tid & 1) == 0 ? pair & 0xffffu : pair >> 16);
#endif
  y[(slot * p.max_tokens + n) * p.y_stride + row] = silu(value);
}
