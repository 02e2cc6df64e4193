#version 450
// y[token] (+)= sum over the union of weight * down_e h[slot][token]: one workgroup per tile of 8 rows and TOKENS tokens.
//
// The workgroup splits into p.classes groups of threads; group c sums the experts e with e % classes = c in ascending
// order. That depends on a token's own experts alone, not on the union, and needs no atomics.
#include "common.glsl"
layout(set = 0, binding = 0) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 1) readonly buffer X { vec4 x[]; };
layout(set = 0, binding = 2) buffer Y { float y[]; };
layout(set = 0, binding = 3) readonly buffer Route { uint route[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(push_constant) uniform Push {
  uint first, tile_vectors, expert_vectors, first_expert;
  uint experts, rows, cols, x_stride;
  uint y_stride, max_tokens, slots, classes;
  uint accumulate;  // the window of an earlier dispatch has begun the sum
} p;
#include "weights.glsl"
#include "multiply.glsl"

void main() {
  const uint tid = gl_LocalInvocationID.x, t0 = gl_WorkGroupID.y * TOKENS, tokens = step_[STEP_TOKENS];
  if (t0 >= tokens) return;
  const uint units = unit_count(p.cols), span = THREADS / p.classes, class_ = tid / span;
  const uint first_slot = route[ROUTE_CLASS + class_], end = route[ROUTE_CLASS + class_ + 1];
  const uint lists = ROUTE_SLOTS + p.slots * SLOT_WORDS, pair_weights = lists + p.slots * LIST;
  float acc[MAX_TOKENS * ROWS];
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) acc[i] = 0.0;
  for (uint j = tid % span; j < units; j += span)
    for (uint s0 = first_slot; s0 < end; s0 += DEPTH) {
      // First all places, then all weights, then the sums: the loads of several experts are under way at once.
      uvec4 raw[UNROLL][RAW];
      uint tile[UNROLL], bits[UNROLL];
      [[unroll]] for (uint i = 0; i < UNROLL; ++i) {
        const uint record = ROUTE_SLOTS + min(s0 + i, end - 1) * SLOT_WORDS, expert = route[record] - p.first_expert;
        // The only token of a chunk of one uses every expert of the union.
        bits[i] = TOKENS == 1 ? 1u : route[record + (t0 < 32 ? 2 : 3)] >> (t0 & 31) & ((1u << TOKENS) - 1);
        if (i >= DEPTH || s0 + i >= end || expert >= p.experts) bits[i] = 0;
        tile[i] = p.first + expert * p.expert_vectors + gl_WorkGroupID.x * p.tile_vectors;
      }
      [[unroll]] for (uint i = 0; i < UNROLL; ++i)
        if (i < DEPTH && bits[i] != 0) load_unit(tile[i], j, p.cols, raw[i]);
      [[unroll]] for (uint i = 0; i < UNROLL; ++i) {
        if (i >= DEPTH || bits[i] == 0) continue;
        const uint slot = s0 + i, record = ROUTE_SLOTS + slot * SLOT_WORDS;
        // Place of token t0 in the expert's list: how many earlier tokens use it.
        uint n = 0;
        if (TOKENS != 1) {
          const uint low = route[record + 2], high = route[record + 3];
          n = t0 < 32 ? bitCount(low & ((1u << t0) - 1)) : bitCount(low) + bitCount(high & ((1u << (t0 & 31)) - 1));
        }
        vec4 w[ROWS * XV];
        decode_unit(raw[i], w);
        float scale[ROWS];
        unit_scales(tile[i], units, j, scale);
        [[unroll]] for (uint t = 0; t < TOKENS; ++t) {
          if ((bits[i] >> t & 1) == 0) continue;
          const float weight = uintBitsToFloat(route[pair_weights + slot * LIST + n]);
          const uint at = (slot * p.max_tokens + n++) * p.x_stride;
          vec4 xs[XV];
          [[unroll]] for (uint v = 0; v < XV; ++v) xs[v] = x[at + x_index(j, v)];
          float part[ROWS];
          unit_dot(w, xs, part);
          [[unroll]] for (uint r = 0; r < ROWS; ++r) {
            precise float factor = weight * scale[r];
            precise float sum = fma(factor, part[r], acc[t * ROWS + r]);
            acc[t * ROWS + r] = sum;
          }
        }
      }
    }
  reduce(acc);
  const uint row = gl_WorkGroupID.x * 8 + tid % 8, t = t0 + tid / 8;
  if (tid >= 8 * TOKENS || row >= p.rows || t >= tokens) return;
  const uint at = t * p.y_stride + row;
  precise float value = partial[(tid / 8 * ROWS + tid % ROWS) * THREADS + tid % 8 / ROWS];
  if (p.accumulate != 0) value += y[at];
  y[at] = value;
}
