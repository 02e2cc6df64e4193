#version 450
// y[token][row] = scale * sum_k w[row][k] x[token][k] (+ bias) (+ residual), one workgroup per tile of 8 rows and TOKENS tokens.
#include "common.glsl"
layout(set = 0, binding = 0) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 1) readonly buffer X { vec4 x[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 3) readonly buffer Bias { float bias[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) readonly buffer Residual { float residual[]; };
layout(push_constant) uniform Push {
  uint first, tile_vectors, tiles_per_group, row_offset;  // of the bound window of the weight
  uint rows, cols, x_stride, x_group;                       // x strides in vec4
  uint y_stride, y_group, bias_at, flags;  // 1: bias, 2: zero before the first logits row, 4: residual
  float scale;
  uint residual_stride;
} p;
#include "weights.glsl"
#include "multiply.glsl"

void main() {
  const uint tid = gl_LocalInvocationID.x, group = gl_WorkGroupID.y, t0 = gl_WorkGroupID.z * TOKENS;
  const uint tokens = TOKENS == 1 ? 1 : step_[STEP_TOKENS], row0 = p.row_offset + gl_WorkGroupID.x * 8;
  const uint zero_before = (p.flags & 2) != 0 ? step_[STEP_LOGITS] : 0;
  if (t0 >= tokens) return;
  const uint out_row = row0 + tid % 8, out_token = t0 + tid / 8;
  const uint out_at = out_token * p.y_stride + group * p.y_group + out_row;
  const bool stores = tid < 8 * TOKENS && out_row < p.rows && out_token < tokens;
  if (t0 + TOKENS <= zero_before) {
    if (stores) y[out_at] = 0.0;
    return;
  }
  const uint tile = p.first + (group * p.tiles_per_group + gl_WorkGroupID.x) * p.tile_vectors;
  uint x_at[MAX_TOKENS];  // rows behind the last token exist, and what they hold goes nowhere
  [[unroll]] for (uint t = 0; t < TOKENS; ++t) x_at[t] = (t0 + t) * p.x_stride + group * p.x_group;
  const uint valid = tokens - t0;
  const float scale = p.scale * row_scale(tile, tid % 8, p.cols);
  float acc[MAX_TOKENS * ROWS];
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) acc[i] = 0.0;
#include "multiply_tile.glsl"
  reduce(acc);
  if (!stores) return;
  precise float value = sum_of(tid / 8, tid % 8) * scale;
  if ((p.flags & 1) != 0) value += bias[p.bias_at + group * p.rows + out_row];
  if ((p.flags & 4) != 0) value += residual[out_token * p.residual_stride + group * p.y_group + out_row];
  y[out_at] = out_token < zero_before ? 0.0 : value;
}
