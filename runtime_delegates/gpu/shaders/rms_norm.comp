#version 450
// y = x / sqrt(mean(x^2) + eps) * weight, one workgroup per token.
#include "common.glsl"
layout(set = 0, binding = 1) readonly buffer X { float x[]; };
layout(set = 0, binding = 2) writeonly buffer Y { float y[]; };
layout(set = 0, binding = 3) readonly buffer Weight { float weight[]; };
layout(set = 0, binding = 4) readonly buffer Step { uint step_[]; };
layout(set = 0, binding = 5) writeonly buffer Result { uint result[]; };
layout(push_constant) uniform Push {
  uint cols, x_stride, y_stride, weight_at;
  uint cache;  // 1: y is a cache, written at the token's row
  float eps;
} p;
shared float sums[THREADS];
shared uint peaks[THREADS];

void main() {
  const uint tid = gl_LocalInvocationID.x, t = gl_WorkGroupID.x;
  if (t >= step_[STEP_TOKENS]) return;
  // The largest magnitude first: squares of finite numbers may overflow. As bits, so that NaN counts as the largest.
  uint peak = 0;
  for (uint k = tid; k < p.cols; k += THREADS) peak = max(peak, floatBitsToUint(x[t * p.x_stride + k]) & 0x7fffffffu);
  peaks[tid] = peak;
  for (uint half_ = THREADS / 2; half_ >= 1; half_ /= 2) {
    barrier();
    if (tid < half_) peaks[tid] = max(peaks[tid], peaks[tid + half_]);
  }
  barrier();
  if (tid == 0 && peaks[0] >= 0x7f800000u) result[0] = 1;
  const float largest = uintBitsToFloat(peaks[0]);
  const float unit = largest > 1e15 || (p.eps == 0.0 && largest < 1e-15 && largest > 0.0) ? largest : 1.0;
  precise float sum = 0.0;
  for (uint k = tid; k < p.cols; k += THREADS) {
    const float v = x[t * p.x_stride + k] / unit;
    sum = fma(v, v, sum);
  }
  sums[tid] = sum;
  for (uint half_ = THREADS / 2; half_ >= 1; half_ /= 2) {
    barrier();
    if (tid < half_) {
      precise float two = sums[tid] + sums[tid + half_];
      sums[tid] = two;
    }
  }
  barrier();
  precise float inverse = 1.0 / sqrt(sums[0] / float(p.cols) + p.eps / unit / unit);
  const uint row = p.cache != 0 ? step_[STEP_PAST] + t : t;
  for (uint k = tid; k < p.cols; k += THREADS) {
    precise float v = x[t * p.x_stride + k] / unit * inverse * weight[p.weight_at + k];
    y[row * p.y_stride + k] = v;
  }
}
