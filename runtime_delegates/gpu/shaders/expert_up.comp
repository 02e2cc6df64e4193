#version 450
// h[expert][token] = silu(up_e x[token]) for the tokens whose score is positive: one workgroup per tile of 8 rows and
// expert, which reads its own scores, so that it need not wait for the union.
#include "common.glsl"
layout(set = 0, binding = 0) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 1) readonly buffer X { vec4 x[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 3) readonly buffer Scores { float scores[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push {
  uint first, tile_vectors, expert_vectors, first_expert;  // of the bound window
  uint rows, cols, x_stride, y_stride, score_stride;
} p;
#include "weights.glsl"
#include "multiply.glsl"

void main() {
  const uint tid = gl_LocalInvocationID.x, expert = p.first_expert + gl_WorkGroupID.y;
  const uint tokens = TOKENS == 1 ? 1 : step_[STEP_TOKENS];
  uvec2 mask = uvec2(0);
  for (uint t0 = 0; t0 < tokens; t0 += TOKENS)
    [[unroll]] for (uint i = 0; i < TOKENS; ++i) {
      const float score = scores[(t0 + i) * p.score_stride + expert];  // rows behind the last token exist
      if (t0 + i < tokens && score > 0.0) mask[(t0 + i) / 32] |= 1u << ((t0 + i) % 32);
    }
  const uint tile = p.first + gl_WorkGroupID.y * p.expert_vectors + gl_WorkGroupID.x * p.tile_vectors;
  const uint row = gl_WorkGroupID.x * 8 + tid % 8;
  uint valid = bitCount(mask.x) + bitCount(mask.y);
  if (valid == 0) return;
  const float scale = row_scale(tile, tid % 8, p.cols);
  while (valid != 0) {  // TOKENS of the expert's tokens at a time
    uint token[MAX_TOKENS], x_at[MAX_TOKENS];
    uint last = 0;  // the lowest one left
    const uint now = min(valid, TOKENS);
    [[unroll]] for (uint t = 0; t < TOKENS; ++t) {
      if (TOKENS == 1) {
        mask.x = 0;
      } else if (mask.x != 0) {
        last = bitCount(~mask.x & (mask.x - 1));
        mask.x &= mask.x - 1;
      } else if (mask.y != 0) {
        last = 32 + bitCount(~mask.y & (mask.y - 1));
        mask.y &= mask.y - 1;
      }
      token[t] = last;
      x_at[t] = last * p.x_stride;
    }
    float acc[MAX_TOKENS * ROWS];
    [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) acc[i] = 0.0;
#include "multiply_tile.glsl"
    reduce(acc);
    uint own = 0;
    [[unroll]] for (uint t = 0; t < TOKENS; ++t)
      if (tid / 8 == t) own = token[t];
    if (tid < 8 * now && row < p.rows) {
      precise float value = sum_of(tid / 8, tid % 8) * scale;
      y[(expert * 64 + own) * p.y_stride + row] = silu(value);
    }
    valid -= now;
    if (TOKENS > 1 && valid != 0) barrier();
  }
}
