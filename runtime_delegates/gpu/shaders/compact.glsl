// Router scores -> the union: slots, token masks, each expert's list of tokens with their weights, and the size of the
// up pass, by one workgroup. Slots are ordered by class, then by expert (see expert_down.comp).
#define MAX_EXPERTS 2048
#define LANES 32  // threads that sum one token's scores, whatever their number: the order of the sum must not change
shared float sums[THREADS];
shared float factors[64];
shared uint active_[MAX_EXPERTS / 32];
shared uint longest;

// Experts of class c among those of bits `word`.
uint class_bits(uint word, uint c) {
  const uint every = p.classes == 1 ? 0xffffffffu : p.classes == 2 ? 0x55555555u : p.classes == 4 ? 0x11111111u : 0x01010101u;
  return word & (every << c);
}

void compact() {
  const uint tid = gl_LocalInvocationID.x, tokens = step_[STEP_TOKENS], words = (p.experts + 31) / 32;
  for (uint i = tid; i < words; i += THREADS) active_[i] = 0;
  if (tid == 0) longest = 0;
  for (uint first = 0; first < tokens; first += THREADS / LANES) {
    const uint t = first + tid / LANES;
    precise float sum = 0.0;
    bool good = true;
    if (t < tokens)
      for (uint e = tid % LANES; e < p.experts; e += LANES) {
        const float raw = scores[t * p.score_stride + e], s = max(raw, 0.0);
        good = good && finite(raw);
        sum = p.norm == 1 ? fma(s, s, sum) : sum + s;
      }
    if (!good) result[0] = 1;
    sums[tid] = sum;
    for (uint half_ = LANES / 2; half_ >= 1; half_ /= 2) {
      barrier();
      if (tid % LANES < half_) {
        precise float two = sums[tid] + sums[tid + half_];
        sums[tid] = two;
      }
    }
    barrier();
    if (tid % LANES == 0 && t < tokens) {
      const float total = sums[tid];
      if (!finite(total) && p.norm != 0) result[0] = 1;
      float factor = 1.0;
      if (p.norm == 1) factor = 1.0 / sqrt(total / float(p.experts) + p.eps);
      if (p.norm == 2) factor = 1.0 / (total * p.norm_scale + 1e-5);
      factors[t] = factor * p.out_scale;
    }
    barrier();
  }
  for (uint e = tid; e < p.experts; e += THREADS) {
    uint any = 0;
    for (uint t = 0; t < tokens; ++t) any |= scores[t * p.score_stride + e] > 0.0 ? 1u : 0u;
    if (any != 0) atomicOr(active_[e / 32], 1u << (e % 32));
  }
  barrier();
  for (uint e = tid; e < p.experts; e += THREADS) {
    if ((active_[e / 32] >> (e % 32) & 1) == 0) continue;
    const uint own = e % p.classes;
    uint slot = 0;
    for (uint i = 0; i < words; ++i) {
      for (uint c = 0; c < own; ++c) slot += bitCount(class_bits(active_[i], c));
      const uint before = i < e / 32 ? 0xffffffffu : i == e / 32 ? (1u << (e % 32)) - 1 : 0;
      slot += bitCount(class_bits(active_[i], own) & before);
    }
    const uint list = ROUTE_SLOTS + p.experts * SLOT_WORDS + slot * LIST, pair_weights = list + p.experts * LIST;
    const float weight = p.norm == 1 ? norm_weight[p.norm_at + e] : 1.0;
    uint n = 0;
    uvec2 mask = uvec2(0);
    for (uint t = 0; t < tokens; ++t) {
      const float s = scores[t * p.score_stride + e];
      if (!(s > 0.0)) continue;
      mask[t / 32] |= 1u << (t % 32);
      route[list + n] = t;
      route[pair_weights + n++] = floatBitsToUint(s * factors[t] * weight);
    }
    const uint record = ROUTE_SLOTS + slot * SLOT_WORDS;
    route[record] = e;
    route[record + 1] = n;
    route[record + 2] = mask.x;
    route[record + 3] = mask.y;
    atomicMax(longest, n);
  }
  barrier();
  if (tid == 0) {
    uint slots = 0;
    for (uint c = 0; c < 8; ++c) {
      route[ROUTE_CLASS + c] = slots;
      if (c < p.classes)
        for (uint i = 0; i < words; ++i) slots += bitCount(class_bits(active_[i], c));
    }
    route[ROUTE_CLASS + 8] = slots;
    route[ROUTE_UNION] = slots;
    route[ROUTE_DISPATCH] = p.up_tiles;
    route[ROUTE_DISPATCH + 1] = slots;
    route[ROUTE_DISPATCH + 2] = (longest + p.block - 1) / p.block;
    result[1 + p.index] = slots;
  }
}
