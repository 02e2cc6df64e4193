#version 450
// The union of a chunk from its router scores, by one workgroup beside the up pass, which needs none of it: each class's
// experts with the masks of their tokens, and the weight of every pair. (See common.glsl for their places.)
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer Scores { float scores[]; };
layout(set = 0, binding = 3) readonly buffer NormWeight { float norm_weight[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) writeonly buffer Result { uint result[]; };  // [0] not finite, [1 + i] union of FFN i
layout(set = 0, binding = 6) writeonly buffer Route { uint route[]; };
layout(push_constant) uniform Push {
  uint experts, score_stride, norm, classes;  // norm 0 none, 1 rms, 2 sum
  uint norm_at, index;
  float eps, norm_scale, out_scale;
} p;

#define MAX_EXPERTS 2048
#define STAGED 2048  // scores of so few tokens and experts are loaded once
#define LANES 16  // partial sums of a token, whatever the number of threads: the order of the sum must not change
shared float sums[64 * LANES];
shared float factors[64];
shared uint active_[MAX_EXPERTS / 32];
shared float staged[STAGED];

// Experts of class c among those of bits `word`.
uint class_bits(uint word, uint c) {
  const uint every = p.classes == 1 ? 0xffffffffu : p.classes == 2 ? 0x55555555u : p.classes == 4 ? 0x11111111u : 0x01010101u;
  return word & (every << c);
}

float score(uint t, uint e, bool loaded) { return loaded ? staged[t * p.experts + e] : scores[t * p.score_stride + e]; }

void main() {
  const uint tid = gl_LocalInvocationID.x, words = (p.experts + 31) / 32;
  const uint tokens = TOKENS == 1 ? 1 : step_[STEP_TOKENS];
  const bool loaded = tokens * p.experts <= STAGED;
  // One of the norm's weights is on its way while the scores are.
  const float early_weight = p.norm == 1 && tid < p.experts ? norm_weight[p.norm_at + tid] : 1.0;
  for (uint i = tid; i < words; i += THREADS) active_[i] = 0;
  if (loaded) {
    for (uint e = tid; e < p.experts; e += THREADS)
      for (uint t0 = 0; t0 < tokens; t0 += TOKENS)
        [[unroll]] for (uint i = 0; i < TOKENS; ++i) {
          const float raw = scores[(t0 + i) * p.score_stride + e];  // rows behind the last token exist
          if (t0 + i < tokens) staged[(t0 + i) * p.experts + e] = raw;
        }
    barrier();
  }
  for (uint i = tid; i < tokens * LANES; i += THREADS) {
    precise float sum = 0.0;
    bool good = true;
    for (uint e = i % LANES; e < p.experts; e += LANES) {
      const float raw = score(i / LANES, e, loaded), s = max(raw, 0.0);
      good = good && finite(raw);
      sum = p.norm == 1 ? fma(s, s, sum) : sum + s;
    }
    if (!good) result[0] = 1;
    sums[i] = sum;
  }
  barrier();
  for (uint t = tid; t < tokens; t += THREADS) {
    precise float total = sums[t * LANES];
    [[unroll]] for (uint i = 1; i < LANES; ++i) total += sums[t * LANES + i];
    if (!finite(total) && p.norm != 0) result[0] = 1;
    float factor = 1.0;
    if (p.norm == 1) factor = 1.0 / sqrt(total / float(p.experts) + p.eps);
    if (p.norm == 2) factor = 1.0 / (total * p.norm_scale + 1e-5);
    factors[t] = factor * p.out_scale;
  }
  for (uint e = tid; e < p.experts; e += THREADS) {
    bool any = false;
    for (uint t = 0; t < tokens; ++t) any = any || score(t, e, loaded) > 0.0;
    if (any) atomicOr(active_[e / 32], 1u << (e % 32));
  }
  barrier();
  const uint per_class = slots_per_class(p.experts, p.classes), weights_at = ROUTE_SLOTS + per_class * p.classes * SLOT_WORDS;
  for (uint e = tid; e < p.experts; e += THREADS) {
    if ((active_[e / 32] >> (e % 32) & 1) == 0) continue;
    const uint own = e % p.classes;
    uint slot = own * per_class + bitCount(class_bits(active_[e / 32], own) & ((1u << (e % 32)) - 1));
    for (uint i = 0; i < e / 32; ++i) slot += bitCount(class_bits(active_[i], own));
    const float weight = e == tid || p.norm != 1 ? early_weight : norm_weight[p.norm_at + e];
    uvec2 mask = uvec2(0);
    for (uint t = 0; t < tokens; ++t) {
      const float s = score(t, e, loaded);
      if (!(s > 0.0)) continue;
      mask[t / 32] |= 1u << (t % 32);
      route[weights_at + slot * SLOT_TOKENS + t] = floatBitsToUint(s * factors[t] * weight);
    }
    const uint record = ROUTE_SLOTS + slot * SLOT_WORDS;
    route[record] = e;
    route[record + 1] = mask.x;
    route[record + 2] = mask.y;
  }
  if (tid < 9) {  // slots of each class, and of all
    uint slots = 0;
    for (uint i = 0; i < words; ++i) slots += bitCount(tid < 8 ? class_bits(active_[i], tid) : active_[i]);
    if (tid < 8) route[ROUTE_COUNTS + tid] = tid < p.classes ? slots : 0;
    else route[ROUTE_UNION] = result[1 + p.index] = slots;
  }
}
