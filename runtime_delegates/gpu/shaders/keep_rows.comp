#version 450
// Keeps the accepted rows of the previous chunk: row n_past - m + i <- row n_past - m + kv_src[i]. kv_src ascends, so a
// thread that moves one column row by row never reads what it has overwritten.
#include "common.glsl"
layout(set = 0, binding = 2) buffer Cache { float cache[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push { uint cols, stride; } p;

void main() {
  const uint k = gl_GlobalInvocationID.x, kept = step_[STEP_KEPT], base = step_[STEP_PAST] - kept;
  if (k >= p.cols) return;
  for (uint i = 0; i < kept; ++i) {
    const uint from = step_[STEP_KV_SRC + i];
    if (from != i) cache[(base + i) * p.stride + k] = cache[(base + from) * p.stride + k];
  }
}
