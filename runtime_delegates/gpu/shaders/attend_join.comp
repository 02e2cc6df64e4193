#version 450
// Joins the parts of attend: one workgroup per token and head.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer Parts { float parts[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push { uint heads, value_dim, max_parts, part_rows, y_stride, y_head; } p;
#define MAX_PARTS 128
shared float largest_of[MAX_PARTS];
shared float weights[MAX_PARTS];
shared float denominators[MAX_PARTS];

void main() {
  const uint tid = gl_LocalInvocationID.x, t = gl_WorkGroupID.x, head = gl_WorkGroupID.y;
  const uint visible = step_[STEP_PAST] - step_[STEP_TREE] + bitCount(step_[STEP_MASK_LOW + t]) + bitCount(step_[STEP_MASK_HIGH + t]);
  const uint count = (visible + p.part_rows - 1) / p.part_rows, size = p.value_dim + 2;
  const uint from = (t * p.heads + head) * p.max_parts * size;
  if (t >= step_[STEP_TOKENS]) return;
  for (uint i = tid; i < count; i += THREADS) {
    largest_of[i] = parts[from + i * size];
    denominators[i] = parts[from + i * size + 1];
  }
  barrier();
  float largest = largest_of[0];
  for (uint i = 1; i < count; ++i) largest = max(largest, largest_of[i]);
  for (uint i = tid; i < count; i += THREADS) weights[i] = exp_exact(largest_of[i] - largest);
  barrier();
  precise float denominator = 0.0;
  for (uint i = 0; i < count; ++i) denominator = fma(weights[i], denominators[i], denominator);
  for (uint d = tid; d < p.value_dim; d += THREADS) {
    precise float sum = 0.0;
    for (uint i0 = 0; i0 < count; i0 += 8) {
      float value[8];
      [[unroll]] for (uint i = 0; i < 8; ++i) value[i] = parts[from + min(i0 + i, count - 1) * size + 2 + d];
      [[unroll]] for (uint i = 0; i < 8; ++i)
        if (i0 + i < count) sum = fma(weights[i0 + i], value[i], sum);
    }
    y[t * p.y_stride + head * p.y_head + d] = sum / denominator;
  }
}
