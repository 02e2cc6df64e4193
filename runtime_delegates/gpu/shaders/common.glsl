// What every pass shares. Sums are explicit fma in a fixed order and marked precise: a token's result must not depend
// on how many tokens share the dispatch, to the bit, whatever the driver's compiler likes to fuse.
#extension GL_EXT_control_flow_attributes : require
#ifndef FP16
#define FP16 0  // 1: the variant that multiplies in half precision
#endif
#if FP16
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
layout(constant_id = 1) const uint TOKENS = 1;  // tokens that one workgroup multiplies together: 1, 2, 4 or 8
#define MAX_TOKENS 8
layout(constant_id = 0) const uint THREADS = 64;  // the same constant, which Metal needs by name

// Words of the step buffer, which the CPU writes before every step.
#define STEP_TOKENS 0
#define STEP_PAST 1
#define STEP_LOGITS 2
#define STEP_KEPT 3
#define STEP_TREE 13  // the last so many rows before n_past are nodes of a tree; masks count from the first of them
#define STEP_IDS 16
#define STEP_MASK_LOW 80
#define STEP_MASK_HIGH 144
#define STEP_KV_SRC 208
#define STEP_ROPE 272

// Words of the route buffer, which `compact` writes for the down pass. Slots are numbered by class, class c from
// c * slots_per_class(), whose experts e have e % classes = c, in ascending order (see expert_down.comp).
#define ROUTE_UNION 0
#define ROUTE_COUNTS 4       // slots in use, of each of 8 classes
#define ROUTE_SLOTS 16       // 4 words a slot: expert, mask of its tokens low, high, 0
#define SLOT_WORDS 4
#define SLOT_TOKENS 64       // then the weights of a slot's tokens, [slots][64]; those of other tokens are undefined

uint slots_per_class(uint experts, uint classes) { return (experts + classes - 1) / classes; }

bool finite(float v) { return (floatBitsToUint(v) & 0x7fffffffu) < 0x7f800000u; }

// exp to about 2 units in the last place, everywhere the same; 0 below -87. (Cephes' polynomial for expf.)
float exp_exact(float x) {
  if (x < -87.0) return 0.0;
  precise float n = floor(fma(x, 1.44269504, 0.5));
  precise float r = fma(n, -0.693359375, x);
  r = fma(n, 2.12194440e-4, r);
  precise float p = 1.9875691500e-4;
  p = fma(p, r, 1.3981999507e-3);
  p = fma(p, r, 8.3334519073e-3);
  p = fma(p, r, 4.1665795894e-2);
  p = fma(p, r, 1.6666665459e-1);
  p = fma(p, r, 5.0000001201e-1);
  p = fma(p * r, r, r) + 1.0;
  return p * uintBitsToFloat(uint(int(n) + 127) << 23);
}

float silu(float x) {
  const float e = exp_exact(-abs(x));
  return (x < 0.0 ? x * e : x) / (1.0 + e);
}
