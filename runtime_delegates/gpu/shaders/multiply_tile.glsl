// Part of a function's body, because drivers keep arrays of a function in registers and others in memory:
// acc[token][row of the unit] += this thread's units of `tile` times x[x_at[token] ...], for TOKENS tokens, of which only
// the first `valid` need results.
{
  const uint units = unit_count(p.cols);
  for (uint j0 = gl_LocalInvocationID.x; j0 < units; j0 += DEPTH * THREADS) {
    uvec4 raw[UNROLL][RAW];
    uint pair[UNROLL];
    [[unroll]] for (uint i = 0; i < UNROLL; ++i)
      if (i < DEPTH && j0 + i * THREADS < units) load_unit(tile, j0 + i * THREADS, p.cols, units, raw[i], pair[i]);
    [[unroll]] for (uint i = 0; i < UNROLL; ++i) {
      const uint j = j0 + i * THREADS;
      if (i >= DEPTH || j >= units) continue;
      WEIGHT w[WEIGHTS];
      decode(raw[i], w);
      uint wide = 0;  // tokens whose unit float16 cannot multiply
#if QUANT == 2
      float scale[ROWS];
      unit_scales(pair[i], scale);
#endif
      // Four tokens at a time, so that a chunk's or a list's last ones do not pay for eight.
      [[unroll]] for (uint four = 0; four < TOKENS; four += 4) {
        if (four != 0 && four >= valid) continue;
        [[unroll]] for (uint t = four; t < four + 4; ++t) {
          if (t >= TOKENS) continue;
          vec4 xs[XV];
          [[unroll]] for (uint v = 0; v < XV; ++v) xs[v] = x[x_at[t] + x_index(j, v)];
          float part[ROWS];
          const bool good = unit_dot(w, xs, part);
          wide |= good ? 0 : 1u << t;
          [[unroll]] for (uint r = 0; r < ROWS; ++r) {
#if QUANT == 2
            precise float sum = fma(scale[r], part[r], acc[t * ROWS + r]);
#else
            precise float sum = acc[t * ROWS + r] + part[r];
#endif
            acc[t * ROWS + r] = good ? sum : acc[t * ROWS + r];
          }
        }
      }
#if FP16
      wide &= (1u << min(valid, TOKENS)) - 1;
      if (wide != 0) {
        vec4 exact[ROWS * XV];
        decode_unit(raw[i], exact);
        [[unroll]] for (uint t = 0; t < TOKENS; ++t) {
          if ((wide >> t & 1) == 0) continue;
          vec4 xs[XV];
          [[unroll]] for (uint v = 0; v < XV; ++v) xs[v] = x[x_at[t] + x_index(j, v) + again(wide, t)];
          float part[ROWS];
          unit_dot_float(exact, xs, part);
          [[unroll]] for (uint r = 0; r < ROWS; ++r) {
#if QUANT == 2
            precise float sum = fma(scale[r], part[r], acc[t * ROWS + r]);
#else
            precise float sum = acc[t * ROWS + r] + part[r];
#endif
            acc[t * ROWS + r] = sum;
          }
        }
      }
#endif
    }
  }
}
