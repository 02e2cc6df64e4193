#version 450
// Joins the parts of attend: one workgroup per token and head.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer Parts { float parts[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push { uint heads, value_dim, max_parts, y_stride, y_head; } p;
#define PART 256

void main() {
  const uint tid = gl_LocalInvocationID.x, t = gl_WorkGroupID.x, head = gl_WorkGroupID.y;
  if (t >= step_[STEP_TOKENS]) return;
  const uint visible = step_[STEP_PAST] - step_[STEP_TREE] + bitCount(step_[STEP_MASK_LOW + t]) + bitCount(step_[STEP_MASK_HIGH + t]);
  const uint count = (visible + PART - 1) / PART, size = p.value_dim + 2;
  const uint from = (t * p.heads + head) * p.max_parts * size;
  float largest = parts[from];
  for (uint i = 1; i < count; ++i) largest = max(largest, parts[from + i * size]);
  precise float denominator = 0.0;
  for (uint i = 0; i < count; ++i)
    denominator = fma(exp_exact(parts[from + i * size] - largest), parts[from + i * size + 1], denominator);
  for (uint d = tid; d < p.value_dim; d += THREADS) {
    precise float sum = 0.0;
    for (uint i = 0; i < count; ++i)
      sum = fma(exp_exact(parts[from + i * size] - largest), parts[from + i * size + 2 + d], sum);
    y[t * p.y_stride + head * p.y_head + d] = sum / denominator;
  }
}
