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
#define CHUNKS 16  // partial sums, whatever the number of threads: the order of sums is fixed
#define AHEAD 8    // values under way at once in a thread
shared float sums[THREADS], chunk_sums[CHUNKS];
shared uint peaks[THREADS], chunk_peaks[CHUNKS];
float total;
uint peak;

// The sum of squares of x / unit, and the largest magnitude as bits, so that NaN counts as the largest.
void measure(uint from, float unit) {
  const uint tid = gl_LocalInvocationID.x;
  precise float sum = 0.0;
  uint largest = 0;
  for (uint k0 = tid; k0 < p.cols; k0 += AHEAD * THREADS) {
    float v[AHEAD];
    [[unroll]] for (uint i = 0; i < AHEAD; ++i) v[i] = k0 + i * THREADS < p.cols ? x[from + k0 + i * THREADS] : 0.0;
    [[unroll]] for (uint i = 0; i < AHEAD; ++i) {
      largest = max(largest, floatBitsToUint(v[i]) & 0x7fffffffu);
      const float one = unit == 1.0 ? v[i] : v[i] / unit;
      sum = fma(one, one, sum);
    }
  }
  sums[tid] = sum;
  peaks[tid] = largest;
  barrier();
  if (tid < CHUNKS) {
    precise float chunk = sums[tid];
    largest = peaks[tid];
    [[unroll]] for (uint i = CHUNKS; i < THREADS; i += CHUNKS) {
      chunk += sums[tid + i];
      largest = max(largest, peaks[tid + i]);
    }
    chunk_sums[tid] = chunk;
    chunk_peaks[tid] = largest;
  }
  barrier();
  precise float all = chunk_sums[0];
  peak = chunk_peaks[0];
  [[unroll]] for (uint i = 1; i < CHUNKS; ++i) {
    all += chunk_sums[i];
    peak = max(peak, chunk_peaks[i]);
  }
  total = all;
}

void main() {
  const uint tid = gl_LocalInvocationID.x, t = gl_WorkGroupID.x, from = t * p.x_stride;
  const uint row = p.cache != 0 ? step_[STEP_PAST] + t : t;
  if (t >= step_[STEP_TOKENS]) return;
  measure(from, 1.0);
  if (tid == 0 && peak >= 0x7f800000u) result[0] = 1;
  // Squares of finite numbers may overflow, or vanish: then once more, in units of the largest.
  const float largest = uintBitsToFloat(peak);
  float unit = 1.0;
  if (largest > 1e15 || (p.eps == 0.0 && largest < 1e-15 && largest > 0.0)) {
    unit = largest;
    barrier();
    measure(from, unit);
  }
  precise float inverse = 1.0 / sqrt(total / float(p.cols) + p.eps / unit / unit);
  for (uint k = tid; k < p.cols; k += THREADS) {
    const float value = x[from + k];
    precise float v = (unit == 1.0 ? value : value / unit) * inverse * weight[p.weight_at + k];
    y[row * p.y_stride + k] = v;
  }
}
