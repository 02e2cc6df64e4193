#version 450
// The union of a chunk from its router scores, as a pass of its own: for devices where the last workgroup of router.comp
// may not read what the others wrote.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer Scores { float scores[]; };
layout(set = 0, binding = 3) readonly buffer NormWeight { float norm_weight[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) writeonly buffer Result { uint result[]; };  // [0] not finite, [1 + i] union of FFN i
layout(set = 0, binding = 6) writeonly buffer Route { uint route[]; };
layout(push_constant) uniform Push {
  uint experts, score_stride, norm, classes;  // norm 0 none, 1 rms, 2 sum
  uint norm_at, up_tiles, block, index;       // block: tokens of a workgroup of the up pass
  float eps, norm_scale, out_scale;
} p;
#include "compact.glsl"

void main() { compact(); }
