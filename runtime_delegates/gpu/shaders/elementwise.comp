#version 450
// y = a + b, or silu(a) * b.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer A { float a[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 3) readonly buffer B { float b[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push { uint cols, a_stride, b_stride, y_stride, silu_mul; } p;

void main() {
  const uint k = gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
  if (t >= step_[STEP_TOKENS] || k >= p.cols) return;
  const float left = a[t * p.a_stride + k], right = b[t * p.b_stride + k];
  precise float value = p.silu_mul != 0 ? silu(left) * right : left + right;
  y[t * p.y_stride + k] = value;
}
