#version 450
// What attention needs before it multiplies: rotates heads (rotate-half, by the step's table of cosines and sines) and
// copies them to rows of their own. One workgroup per token and head: y[token][head] = pass through `plain` columns,
// rotate the next `rope`. With cache = 1 the destination row is the token's row of the cache.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer X { float x[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };   // rotated part
layout(set = 0, binding = 3) writeonly buffer Z { float z[]; };   // plain part
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push {
  uint plain, rope, x_stride, x_head;
  uint y_stride, y_head, y_at, z_stride;
  uint z_head, z_at, cache, table;
  uint x_at;
} p;

void main() {
  const uint tid = gl_LocalInvocationID.x, t = gl_WorkGroupID.x, h = gl_WorkGroupID.y;
  if (t >= step_[STEP_TOKENS]) return;
  const uint row = p.cache != 0 ? step_[STEP_PAST] + t : t;
  const uint from = t * p.x_stride + h * p.x_head + p.x_at, half_ = p.rope / 2, angles = STEP_ROPE + p.table + t * p.rope;
  for (uint k = tid; k < p.plain; k += THREADS) z[row * p.z_stride + h * p.z_head + p.z_at + k] = x[from + k];
  for (uint k = tid; k < half_; k += THREADS) {
    const float a = x[from + p.plain + k], b = x[from + p.plain + k + half_];
    const float c = uintBitsToFloat(step_[angles + k]), s = uintBitsToFloat(step_[angles + half_ + k]);
    precise float first = fma(a, c, -(b * s));
    precise float second = fma(b, c, a * s);
    const uint to = row * p.y_stride + h * p.y_head + p.y_at + k;
    y[to] = first;
    y[to + half_] = second;
  }
}
