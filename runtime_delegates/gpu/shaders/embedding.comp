#version 450
// y[token] = scale * the table's row of the token's id; one thread per column. A window of the table may be bound.
#include "common.glsl"
layout(set = 0, binding = 0) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push {
  uint first, tile_vectors, first_tile, tiles;
  uint cols, y_stride;
  float scale;
} p;
#include "weights.glsl"

void main() {
  const uint k = gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
  if (t >= step_[STEP_TOKENS] || k >= p.cols) return;
  const uint id = step_[STEP_IDS + t], row = id % 8;
  if (id / 8 - p.first_tile >= p.tiles) return;  // in another window
  const uint tile = p.first + (id / 8 - p.first_tile) * p.tile_vectors;
#if QUANT == 0
  const float value = uintBitsToFloat(weights[tile + 2 * k + row / 4][row % 4]);
  const float scale = 1.0;
#else
#if QUANT == 1
  const uint word = weights[tile + k / 8 * 4 + row / 2][row % 2 * 2 + k % 8 / 4];
  const float value = float(bitfieldExtract(int(word), int(k % 4 * 8), 8));
  const uint pair = weights[tile + unit_count(p.cols)][row / 2];
#else
  const uint g = k / 32, in_group = k % 32;
  const uint word = weights[tile + g * 8 + in_group % 16 / 8 * 4 + row / 2][row % 2 * 2 + in_group % 8 / 4];
  const float value = float(int(word >> (k % 4 * 8 + (in_group < 16 ? 0 : 4)) & 15) - 8);
  const uint pair = weights[tile + unit_count(p.cols) + g][row / 2];
#endif
  const float scale = half_float((row & 1) == 0 ? pair & 0xffffu : pair >> 16);
#endif
  precise float factor = p.scale * scale;
  precise float result = factor * value;
  y[t * p.y_stride + k] = result;
}
