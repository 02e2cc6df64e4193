// The sums of one tile of 8 output rows for up to TOKENS tokens, and their reduction over the workgroup.
// Loads under way at once in a thread: fewer where the tokens themselves are enough work between them.
#define DEPTH (TOKENS >= 4 && UNROLL > 2 ? 2 : UNROLL)

shared float partial[THREADS * TOKENS * ROWS];

// part[r] = the unit's contribution to row r, before the scale of an int8 row.
void unit_dot(vec4 w[ROWS * XV], vec4 xs[XV], out float part[ROWS]) {
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

// Adds up acc[token][row of the unit] of all threads; sum_of then gives the totals to any thread.
void reduce(float acc[MAX_TOKENS * ROWS]) {
  const uint tid = gl_LocalInvocationID.x;
  [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) partial[i * THREADS + tid] = acc[i];
  for (uint half_ = THREADS / 2; half_ >= CLASSES; half_ /= 2) {
    barrier();
    if (tid < half_)
      [[unroll]] for (uint i = 0; i < TOKENS * ROWS; ++i) {
        precise float sum = partial[i * THREADS + tid] + partial[i * THREADS + tid + half_];
        partial[i * THREADS + tid] = sum;
      }
  }
  barrier();
}

// Of one token and one row of the tile, with the scale of an int8 row.
float sum_of(uint token, uint row, uint tile, uint cols) {
  precise float value = partial[(token * ROWS + row % ROWS) * THREADS + row / ROWS];
#if QUANT == 1
  const uint pair = weights[tile + unit_count(cols)][row / 2];
  value *= half_float((row & 1) == 0 ? pair & 0xffffu : pair >> 16);
#endif
  return value;
}
