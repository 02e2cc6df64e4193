// The sums of one tile of 8 output rows for up to TOKENS tokens, and their reduction over the workgroup.
// Loads under way at once in a thread: fewer where the tokens themselves are enough work between them.
#define DEPTH (TOKENS >= 4 && UNROLL > 2 ? 2 : UNROLL)
#define CHUNKS 8  // partial sums of an output, whatever the numbers of threads and tokens: the order of sums is fixed

shared float partial[THREADS * TOKENS * ROWS];
shared float chunk_sums[CHUNKS * 8 * TOKENS];

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
