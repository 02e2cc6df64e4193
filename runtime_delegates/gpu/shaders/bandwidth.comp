#version 450
// What a GPU can do at best, which benchmarks compare with; no pass of a step. TOKENS 1 does nothing, 2 reads n vectors, 4
// also writes them elsewhere.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer From { uvec4 from[]; };
layout(set = 0, binding = 2) writeonly buffer To { uvec4 to[]; };
layout(push_constant) uniform Push { uint n; } p;

void main() {
  const uint stride = gl_NumWorkGroups.x * THREADS;
  uvec4 sum = uvec4(0);
  if (TOKENS != 1)
    for (uint i = gl_GlobalInvocationID.x; i < p.n; i += 4 * stride) {  // n is a multiple of 4 * stride
      const uint j = i + stride, k = j + stride, l = k + stride;
      const uvec4 a = from[i], b = from[j], c = from[k], d = from[l];
      if (TOKENS == 4) {
        to[i] = a;
        to[j] = b;
        to[k] = c;
        to[l] = d;
      }
      sum += (a ^ b) + (c ^ d);
    }
  if (TOKENS == 2 && sum.x + sum.y + sum.z + sum.w == 123456789) to[0] = sum;  // so that the reads are not left out
}
