// The sums of one tile of 8 output rows for up to TOKENS tokens, and their reduction over the workgroup.
// Loads under way at once in a thread: fewer where the tokens themselves are enough work between them.
#define DEPTH (TOKENS >= 4 && UNROLL > 2 ? 2 : UNROLL)
#define CHUNKS 8  // partial sums of an output, whatever the numbers of threads and tokens: the order of sums is fixed

shared float partial[THREADS * TOKENS * ROWS];
shared float chunk_sums[CHUNKS * 8 * TOKENS];

// part[r] = the unit's contribution to row r, before the scale of an int8 row.
void unit_dot_float(vec4 w[ROWS * XV], vec4 xs[XV], out float part[ROWS]) {
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    precise float sum = w[r * XV].x * xs[0].x;
    sum = fma(w[r * XV].y, xs[0].y, sum);
    sum = fma(w[r * XV].z, xs[0].z, sum);
    sum = fma(w[r * XV].w, xs[0].w, sum);
    [[unroll]] for (uint v = 1; v < XV; ++v) {
      sum = fma(w[r * XV + v].x, xs[v].x, sum);
      sum = fma(w[r * XV + v].y, xs[v].y, sum);
      sum = fma(w[r * XV + v].z, xs[v].z, sum);
      sum = fma(w[r * XV + v].w, xs[v].w, sum);
    }
    part[r] = sum;
  }
}

#if FP16
// Half precision: two sums of 2, 4 or 8 products (float32, int8, int4) each, the rest in float32. Where the largest
// activation (and of float32 weights the largest of each row, as decode_half gives it) lies between the bounds below,
// no sum exceeds 2^15, and what may be flushed to zero is below 2^-9 of the largest. Every other unit is multiplied as
// in the float32 passes, so that no activation, however large or small, gives infinity or nothing.
#define WEIGHT f16vec2
#define WEIGHTS (ROWS * XV * 2)
#define decode(raw, w) decode_half(raw, w)
#define SMALLEST_TOP float16_t(0.03125)
#define LARGEST_X float16_t(QUANT == 2 ? 512.0 : 64.0)
#define LARGEST_WEIGHT float16_t(256.0)
// False where the unit is beyond the bounds: then `part` means nothing. No branch: loads of other tokens overlap.
bool unit_dot(f16vec2 w[WEIGHTS], vec4 xs[XV], out float part[ROWS]) {
  f16vec2 h[XV * 2];
  [[unroll]] for (uint v = 0; v < XV; ++v) {
    h[2 * v] = f16vec2(xs[v].xz);
    h[2 * v + 1] = f16vec2(xs[v].yw);
  }
  f16vec2 top2 = abs(h[0]);
  [[unroll]] for (uint i = 1; i < XV * 2; ++i) top2 = max(top2, abs(h[i]));
  const float16_t top = max(top2.x, top2.y);
  bool narrow = top >= SMALLEST_TOP && top <= LARGEST_X;
#if QUANT == 0
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    const f16vec2 weight2 = max(abs(w[2 * r]), abs(w[2 * r + 1]));
    const float16_t weight = max(weight2.x, weight2.y);
    narrow = narrow && weight >= SMALLEST_TOP && weight <= LARGEST_WEIGHT;
  }
#endif
  [[unroll]] for (uint r = 0; r < ROWS; ++r) {
    precise f16vec2 sum = w[r * XV * 2] * h[0];
    [[unroll]] for (uint i = 1; i < XV * 2; ++i) sum = fma(w[r * XV * 2 + i], h[i], sum);
    precise float total = float(sum.x) + float(sum.y);
#if QUANT == 0
    total *= 1.0 / WEIGHT_FACTOR;
#endif
    part[r] = total;
  }
  return narrow;
}
// 0 where bit t of `mask` is set. A compiler does not know, and so reads an activation again for a unit beyond the
// bounds, instead of keeping those of all tokens in registers for the rare case.
uint again(uint mask, uint t) {
  const uint rest = mask >> t;
  return bitCount(~rest & (rest - 1));
}
#else
#define WEIGHT vec4
#define WEIGHTS (ROWS * XV)
#define decode(raw, w) decode_unit(raw, w)
bool unit_dot(vec4 w[ROWS * XV], vec4 xs[XV], out float part[ROWS]) {
  unit_dot_float(w, xs, part);
  return true;
}
#endif

// Adds up acc[token][row of the unit] of all threads; sum_of then gives the totals to any thread. Two barriers: a tree
// would take one for every halving.
void reduce(float acc[MAX_TOKENS * ROWS]) {
  const uint tid = gl_LocalInvocationID.x;
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) partial[i * THREADS + tid] = acc[i];
  barrier();
  // Sum s is chunk s % CHUNKS of output s / CHUNKS; outputs count classes first.
  for (uint s = tid; s < CHUNKS * 8 * TOKENS; s += THREADS) {
    const uint from = s / (CHUNKS * CLASSES) * THREADS + s / CHUNKS % CLASSES + CLASSES * (s % CHUNKS);
    precise float sum = partial[from];
    [[unroll]] for (uint i = CLASSES * CHUNKS; i < THREADS; i += CLASSES * CHUNKS) sum += partial[from + i];
    chunk_sums[s] = sum;
  }
  barrier();
}

// Of one token and one row of the tile, before the scale of an int8 row.
float sum_of(uint token, uint row) {
  const uint from = ((token * ROWS + row % ROWS) * CLASSES + row / ROWS) * CHUNKS;
  precise float sum = chunk_sums[from];
  [[unroll]] for (uint i = 1; i < CHUNKS; ++i) sum += chunk_sums[from + i];
  return sum;
}
