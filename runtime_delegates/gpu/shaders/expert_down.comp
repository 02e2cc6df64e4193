#version 450
// y[token] (+)= (residual +) sum over the union of weight * down_e h[expert][token]: one workgroup per tile of 8 rows and TOKENS tokens.
//
// The workgroup splits into p.classes groups of threads; group c sums the experts e with e % classes = c in ascending
// order. That depends on a token's own experts alone, not on the union, and needs no atomics.
#include "common.glsl"
layout(set = 0, binding = 0) readonly buffer Weights { uvec4 weights[]; };
layout(set = 0, binding = 1) readonly buffer X { vec4 x[]; };
layout(set = 0, binding = 2) buffer Y { float y[]; };
layout(set = 0, binding = 3) readonly buffer Route { uint route[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) readonly buffer Residual { float residual[]; };
layout(push_constant) uniform Push {
  uint first, tile_vectors, expert_vectors, first_expert;
  uint experts, rows, cols, x_stride;  // experts of the bound window
  uint y_stride, all_experts, classes;
  uint flags;  // 1: the window of an earlier dispatch has begun the sum, 2: residual
  uint residual_stride;
} p;
#include "weights.glsl"
#include "multiply.glsl"

// Slots that a workgroup knows at a time, and of those the ones whose weights a thread loads at once.
#define SLOTS 64
#define AHEAD_MAX (QUANT == 1 ? 8 : 4)
#define AHEAD (TOKENS == 1 ? AHEAD_MAX : 4)
shared uint counts[8];
shared uint slot_expert[SLOTS];
shared uint slot_mask[SLOTS];  // the chunk's TOKENS tokens that use it, 0 outside the window
shared float slot_weight[SLOTS * TOKENS];

void main() {
  const uint tid = gl_LocalInvocationID.x, t0 = gl_WorkGroupID.y * TOKENS;
  if (TOKENS > 1 && t0 >= step_[STEP_TOKENS]) return;
  const uint units = unit_count(p.cols), span = THREADS / p.classes, class_ = tid / span, per_batch = SLOTS / p.classes;
  const uint per_class = slots_per_class(p.all_experts, p.classes);
  const uint weights_at = ROUTE_SLOTS + per_class * p.classes * SLOT_WORDS;
  float acc[MAX_TOKENS * ROWS];
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) acc[i] = 0.0;
  if (tid < 8) counts[tid] = route[ROUTE_COUNTS + tid];
  uint most = 1;
  for (uint j0 = 0; j0 < units; j0 += span)
    for (uint batch = 0; batch < most; batch += per_batch) {
      barrier();
      for (uint i = tid; i < SLOTS; i += THREADS) {
        // Slots beyond a class's count hold whatever an earlier chunk left: read, so that nothing waits for the count.
        const uint place = batch + i % per_batch, slot = i / per_batch * per_class + min(place, per_class - 1);
        const uint expert = route[ROUTE_SLOTS + slot * SLOT_WORDS] - p.first_expert;
        slot_expert[i] = expert < p.experts ? expert : 0;
        const uint mask = route[ROUTE_SLOTS + slot * SLOT_WORDS + (t0 < 32 ? 1 : 2)] >> (t0 & 31);
        slot_mask[i] = expert < p.experts ? mask & ((1u << TOKENS) - 1) : 0;
        [[unroll]] for (uint t = 0; t < TOKENS; ++t)
          slot_weight[i * TOKENS + t] = uintBitsToFloat(route[weights_at + slot * SLOT_TOKENS + t0 + t]);
      }
      barrier();
      for (uint c = 0; c < p.classes; ++c) most = max(most, counts[c]);
      const uint j = j0 + tid % span, base = class_ * per_batch;
      const uint own = counts[class_], count = j < units && own > batch ? min(own - batch, per_batch) : 0;
      for (uint s0 = 0; s0 < count; s0 += AHEAD) {
        // First all weights, then the sums: the loads of several experts are under way at once. Without branches for one
        // token, where also its hidden values are loaded first: the slots behind the last one repeat it.
        uvec4 raw[AHEAD_MAX][RAW];
        uint pair[AHEAD_MAX];
        vec4 hidden[AHEAD_MAX][XV];
        [[unroll]] for (uint i = 0; i < AHEAD_MAX; ++i) {
          if (i >= AHEAD) continue;
          const uint slot = base + min(s0 + i, count - 1), expert = slot_expert[slot];
          if (TOKENS == 1 || (s0 + i < count && slot_mask[slot] != 0))
            load_unit(p.first + expert * p.expert_vectors + gl_WorkGroupID.x * p.tile_vectors, j, p.cols, units, raw[i], pair[i]);
          if (TOKENS == 1)
            [[unroll]] for (uint v = 0; v < XV; ++v) hidden[i][v] = x[(p.first_expert + expert) * 64 * p.x_stride + x_index(j, v)];
        }
        [[unroll]] for (uint i = 0; i < AHEAD_MAX; ++i) {
          if (i >= AHEAD || (TOKENS != 1 && s0 + i >= count)) continue;
          const uint slot = base + min(s0 + i, count - 1), mask = s0 + i < count ? slot_mask[slot] : 0;
          if (TOKENS != 1 && mask == 0) continue;
          WEIGHT w[WEIGHTS];
          decode(raw[i], w);
          uint wide = 0;  // tokens whose unit float16 cannot multiply
          float scale[ROWS];
          unit_scales(pair[i], scale);
          const uint h_at = ((p.first_expert + slot_expert[slot]) * 64 + t0) * p.x_stride;
          // Every token, also those that do not use the expert: without a branch their loads overlap.
          [[unroll]] for (uint t = 0; t < TOKENS; ++t) {
            vec4 xs[XV];
            [[unroll]] for (uint v = 0; v < XV; ++v)
              xs[v] = TOKENS == 1 ? hidden[i][v] : x[h_at + t * p.x_stride + x_index(j, v)];
            float part[ROWS];
            const bool used = (mask >> t & 1) != 0, good = unit_dot(w, xs, part);
            wide |= used && !good ? 1u << t : 0;
            const float weight = slot_weight[slot * TOKENS + t];
            [[unroll]] for (uint r = 0; r < ROWS; ++r) {
              precise float factor = weight * scale[r];
              precise float sum = fma(factor, part[r], acc[t * ROWS + r]);
              acc[t * ROWS + r] = used && good ? sum : acc[t * ROWS + r];
            }
          }
#if FP16
          if (wide == 0) continue;
          vec4 exact[ROWS * XV];
          decode_unit(raw[i], exact);
          [[unroll]] for (uint t = 0; t < TOKENS; ++t) {
            if ((wide >> t & 1) == 0) continue;
            vec4 xs[XV];
            [[unroll]] for (uint v = 0; v < XV; ++v) xs[v] = x[h_at + t * p.x_stride + x_index(j, v) + again(wide, t)];
            float part[ROWS];
            unit_dot_float(exact, xs, part);
            [[unroll]] for (uint r = 0; r < ROWS; ++r) {
              precise float factor = slot_weight[slot * TOKENS + t] * scale[r];
              precise float sum = fma(factor, part[r], acc[t * ROWS + r]);
              acc[t * ROWS + r] = sum;
            }
          }
#endif
        }
      }
    }
  reduce(acc);
  const uint row = gl_WorkGroupID.x * 8 + tid % 8, t = t0 + tid / 8;
  if (tid >= 8 * TOKENS || row >= p.rows) return;
  const uint at = t * p.y_stride + row;
  precise float value = sum_of(tid / 8, tid % 8);
  if ((p.flags & 1) != 0) value += y[at];
  if ((p.flags & 2) != 0) value += residual[t * p.residual_stride + row];
  y[at] = value;
}
